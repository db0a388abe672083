"""Errors that MONAI wraps, and how the last line of a command names their cause."""

from __future__ import annotations

import sys
from types import TracebackType

from ..io.unreadable import UnusableItems

__all__ = ["cause_of", "install_short_errors"]

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
