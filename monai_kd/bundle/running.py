"""Functions for configs that need to know about their own run, which MONAI does not provide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from ..config import definition_of
from ..config.definition import plain_values
from .workflow import running

__all__ = ["choose", "definition", "described", "given_data", "root", "type_names"]

TRAINING_DATA = "train#dataset#data"


def root() -> str:
    """The absolute path of the bundle whose config is being read: the folder that holds ``configs/``.

    Works from any working directory, with ``monai.bundle run``, ``create_workflow``, ``ckpt_export``,
    ``verify_net_in_out`` and similar commands.

    Raises:
        RuntimeError: the config was read by a ``ConfigParser`` directly, and the working directory is not a bundle.
    """
    folder = running().folder
    # A ConfigParser used directly: MONAI's own bundles assume the working directory.
    if folder is None and (Path.cwd() / "configs" / "metadata.json").is_file():
        folder = Path.cwd() / "configs"
    if folder is None:
        raise RuntimeError("bundle_root is not known here: set `bundle_root` to the folder that holds configs/.")
    return str(folder.resolve().parent)


def given_data() -> bool:
    """Whether ``train#dataset#data`` of the running config is a list of items, as MONAI Label sets it.

    Otherwise it is the expression of the bundle.
    """
    parser = running().parser
    return parser is not None and isinstance(parser.get(TRAINING_DATA), list)


def definition(id: str) -> dict[str, Any]:
    """The definition of a network in the running config, as plain values; see `definition_of`.

    Args:
        id: id of a component, such as ``"network_def"``.

    Raises:
        RuntimeError: no config is running.
        ValueError: as `definition_of`.
    """
    parser = _parser(id)
    return definition_of(parser[id], parser.get_parsed_content, id)


def described(id: str) -> dict[str, Any]:
    """A mapping of the running config as plain values: components in it stay definitions; see `plain_values`.

    Raises:
        RuntimeError: no config is running.
        ValueError: as `plain_values`.
    """
    parser = _parser(id)
    return plain_values(parser[id], parser.get_parsed_content, id)


def _parser(id: str) -> ConfigParser:
    parser = running().parser
    if parser is None:
        raise RuntimeError(f"the config can't be found from here: {id} has no definition.")
    return parser


def choose(name: str, options: Mapping[str, Any], what: str) -> Any:
    """Look up ``options[name]``.

    Raises:
        ValueError: there is no such option; the message lists them.
    """
    if name not in options:
        raise ValueError(f"{what} must be one of {', '.join(sorted(options))}, got '{name}'.")
    return options[name]


def type_names(objects: Iterable[object]) -> list[str]:
    """The class names of objects, such as transforms, for ``settings.json``.

    Example:
        >>> type_names([1.0, "a"])
        ['float', 'str']
    """
    return [type(each).__name__ for each in objects]
