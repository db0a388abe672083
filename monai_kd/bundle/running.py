"""What a config needs to know about its own run, and MONAI does not tell it."""

from __future__ import annotations

import difflib
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow

from ..data import UnusableItems

__all__ = ["cause_of", "check_overrides", "check_settings", "choose", "given_data", "refuse_unknown", "root"]

TRAINING_DATA = "train#dataset#data"

# Arguments of MONAI's commands that travel beside the overrides.
_ARGUMENTS = frozenset(
    inspect.signature(ConfigWorkflow.__init__).parameters.keys() - {"self", "override"} | {"args_file", "workflow_name"}
)


def _calls() -> Iterator[dict[str, Any]]:
    """Local variables of MONAI's bundle functions that are running, innermost first.

    A config is told neither its own path nor how it was overridden. Both are known to the functions of
    ``monai.bundle`` that evaluate it, which are on the call stack at that moment.
    """
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("monai.bundle."):
            yield frame.f_locals
        frame = frame.f_back


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, (list, tuple)) else value


def root() -> str:
    """Folder of the bundle whose config is being read, absolute: the one that holds ``configs/``.

    Works from any working directory, through ``monai.bundle run``, ``create_workflow``, ``ckpt_export``,
    ``verify_net_in_out`` and the like.

    Raises:
        RuntimeError: it can't be told, when a config is parsed by hand.
    """
    folder = None
    for variables in _calls():
        workflow = variables.get("self")
        config_file = variables.get("config_file_") or variables.get("config_file")
        if isinstance(workflow, ConfigWorkflow):
            folder = Path(workflow.config_root_path)
        elif config_file is not None and not isinstance(config_file, Mapping):
            folder = Path(_first(config_file)).parent
        if folder is not None:
            break
    else:
        # A parser used by hand: the working directory is what MONAI's own bundles assume.
        if (Path.cwd() / "configs" / "metadata.json").is_file():
            folder = Path.cwd() / "configs"
    if folder is None:
        raise RuntimeError("bundle_root can't be told from here: set `bundle_root` to the folder that holds configs/.")
    return str(folder.resolve().parent)


def given_data() -> bool:
    """Whether ``train#dataset#data`` is a list of items that somebody gave, as MONAI Label does, and not an expression.

    The config is that which is being read or run.
    """
    for variables in _calls():
        workflow = variables.get("self")
        if isinstance(workflow, ConfigWorkflow):
            return isinstance(workflow.parser.get(TRAINING_DATA), list)
    return False


def check_overrides() -> None:
    """Refuse overrides that name nothing in the config: MONAI accepts ``--epoch 3`` and ignores it.

    Raises:
        ValueError: naming the unknown ids and the nearest known ones.
    """
    install_short_errors()
    for variables in _calls():
        config_file, overrides = variables.get("config_file"), variables.get("_args")
        if config_file is None or not isinstance(overrides, Mapping):
            continue
        known = ConfigParser()
        known.read_config(config_file)
        refuse_unknown([name for name in overrides if name not in _ARGUMENTS], known, _first(config_file))
        return


def refuse_unknown(names: Iterable[str], known: ConfigParser, config_file: Any) -> None:
    """Refuse names that are no ids of a config that was read.

    Raises:
        ValueError: naming the unknown ids and the nearest known ones.
    """
    unknown = [name for name in names if name not in known]
    if not unknown:
        return
    ids = [name for name in known.config if not name.startswith("_")]
    hints = []
    for name in unknown:
        near = difflib.get_close_matches(name, ids, n=3, cutoff=0.5)
        hints.append(f"--{name}" + (f" (did you mean {' or '.join('--' + each for each in near)}?)" if near else ""))
    raise ValueError(f"unknown override: {', '.join(hints)}. The config {config_file} has no such id.")


