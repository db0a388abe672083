"""Check that the classes and functions that a config names are there."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator
from pydoc import ErrorDuringImport, locate
from typing import Any

from .definition import LOCATOR, TARGET

__all__ = ["check_targets"]


def check_targets(content: Any) -> None:
    """Check that every ``_target_`` of a config can be found, before anything is built.

    MONAI would end with a traceback at the first one that is needed, maybe after the training of a teacher. What is
    disabled, and a target that is an expression, are left out.

    Args:
        content: of a config, with macros resolved.

    Raises:
        ValueError: some can't; the message has their ids, and the most similar names or the package that is missing.
    """
    found = [f"{id}: {why}" for id, target in _targets(content) if (why := _why_not(target))]
    if found:
        raise ValueError(f"the config names what is not there. {' '.join(found)}")


def _targets(content: Any, id: str = "") -> Iterator[tuple[str, str]]:
    """The id and target of each component."""
    if isinstance(content, dict):
        if content.get("_disabled_") is True:
            return
        if isinstance(target := content.get(TARGET), str) and not target.startswith(("$", "@")):
            yield id, target
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in items:
        yield from _targets(value, f"{id}#{name}" if id else str(name))


def _why_not(target: str) -> str | None:
    """Why there is no such class or function; ``None`` where there is one."""
    if LOCATOR.get_component_module_name(target) is not None:
        return None
    try:
        if locate(target) is not None:
            return None
    except ErrorDuringImport as error:
        return f"{target} can't be imported: {error.value}."
    outer, _, name = target.rpartition(".")
    if not outer:
        known = list(LOCATOR._components_table or ())
        return f"MONAI has no class or function {name}; others need the path of their module.{_near(name, known)}"
    package = outer.partition(".")[0]
    try:
        importlib.import_module(package)
    except ImportError:
        return f"there is no package {package} for {target}: install it, or correct the name."
    while (module := locate(outer)) is None:
        outer, _, name = outer.rpartition(".")
    return f"{outer} has no {name}, for {target}.{_near(name, dir(module))}"


def _near(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(near)}?" if near else ""
