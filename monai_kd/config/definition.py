"""Definitions of networks, as plain values that can be stored in a file."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import typing
from collections.abc import Callable, Mapping
from typing import Any

from monai.bundle import ComponentLocator, ConfigComponent
from monai.utils import optional_import
from torch import nn

from ..networks.upcat import pad_where_needed

__all__ = ["UntrustedNetwork", "build_network", "definition_of", "without_pretrained"]

TARGET = "_target_"
# Modules of the networks that the settings of a checkpoint may name. Such a file may come from a stranger.
TRUSTED = ("monai.networks.nets.", "monai_kd.networks.")
# Environment variable with the modules, separated by commas, whose networks such a file may name too.
OWN_NETWORKS = "MONAI_KD_NETWORKS"
# Arguments that matter only at the beginning of training. Where a checkpoint is loaded, the weights files that they
# name may be missing. The second line has those of torchvision's, SAM's and timm's networks and of those of
# segmentation_models_pytorch.
_OF_TRAINING = {
    **{"pretrained": False, "pretrained_url": None, "freeze": False},
    **{"weights": None, "checkpoint": None, "checkpoint_path": "", "encoder_weights": None, "weights_backbone": None},
}
# What fetches a file, whatever its arguments are; the last one, for some names of torchvision's networks.
_FETCHING = ("Transchex", "get_pretrained_resnet_medicalnet", "TorchVisionFCModel")

_locator = ComponentLocator()


class UntrustedNetwork(ValueError):
    """A file names a class that is not a network of MONAI, of this package or of `own_networks`."""


def own_networks() -> tuple[str, ...]:
    """Modules that the user trusts, whose networks a file may name too, from the environment.

    ``MONAI_KD_NETWORKS`` holds their dotted paths, separated by commas, such as ``my_networks,my_package.nets``; each
    stands for the modules within it that it imports, too.

    Raises:
        ValueError: one of them is no dotted path of a module.
    """
    names = [name.strip() for name in os.environ.get(OWN_NETWORKS, "").split(",") if name.strip()]
    if wrong := [name for name in names if not all(part.isidentifier() for part in name.split("."))]:
        raise ValueError(
            f"the environment variable {OWN_NETWORKS} names '{wrong[0]}', which is no module: give dotted paths, "
            "separated by commas, such as my_networks,my_package.nets."
        )
    return tuple(f"{name}." for name in names)


def definition_of(raw: Mapping[str, Any], resolve: Callable[[str], Any], id: str) -> dict[str, Any]:
    """The definition of a network with every reference and expression in it resolved, and nothing instantiated.

    Args:
        raw: the component as it stands in a config, with ``_target_``.
        resolve: an id to the resolved value, as ``ConfigParser.get_parsed_content``.
        id: of the component.

    Raises:
        ValueError: it is no component, or an argument is no plain value, so that it can't be stored in a file.
    """
    if not isinstance(raw, Mapping) or TARGET not in raw:
        raise ValueError(f"{id} must be a component with '{TARGET}', got {raw!r}.")
    return plain_values(raw, resolve, id)


def plain_values(raw: Mapping[str, Any], resolve: Callable[[str], Any], id: str) -> dict[str, Any]:
    """As `definition_of`, of a mapping that need not be a component, and may hold definitions.

    Raises:
        ValueError: it is no mapping, or holds anything but plain values.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"{id} must be a mapping of names to values, got {raw!r}.")

    def plain(value: Any, at: str) -> Any:
        if isinstance(value, Mapping):
            return {name: plain(each, f"{at}::{name}") for name, each in value.items()}
        if isinstance(value, (list, tuple)):
            return [plain(each, f"{at}::{number}") for number, each in enumerate(value)]
        resolved = resolve(at) if isinstance(value, str) and value[:1] in ("$", "@") else value
        return _checked(resolved, at)

    return {name: plain(value, f"{id}::{name}") for name, value in raw.items()}


def _checked(value: Any, at: str) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _checked(each, at) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_checked(each, at) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(
        f"{at.replace('::', '#')} is a {type(value).__name__}: arguments of a network must be numbers, texts, lists or "
        "mappings, so that settings.json can store them."
    )


def holds_definition(value: Any) -> bool:
    """Whether a value of a config is the definition of an object, or has one anywhere within it."""
    if isinstance(value, Mapping):
        return TARGET in value or any(map(holds_definition, value.values()))
    return isinstance(value, (list, tuple)) and any(map(holds_definition, value))


def without_pretrained(definition: Any) -> Any:
    """The same definition without pretrained weights, for a network whose checkpoint is loaded next.

    Example:
        >>> without_pretrained({"_target_": "LateFusion", "backbones": [{"name": "vgg19", "pretrained": "vgg.pth"}]})
        {'_target_': 'LateFusion', 'backbones': [{'name': 'vgg19', 'pretrained': False}]}
    """
    if isinstance(definition, Mapping):
        return {name: _OF_TRAINING.get(name, without_pretrained(value)) for name, value in definition.items()}
    if isinstance(definition, list):
        return [without_pretrained(value) for value in definition]
    return definition