def _number(value: Any, highest: float = math.inf) -> bool:
    """Whether a value is a finite number from 0 to the highest; ``True`` and ``False`` are no numbers."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and math.isfinite(value) and 0 <= value <= highest


_COUNTS = ("epochs", "batch_size", "val_interval", "student_tap_channels", "teacher_tap_channels")
_FROM_ZERO = ("seed", "workers", "bootstrap")
_SWITCHES = ("amp", "resume", "freeze", "teacher_freeze", "calibrate", "gradcam", "upright", "overlays", "dicom_seg")
_SHARES = ("alpha", "basic_alpha", "label_smoothing", "flip_probability")
_AMOUNTS = (
    *("weight_decay", "mixup", "basic_beta", "smallest_area_mm2"),
    *(f"{term}_weight" for term in ("supervised", "logit", "feature", "attention", "edge")),
)
_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **{name: (lambda v: type(v) is int and v >= 1, "a whole number from 1") for name in _COUNTS},
    **{name: (lambda v: type(v) is int and v >= 0, "a whole number from 0") for name in _FROM_ZERO},
    # None: which slices validated is nobody's fold.
    "fold": (lambda v: v is None or (type(v) is int and v >= 0), "a whole number from 0"),
    **{name: (lambda v: isinstance(v, bool), "True or False") for name in _SWITCHES},
    **{name: (lambda v: _number(v, highest=1), "a number from 0 to 1") for name in _SHARES},
    **{name: (_number, "a number from 0") for name in _AMOUNTS},
    "image_size": (lambda v: type(v) is int and v >= 32, "a whole number from 32"),
    "learning_rate": (lambda v: _number(v) and v > 0, "a positive number"),
    "features": (
        lambda v: len(v) == 6 and all(type(n) is int and n >= 1 for n in v),
        "six whole numbers: four encoder levels, the bridge, the last decoder level",
    ),
    "part": (lambda v: v in ("validation", "all"), "'validation' or 'all'"),
    "threshold": (lambda v: _number(v) and 0 < v < 1, "a number between 0 and 1"),
    "temperature": (lambda v: _number(v) and v > 0, "a positive number"),
}
# A U-Net halves the image four times.
_UNET_CHECKS = {
    "image_size": (lambda v: type(v) is int and v >= 32 and v % 16 == 0, "a multiple of 16, from 32"),
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check the short named values of a config before anything is built from them.

    Args:
        settings: name to value; those with ``features`` are of a U-Net.

    Raises:
        ValueError: naming the value, what it is, and what it should be.
    """
    checks = {**_CHECKS, **_UNET_CHECKS} if "features" in settings else _CHECKS
    for name, value in settings.items():
        valid, wanted = checks.get(name, (None, ""))
        try:
            good = valid is None or valid(value)
        except TypeError:
            good = False
        if not good:
            raise ValueError(f"{name} must be {wanted}, got {value!r}.")


def choose(name: str, options: Mapping[str, Any], what: str) -> Any:
    """Look up ``options[name]``.

    Raises:
        ValueError: there is no such option; the message lists them.
    """
    if name not in options:
        raise ValueError(f"{what} must be one of {', '.join(sorted(options))}, got '{name}'.")
    return options[name]


# How MONAI's wrappers begin, in `monai.bundle.config_item`, `monai.utils.module` and `monai.transforms.transform`.
# Other errors that have a cause are meant to be read themselves.
_WRAPPERS = ("Failed to evaluate ", "Failed to instantiate component ", "applying transform ")


def cause_of(error: BaseException) -> BaseException:
    """What led to an error that MONAI wrapped into ``RuntimeError``, once or several times; otherwise the error."""
    while error.__cause__ is not None and type(error) is RuntimeError and str(error).startswith(_WRAPPERS):
        error = error.__cause__
    return error


def install_short_errors() -> None:
    """Print the cause of a failed config expression last and plainly, below MONAI's chain of wrapped errors."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _short_error


def _short_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    cause = cause_of(error)
    short = cause is not error or isinstance(cause, UnusableItems)
    if not short or isinstance(cause, (AttributeError, TypeError, NameError)):
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"\n{type(cause).__name__}: {cause}", file=sys.stderr)
