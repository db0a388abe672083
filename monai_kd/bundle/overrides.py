"""Checks of the overrides of a config, and paths from the command line as they were typed."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from ..config import (
    CHECKED,
    check_overrides,
    check_settings,
    check_targets,
    checked_device,
    definition_of,
    install_short_errors,
    literal,
    unused_ids,
    without_pretrained,
)
from .batch_augmentation import check_batch_augmentation
from .loaded import NETWORK, loaded_network
from .running import root
from .tracking import track_settings
from .trained import trained_settings
from .workflow import loading, running

__all__ = ["PATHS", "accept_overrides"]

logger = logging.getLogger(__name__)

# Values that a config's network_def refers to, unless a file that is laid over it has another network.
_OF_NETWORK = (
    *("features", "norm", "network_name", "backbones", "pretrained", "freeze"),
    *("vit_name", "vit_image_size"),
)
# Values that follow from the data, and from what.
_OF_DATA = {
    "num_classes": "the classes of the slices of the data set",
    "modalities": "'modality' in datalist.json of the data set",
    "given_data": "whether train#dataset#data is a list",
}
# Values of slices: volumes have `normalization`.
_OF_SLICES = ("mean", "std")

# Ids of files and folders. Their values are never expressions.
PATHS = frozenset(
    {
        *("bundle_root", "dataset_dir", "output_dir", "input", "checkpoint", "init_checkpoint"),
        *("negatives_dir", "teacher_checkpoint", "teacher_bundle", "teacher_store", "cache_dir"),
    }
)


def accept_overrides() -> None:
    """Check the overrides of the config that is being initialized, and take paths among them as they were typed.

    MONAI accepts an unknown id, such as ``--epoch 3``, and ignores it. Its command line turns the name of a folder
    ``100360`` into a number and ``a,b`` into a tuple, cuts ``pat#2`` at the ``#``, and takes ``@home`` for a reference.
    Therefore the values of `PATHS` are read again from the arguments of the process. ``~`` in them is expanded, also
    where a config file has it.
    From Python, a path that begins with ``$`` or ``@`` is an expression, see `monai_kd.config.literal`.

    A plain value that is given as ``None`` becomes it: MONAI's command line drops it.

    With ``--tracking mlflow``, the run is tracked with its settings, see `track_settings`.

    For ``monai.bundle.load``, which needs the network alone, ``network_def`` becomes the trained network with its
    weights, see `loaded_network`, and no other setting is evaluated: that would make phantoms.

    Call it first in ``initialize``.

    Raises:
        ValueError: an override is not an id of the config, the message lists the most similar ids; it is a plain value
            in place of an object; it has a value that is refused by `check_settings`, before what depends on it is; the
            device is not available, see `checked_device`; it follows from the data; a classification is to take
            volumes; a path is ``~name`` and there is no user of this name; a network is given that is not that of
            ``init_checkpoint``; ``pretrained`` is a file, and the network does not use it; or as
            `check_batch_augmentation`, `check_targets` and `loaded_network`.
    """
    install_short_errors()
    run = running()
    if run.parser is None or not run.config_files:
        return
    if (checkpoint := loading()) is not None:
        run.parser[NETWORK] = loaded_network(checkpoint, root(), run.overrides)
        run.parser["settings"] = {}
        run.parser.parse(reset=True)
        return
    of_tracking = track_settings(run.parser)
    known = ConfigParser()
    known.read_config(list(run.config_files))
    if {"num_classes", "volumes"} <= known.get().keys():
        raise ValueError(
            "the config of a classification has one of volumes laid over it: a classification is of slices, each of "
            "one class; leave that file out, or take a segmentation's bundle, see docs/volumes.md."
        )
    own = {name: value for name, value in run.overrides.items() if name not in of_tracking}
    # MONAI's command line drops what is None.
    plain = [name for name, value in known.get().items() if not isinstance(value, (dict, list))]
    removed = {name for name in plain if name not in run.overrides and _on_command_line(name) == "None"}
    for name in removed:
        run.parser[name] = None
    check_overrides(own, known, run.config_files[0])
    for name, source in _OF_DATA.items():
        if name in own:
            raise ValueError(f"--{name} can't be set: it follows from {source}; leave it out.")
    for unused in unused_ids(run.config_files, known):
        logger.warning("%s", unused)
    # Also those of files; what is evaluated is checked with the settings.
    # `in parser` would look for the name that is most like each one that is not there.
    content = run.parser.get()
    written = {name: content[name] for name in CHECKED if name in content}
    check_settings({name: value for name, value in written.items() if not _evaluated(value)})
    if isinstance(device := run.overrides.get("device"), str) and not _evaluated(device):
        checked_device(device)
    without_effect = _without_effect(content)
    _tell_unused(run.parser, own, without_effect)
    # What had no effect is not recorded as if the network had been built with it.
    recorded = content.get("settings")
    not_recorded = [name for name in without_effect if isinstance(recorded, dict) and name in recorded]
    for name in not_recorded:
        del recorded[name]
    paths = {name: _as_typed(name, value) for name, value in run.overrides.items() if name in PATHS}
    changed = {name: value for name, value in paths.items() if value != run.overrides[name]}
    changed |= {
        name: literal(_expanded(name, written))
        for name in PATHS - paths.keys()
        if isinstance(written := run.parser.get(name), str) and written.startswith("~")
    }
    if changed or removed or not_recorded:
        for name, value in changed.items():
            run.parser[name] = value
        # Items that were parsed before hold the old values.
        run.parser.parse(reset=True)
    # These evaluate values, so that no path may be an expression any more.
    _warn_of_recipe(run.parser, own)
    _check_one_network(run.parser, run.config_files[0])
    check_batch_augmentation(run.parser)
    check_targets(run.parser.get())


def _check_one_network(parser: ConfigParser, config_file: Any) -> None:
    """Refuse a network that is given beside ``init_checkpoint``, which brings its own, if they are not the same."""
    default = ConfigParser()
    default.read_config(config_file)
    if "init_checkpoint" not in parser or parser[NETWORK] == default[NETWORK]:
        return
    start = parser.get_parsed_content("init_checkpoint")
    if start is None or not Path(start).is_file():
        return
    definition = definition_of(parser[NETWORK], parser.get_parsed_content, NETWORK)
    given, own = (without_pretrained(each) for each in (definition, trained_settings(start)[NETWORK]))
    if given != own:
        raise ValueError(
            f"{NETWORK} is {given}, and the network of init_checkpoint {start} is {own}: leave out one of the two, or "
            "the values that differ."
        )


def _without_effect(content: Mapping[str, Any]) -> list[str]:
    """Values of a network that a config has, and nothing in it refers to but the settings that are recorded."""
    text = str({name: value for name, value in content.items() if name != "settings"})
    return [name for name in _OF_NETWORK if name in content and not re.search(rf"@{name}\b", text)]


def _tell_unused(parser: ConfigParser, own: Mapping[str, Any], unused: Sequence[str]) -> None:
    """Say which values of a network are given, and have no effect on the one that is built.

    Raises:
        ValueError: one of them names the file of pretrained weights.
    """
    why = f"{NETWORK} does not refer to it"
    if own.get("init_checkpoint") is not None:
        unused, why = _OF_NETWORK, "the network is that of init_checkpoint"
    given = [name for name in unused if name in own]
    if "pretrained" in given and isinstance(file := own["pretrained"], (str, Path)) and not _evaluated(file):
        raise ValueError(
            f"--pretrained: the weights {file} would NOT be used, since {why}. Leave it out, or give network_def the "
            'argument of its class that takes weights, as "@pretrained".'
        )
    if given:
        logger.warning("%s: NOT used, since %s.", ", ".join(f"--{name}" for name in given), why)
    of_slices = [f"--{name}" for name in _OF_SLICES if name in own and "normalization" in parser]
    if of_slices:
        logger.warning("%s: NOT used, since volumes are scaled by `normalization`.", ", ".join(of_slices))


def _warn_of_recipe(parser: ConfigParser, own: Mapping[str, Any]) -> None:
    """Say that ``temperature`` or ``alpha`` is given, and the recipe has no use for it.

    Some terms have the temperature of their paper.
    """
    if "terms" not in parser or not {"temperature", "alpha"} & own.keys():
        return
    names = list(parser.get_parsed_content("weights"))
    if "alpha" in own:
        written = str(parser.get("weights"))
        if "@recipes" in written:
            written = str(parser.get("recipes")[parser.get_parsed_content("recipe")])
        if "@alpha" not in written:
            logger.warning("--alpha: NOT used, since no weight of this recipe (%s) refers to it.", ", ".join(names))
    if "temperature" in own and not any("temperature" in str(parser.get(f"terms#{name}")) for name in names):
        logger.warning(
            "--temperature: NOT used, since no loss term of this recipe (%s) refers to it. A term with a temperature "
            "of its own gets another one in a file that is laid over the config, by terms#NAME#temperature.",
            ", ".join(names),
        )


def _evaluated(value: Any) -> bool:
    """Whether the config evaluates a value, so that it is checked with the other settings later."""
    if isinstance(value, (list, tuple)):
        return any(map(_evaluated, value))
    return isinstance(value, str) and value.startswith(("$", "@"))


def _as_typed(name: str, value: Any) -> Any:
    """The value of an override that is a path, for the config."""
    typed = _on_command_line(name)
    is_typed = typed is not None and DefaultParseValue(typed) == value
    if typed == "" or (isinstance(value, bool) and not is_typed):
        raise ValueError(f"--{name} has no value: give a path. Was a variable of the shell not set?")
    if typed is not None and is_typed:
        return value if value is None else literal(_expanded(name, typed))
    if isinstance(value, (str, Path)) and not str(value).startswith(("$", "@")):
        return literal(_expanded(name, value))
    return value


def _expanded(name: str, path: str | Path) -> str:
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        raise ValueError(
            f"{name} is {str(path)!r}, and there is no user of this name: a folder that is called so needs its "
            "absolute path."
        ) from None


def _on_command_line(name: str) -> str | None:
    """The text after ``--name`` in the arguments of this process; the last one counts, as in Fire."""
    found = None
    for place, argument in enumerate(sys.argv[1:], 1):
        flag, equals, text = argument.partition("=")
        if flag.lstrip("-").replace("-", "_") != name or not flag.startswith("--"):
            continue
        if equals:
            found = text
        elif place + 1 < len(sys.argv):
            found = sys.argv[place + 1]
    return found
