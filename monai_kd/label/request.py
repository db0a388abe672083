"""What a request to MONAI Label may ask for; nothing here needs MONAI Label."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..config import checked_device, default_device, literal

__all__ = ["check_training_part", "literal_overrides", "requested_device", "training_request"]

logger = logging.getLogger(__name__)

# Of a training request: what is passed on, when it is allowed, and how that is called.
OPTIONS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_epochs": (lambda v: type(v) is int and v >= 1, "a whole number from 1"),
    "val_split": (
        lambda v: type(v) in (int, float) and (v == -1 or 0 <= v < 1),
        "a number from 0 to 1, less than 1, or -1 to validate on the training images",
    ),
    "multi_gpu": (lambda v: isinstance(v, bool), "true or false"),
    "gpus": (
        lambda v: isinstance(v, str) and re.fullmatch(r"all|\d+(,\d+)*", v, re.ASCII) is not None,
        "'all', or numbers of GPUs such as '0,1'",
    ),
}
# MONAI Label's form asks for these too, and here there is one answer. They name files, addresses and parts of a config.
FIXED: dict[str, tuple[tuple[Any, ...], str]] = {
    "pretrained": ((True,), "true: training starts from the served weights"),
    "model_filename": (("model.pt",), "'model.pt', the served weights"),
    "run_id": (("", "run"), "'run'"),
    "tracking": (("", "None", "none", None), "'None': runs are not tracked"),
}
# Put into each request by MONAI Label and its client.
OF_MONAI_LABEL = frozenset({"model", "bundle_path", "client_id", "local_rank"})
# Parts of train.json that MONAI Label passes on as they are.
CONFIGS = frozenset({"train#handlers"})


def requested_device(asked: Any, names: Mapping[str, str]) -> str:
    """The device that a request asks for, or that of the bundles when it asks for none.

    Args:
        asked: ``None``, a name, or MONAI Label's list of names, of which the first counts.
        names: to the names of torch those under which MONAI Label offers GPUs.

    Raises:
        ValueError: there is no such device.
    """
    chosen = _first(asked)
    if chosen in (None, ""):
        return default_device()
    return checked_device(names.get(chosen, chosen) if isinstance(chosen, str) else chosen)


def training_request(request: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """What is passed on of a training request: the model, the device, and the `OPTIONS`, checked.

    Others are left out, logged as a warning.

    Args:
        request: as it came; lists stand for their first item.
        names: as for `requested_device`.

    Raises:
        ValueError: naming the option, what it is, and what it should be.
    """
    given = {name: _first(value) for name, value in request.items()}
    taken: dict[str, Any] = {
        "model": str(given.get("model", "")),
        "device": requested_device(given.get("device"), names),
    }
    for name, (valid, wanted) in OPTIONS.items():
        if name in given:
            if not valid(given[name]):
                raise ValueError(f"{name} must be {wanted}, got {_shown(given[name])}.")
            taken[name] = given[name]
    for name, (allowed, wanted) in FIXED.items():
        if name in given and given[name] not in allowed:
            raise ValueError(f"{name} must be {wanted}; got {_shown(given[name])}.")
    unused = sorted(map(repr, given.keys() - taken.keys() - FIXED.keys() - OF_MONAI_LABEL))
    if unused:
        logger.warning("The training request has options that are not used: %s.", ", ".join(unused))
    return taken


def check_training_part(training: Sequence[Any], labelled: Sequence[Any], val_split: float) -> None:
    """Check that a split of the labelled images leaves some to train on.

    Args:
        training: those that MONAI Label would train on.
        labelled: all of them.
        val_split: as it was asked.

    Raises:
        ValueError: none is left.
    """
    if labelled and not training:
        raise ValueError(
            f"val_split {val_split} of {len(labelled)} labelled images leaves none to train on: give a smaller one, or "
            "label more images."
        )


def literal_overrides(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """What MONAI Label puts into a config for training, as values: nothing but the handlers of train.json is parsed.

    Args:
        overrides: by ids of the config; paths, numbers, lists of images and labels, and the handlers.

    Raises:
        TypeError: one of them holds an object that is no value of a config.
    """
    return {name: value if name in CONFIGS else literal(value) for name, value in overrides.items()}


def _first(value: Any) -> Any:
    return (value[0] if value else None) if isinstance(value, list) else value


def _shown(value: Any, longest: int = 40) -> str:
    text = repr(value)
    return text if len(text) <= longest else f"{text[:longest]}…"
