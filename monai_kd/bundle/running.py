"""What a config needs to know about its own run, and MONAI does not tell it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow

from ..config import cause_of, refuse_unknown

__all__ = ["check_overrides", "choose", "given_data", "root"]

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


def choose(name: str, options: Mapping[str, Any], what: str) -> Any:
    """Look up ``options[name]``.

    Raises:
        ValueError: there is no such option; the message lists them.
    """
    if name not in options:
        raise ValueError(f"{what} must be one of {', '.join(sorted(options))}, got '{name}'.")
    return options[name]


def install_short_errors() -> None:
    """Print the cause of a failed config expression last and plainly, below MONAI's chain of wrapped errors."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _short_error


def _short_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    cause = cause_of(error)
    if cause is error or isinstance(cause, (AttributeError, TypeError, NameError)):
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"\n{type(cause).__name__}: {cause}", file=sys.stderr)
