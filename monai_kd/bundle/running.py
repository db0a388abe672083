"""What a config needs to know about its own run, and MONAI does not tell it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..config import definition_of
from .workflow import running

__all__ = ["choose", "definition", "given_data", "root", "type_names"]

TRAINING_DATA = "train#dataset#data"


def root() -> str:
    """Folder of the bundle whose config is being read, absolute: the one that holds ``configs/``.

    Works from any working directory, through ``monai.bundle run``, ``create_workflow``, ``ckpt_export``,
    ``verify_net_in_out`` and the like.

    Raises:
        RuntimeError: it can't be found, when a config is parsed by hand.
    """
    folder = running().folder
    # A parser used by hand: the working directory is what MONAI's own bundles assume.
    if folder is None and (Path.cwd() / "configs" / "metadata.json").is_file():
        folder = Path.cwd() / "configs"
    if folder is None:
        raise RuntimeError("bundle_root is not known here: set `bundle_root` to the folder that holds configs/.")
    return str(folder.resolve().parent)


def given_data() -> bool:
    """Whether ``train#dataset#data`` is a list of items that somebody gave, as MONAI Label does, and not an expression.

    The config is that which is being read or run.
    """
    parser = running().parser
    return parser is not None and isinstance(parser.get(TRAINING_DATA), list)


def definition(id: str) -> dict[str, Any]:
    """The definition of a network of the config that is being read, as plain values; see `definition_of`.

    Args:
        id: of a component, ``"network_def"`` say.

    Raises:
        RuntimeError: the config can't be found.
        ValueError: as `definition_of`.
    """
    parser = running().parser
    if parser is None:
        raise RuntimeError(f"the config can't be found from here: {id} has no definition.")
    return definition_of(parser[id], parser.get_parsed_content, id)


def choose(name: str, options: Mapping[str, Any], what: str) -> Any:
    """Look up ``options[name]``.

    Raises:
        ValueError: there is no such option; the message lists them.
    """
    if name not in options:
        raise ValueError(f"{what} must be one of {', '.join(sorted(options))}, got '{name}'.")
    return options[name]


def type_names(objects: Iterable[object]) -> list[str]:
    """The names of the classes of some objects, such as transforms, for ``settings.json``.

    Example:
        >>> type_names([1.0, "a"])
        ['float', 'str']
    """
    return [type(each).__name__ for each in objects]
