"""Check that the classes and functions that a config names are there."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pydoc import ErrorDuringImport, locate
from typing import Any

from monai.bundle import ComponentLocator, ConfigComponent

from ..near_names import near_names
from .checks import is_referred_to
from .definition import TARGET

__all__ = ["check_targets"]


def check_targets(content: dict[str, Any]) -> None:
    """Check that every ``_target_`` of a config can be found, before anything is built.

    MONAI would end with a traceback at the first one that is needed, maybe after the training of a teacher. Left out
    are components that are disabled or may be, targets that are expressions, and items that nothing else in the config
    refers to, which MONAI does not build either. All others are imported.

    Args:
        content: of a config, with macros resolved.

    Raises:
        ValueError: some can't be found; the message has their ids, and the most similar names or the package that is
            missing.
    """
    # Not that of the parser, which is filled once: modules that are imported after this count for it too.
    locator = ComponentLocator()
    text = str(content)
    used = {name: value for name, value in content.items() if is_referred_to(name, text)}
    found = [f"{id}: {why}" for id, target in _targets(used) if (why := _why_not(target, locator))]
    if found:
        raise ValueError(f"the config names classes or functions that can't be found. {' '.join(found)}")


def _targets(content: Any, id: str = "") -> Iterator[tuple[str, str]]:
    """The id and target of each component."""
    if isinstance(content, dict) and isinstance(target := content.get(TARGET), str):
        disabled = str(content.get("_disabled_", "")).startswith(("$", "@")) or ConfigComponent(content).is_disabled()
        if not disabled and not target.startswith(("$", "@")):
            yield id, target
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in items:
        yield from _targets(value, f"{id}#{name}" if id else str(name))


def _why_not(target: str, locator: ComponentLocator) -> str | None:
    """Why there is no such class or function; ``None`` where there is one."""
    if locator.get_component_module_name(target) is not None:
        return None
    parts = target.split(".")
    if not all(part.isidentifier() for part in parts):
        return f"{target!r} is no dotted path of a class or function."
    try:
        if locate(target) is not None:
            return None
        package: Any = importlib.import_module(parts[0]) if len(parts) > 1 else None
    except ErrorDuringImport as error:
        return f"{target} can't be imported ({type(error.value).__name__}: {error.value})."
    except ImportError:
        return (
            f"there is no package {parts[0]}, for {target}: install it, add its folder to PYTHONPATH, or correct the "
            "name."
        )
    if package is None:
        # The locator has no other list of what it knows.
        known = list(locator._components_table or ())
        near = _near(target, known)
        return f"MONAI has no class or function {target}{near}; others need their module, as torch.optim.AdamW has."
    outer, name = parts[:1], parts[1]
    while (inner := locate(".".join([*outer, name]))) is not None:
        outer, package = [*outer, name], inner
        name = parts[len(outer)]
    modules = [each.name for each in pkgutil.iter_modules(getattr(package, "__path__", []))]
    return f"{'.'.join(outer)} has no {name}, for {target}{_near(name, [*dir(package), *modules])}."


def _near(name: str, known: list[str]) -> str:
    return near_names(name, sorted({each for each in known if not each.startswith("_")}))
