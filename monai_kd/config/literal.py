"""Untrusted values for a config, escaped so that the config parser does not evaluate them."""

from __future__ import annotations

import math
from pathlib import PurePath
from typing import Any

import torch

__all__ = ["literal"]

# Characters with a meaning in `monai.bundle`: expressions, references, macros, and the older separator of ids.
_SPECIAL = {ord(character): f"\\x{ord(character):02x}" for character in "$@%#"}


def literal(value: Any) -> Any:
    r"""Return a config value that MONAI's ``ConfigParser`` resolves to exactly ``value``, whatever text it holds.

    The parser evaluates text that begins with ``$`` as Python, replaces ``@id`` and ``%id`` by other parts of the
    config or by files, replaces ``#`` by ``::`` in all text, and calls what a dictionary with ``_target_`` names. So
    text from a request, a file name, ``settings.json``, a data list or a form must not reach it unescaped.

    Text and dictionaries become an expression that consists of a Python literal, in which these four characters are
    escaped. Lists stay lists of such expressions, and the result can be written as JSON wherever ``value`` can.

    Args:
        value: text, a number, ``True``, ``False``, ``None``, a path, a ``torch.device`` (the last two as text), and
            lists, tuples and dictionaries of them.

    Raises:
        TypeError: it is, or holds, another object.

    Example:
        >>> from monai.bundle import ConfigParser
        >>> literal("runs/#1")
        "$'runs/\\x231'"
        >>> ConfigParser({"folder": literal("runs/#1"), "copy": "@folder"}).get_parsed_content("copy")
        'runs/#1'
    """
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, list):
        return [literal(each) for each in value]
    # A dictionary as one literal: otherwise its keys would become ids, and a `_target_` among them a call.
    return "$" + _expression(value)


def _expression(value: Any) -> str:
    """A Python literal of ``value`` in ASCII."""
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value) if math.isfinite(value) else f"float('{float.__repr__(value)}')"
    if isinstance(value, (PurePath, torch.device)):
        value = str(value)
    if isinstance(value, str):
        return ascii(str.__str__(value)).translate(_SPECIAL)
    if isinstance(value, list):
        return f"[{', '.join(map(_expression, value))}]"
    if isinstance(value, tuple):
        return f"({''.join(f'{_expression(each)}, ' for each in value)})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_expression(key)}: {_expression(each)}' for key, each in value.items())}}}"
    raise TypeError(
        f"a value of a config must be text, a number, True, False, None, a path, or lists, tuples and dictionaries of "
        f"them; got {type(value).__name__}."
    )
