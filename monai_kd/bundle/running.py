"""Functions for configs that need to know about their own run, which MONAI does not provide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from monai.bundle import ConfigParser
from monai.bundle.utils import EXPR_KEY, ID_REF_KEY

from ..config import definition_of
from ..config.definition import TARGET, holds_definition, plain_values
from ..io.places import PLACES
from ..transforms import checked_normalization
from .workflow import running

__all__ = [
    *("choose", "definition", "described", "given_data", "normalization", "parser_with", "recorded", "root"),
    *("Unbuilt", "unbuilt"),
]

TRAINING_DATA = "train#dataset#data"
# Of a training, what a config may replace and the losses depend on.
_OF_TRAINING = ("augmentation", "batch_augmentation", "optimizer", "lr_scheduler")
# References to definitions are followed in these; the others have the network.
_FOLLOWED = ("augmentation", "batch_augmentation")
# What may change when a run is resumed, or describes the computer: references to these stay as they are written.
_FREE = frozenset(
    {
        *("epochs", "train#trainer#max_epochs", "val_interval", "resume", "workers", "threads", "device", "rank"),
        *("bundle_root", "output_dir", "data_dir", "cache_dir", *PLACES),
    }
)


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
    parser = parser_with(id)
    return definition_of(parser[id], parser.get_parsed_content, id)


def described(id: str) -> dict[str, Any]:
    """A mapping of the running config as plain values: components in it stay definitions; see `plain_values`.

    Raises:
        RuntimeError: no config is running.
        ValueError: as `plain_values`.
    """
    parser = parser_with(id)
    return plain_values(parser[id], parser.get_parsed_content, id)


class Unbuilt(dict[str, Any]):
    """Values that replace those of another config.

    Attributes:
        definitions: names of the values that stand in the running config as they are here, and are built there. Only
            what a config says is built: other values may look like definitions, and are those of data.
    """

    definitions: frozenset[str] = frozenset()


def unbuilt(id: str) -> Any:
    """A mapping of the running config whose values replace those of another one.

    Values that hold a definition, such as that of a network, stay as they are written, since the other config builds
    them, and looks up references in them. All others are evaluated here.

    Returns:
        `Unbuilt`; or the value of the config, where no value of it holds a definition.

    Raises:
        RuntimeError: no config is running.
    """
    parser = parser_with(id)
    raw = parser[id]
    if not isinstance(raw, Mapping) or not holds_definition(raw):
        return parser.get_parsed_content(id)
    values = Unbuilt(
        (name, value if holds_definition(value) else parser.get_parsed_content(f"{id}::{name}"))
        for name, value in raw.items()
    )
    values.definitions = frozenset(name for name, value in raw.items() if holds_definition(value))
    return values


def normalization() -> list[dict[str, Any]]:
    """The ``normalization`` of volumes in the running config, see `checked_normalization`.

    There it is a definition, a list of them, or an expression of either as plain values.

    Raises:
        RuntimeError: no config is running.
        ValueError: as `checked_normalization` and `definition_of`.
    """
    id = "normalization"
    parser = parser_with(id)

    def defined(raw: Any, at: str) -> dict[str, Any]:
        return definition_of(
            parser.get_parsed_content(at) if isinstance(raw, str) else raw, parser.get_parsed_content, at
        )

    raw = parser[id]
    given = parser.get_parsed_content(id) if isinstance(raw, str) else raw
    if isinstance(given, (list, tuple)):
        return checked_normalization([defined(each, f"{id}::{number}") for number, each in enumerate(given)])
    return checked_normalization([defined(given, id)])


def parser_with(id: str) -> ConfigParser:
    """The parser of the running config, to look up an id.

    Raises:
        RuntimeError: no config is running.
    """
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


def recorded(weights: Iterable[str] = ()) -> dict[str, Any]:
    """What the running config builds a training from, as it stands there, for ``settings.json``.

    ``augmentation``, ``batch_augmentation``, ``optimizer``, ``lr_scheduler``, the ``factors`` of each
    `LossWeightSchedule` among ``train#handlers``, and of ``terms`` those of the recipe.
    References to values and definitions are followed, but for those that a resumed run may change, and of the optimizer
    and the schedule to definitions, which have the network; expressions stay as they are written, and of an absolute
    path there is the last name. Of objects that take the place of text, such as transforms that a student gives to its
    teacher, there is the name of the class.

    Args:
        weights: names of the loss terms that have a weight.

    Raises:
        RuntimeError: no config is running.
    """
    parser = parser_with("definitions")
    found = {id: _written(parser.get(id), parser, id in _FOLLOWED) for id in _OF_TRAINING if id in parser}
    terms = {name: _written(parser.get(f"terms#{name}"), parser, True) for name in weights}
    schedules = [_written(each.get("factors"), parser, True) for each in _handlers(parser) if _follows_the_epoch(each)]
    more = {"terms": terms, "loss_weight_schedules": schedules}
    return {**found, **{name: value for name, value in more.items() if value}}


def _handlers(parser: ConfigParser) -> list[Mapping[str, Any]]:
    handlers = parser.get("train#handlers", [])
    return [each for each in handlers if isinstance(each, Mapping)] if isinstance(handlers, list) else []


def _follows_the_epoch(handler: Mapping[str, Any]) -> bool:
    return str(handler.get(TARGET)).rpartition(".")[-1] == "LossWeightSchedule"


def _written(value: Any, parser: ConfigParser, built: bool, within: frozenset[str] = frozenset()) -> Any:
    """A value of a config with references in it followed; ``built``: also those to definitions."""
    if isinstance(value, Mapping):
        return {name: _written(each, parser, built, within) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_written(each, parser, built, within) for each in value]
    if isinstance(value, str) and value.startswith(ID_REF_KEY):
        id = value[1:].replace("::", "#")
        referred = None if id in _FREE | within else parser.get(id)
        if referred is None or (isinstance(referred, str) and referred.startswith(EXPR_KEY)):
            return value
        if not built and isinstance(referred, Mapping) and TARGET in referred:
            return value
        return _written(referred, parser, built, within | {id})
    if isinstance(value, str):
        return PurePath(value).name if PurePath(value).is_absolute() else value
    return value if value is None or isinstance(value, (bool, int, float)) else type(value).__name__