def build_network(definition: Mapping[str, Any], trusted: bool = True) -> nn.Module:
    """Build the network of a definition; its arguments are taken as they are, and never parsed.

    Blocks of MONAI's ``BasicUNet`` and ``FlexibleUNet`` pad only where needed, see `pad_where_needed`.

    Args:
        definition: ``_target_``, a dotted path or the short name of a class of MONAI, and arguments.
        trusted: whether the definition comes from a config. One from a file may only name networks of
            ``monai.networks.nets``, ``monai_kd.networks`` and `own_networks`, also within its arguments, as an ensemble
            has them, and is built without pretrained weights.

    Raises:
        UntrustedNetwork: the definition is not trusted, and names anything else.
        ValueError: there is no such class, or it does not take these arguments.
    """
    if not isinstance(definition, Mapping) or not isinstance(definition.get(TARGET), str):
        raise ValueError(f"a network must be defined by a mapping with '{TARGET}', got {definition!r}.")
    if not trusted:
        try:
            definition = _of_stranger(definition)
        except RecursionError:
            raise UntrustedNetwork(f"the network {definition[TARGET]} has too many networks within networks.") from None
    try:
        network = _instantiated(definition, "network_def")
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, (ValueError, FileNotFoundError, RuntimeError)):
            # Without its context, MONAI's error, which is caused by it.
            raise cause from None
        raise ValueError(f"the network {definition[TARGET]} can't be built: {cause}") from error
    if not isinstance(network, nn.Module):
        raise ValueError(f"{definition[TARGET]} is no network, but a {type(network).__name__}.")
    return pad_where_needed(network)


def build_component(definition: Any, id: str) -> Any:
    """The object of a definition that stands in a config, such as a transform.

    Raises:
        ValueError: it is no definition, there is no such class, or it does not take these arguments.
    """
    if not isinstance(definition, Mapping) or not isinstance(definition.get(TARGET), str):
        raise ValueError(f"{id} must be a component with '{TARGET}', got {definition!r}.")
    try:
        return _instantiated(definition, id)
    except Exception as error:
        raise ValueError(f"{id}, {definition[TARGET]}, can't be built: {error.__cause__ or error}") from error


def _instantiated(value: Any, id: str = "") -> Any:
    """The object of a definition, or any value, with all components within it instantiated."""
    if isinstance(value, Mapping):
        inner = {name: _instantiated(each) for name, each in value.items()}
        return ConfigComponent(inner, id=id, locator=_locator).instantiate() if TARGET in inner else inner
    if isinstance(value, list):
        return [_instantiated(each) for each in value]
    return value


def _of_stranger(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A definition from a file, without pretrained weights, if it and all within it are networks that it may name."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            if TARGET in value:
                return _of_stranger(value)
            if any(str(name).startswith("_") for name in value):
                raise _untrusted(definition[TARGET])
            return {name: plain(each) for name, each in value.items()}
        return [plain(each) for each in value] if isinstance(value, list) else value

    found = _trusted(definition[TARGET])
    arguments = plain({name: value for name, value in without_pretrained(definition).items() if name != TARGET})
    # Some classes of MONAI download weights unless they are told not to.
    parameters = inspect.signature(found).parameters
    unasked = {name: value for name, value in _OF_TRAINING.items() if name in parameters}
    return {TARGET: definition[TARGET], **arguments, **unasked}


def _trusted(target: Any) -> Callable[..., Any]:
    """The class or function that a file names, if it may."""
    path = _locator.get_component_module_name(target) if isinstance(target, str) else None
    full = f"{path}.{target}" if isinstance(path, str) else str(target)
    module, _, name = full.rpartition(".")
    trusted = TRUSTED + own_networks()
    # The narrowest, since of a function the one that offers it is asked.
    package = max((each for each in trusted if full.startswith(each)), key=len, default=None)
    if package is None or not name.isidentifier() or name.startswith("_") or name in _FETCHING:
        raise _untrusted(target)
    found: Any = optional_import(module, name=name)[0] if package in TRUSTED else _own(package[:-1], module, name)
    if inspect.isclass(found):
        allowed = issubclass(found, nn.Module)
    else:
        # Of functions, those that the package offers: others load weights from a place that is given to them.
        allowed = inspect.isfunction(found) and optional_import(package[:-1], name=name)[0] is found
        # Of one's own module, those that say so: others in it may do anything.
        allowed = allowed and (package in TRUSTED or _returns_network(found))
    if not allowed or not f"{found.__module__}.".startswith(trusted) or found.__name__ in _FETCHING:
        raise _untrusted(target)
    return found


def _returns_network(function: Callable[..., Any]) -> bool:
    try:
        returned = typing.get_type_hints(function).get("return")
    except (NameError, TypeError):
        return False
    return inspect.isclass(returned) and issubclass(returned, nn.Module)


def _own(named: str, module: str, name: str) -> Any:
    """What a module within one of `own_networks` has by this name. Only that one is imported, with what it imports."""
    try:
        importlib.import_module(named)
        if module not in sys.modules:
            raise ImportError(f"{named} does not import {module}, and a file may have no module imported: name it too")
        return getattr(sys.modules[module], name)
    # Whatever a module of somebody else raises while it is imported.
    except Exception as error:
        raise ValueError(
            f"the network {module}.{name}, whose module {OWN_NETWORKS} names, can't be imported: {error}. Install its "
            "package, or add its folder to PYTHONPATH."
        ) from error


def _untrusted(target: Any) -> UntrustedNetwork:
    return UntrustedNetwork(
        f"{target} is no network of {' or '.join(each[:-1] for each in TRUSTED + own_networks())} with plain "
        "arguments, and is not run because a file names it. If you trust it, name its module in the environment "
        f"variable {OWN_NETWORKS}, such as {OWN_NETWORKS}=my_package.nets; see Networks of your own in "
        "docs/training.md."
    )
