"""Errors that MONAI wraps."""

from __future__ import annotations

__all__ = ["cause_of"]

# How MONAI's wrappers begin, in `monai.bundle.config_item` and `monai.utils.module`. Other errors that have a cause are
# meant to be read themselves.
_WRAPPERS = ("Failed to evaluate ", "Failed to instantiate component ")


def cause_of(error: BaseException) -> BaseException:
    """What led to an error that MONAI wrapped into ``RuntimeError``, once or several times; otherwise the error."""
    while error.__cause__ is not None and type(error) is RuntimeError and str(error).startswith(_WRAPPERS):
        error = error.__cause__
    return error
