"""Short error messages: the cause of an error that MONAI has wrapped."""

from __future__ import annotations

import sys
from types import TracebackType

from ..io.unreadable import UnusableItems

__all__ = ["cause_of", "install_short_errors"]

# The messages of MONAI's wrappers in `monai.bundle.config_item`, `monai.utils.module` and `monai.transforms.transform`
# begin so. Other errors with a cause have a message of their own.
_WRAPPERS = ("Failed to evaluate ", "Failed to instantiate component ", "applying transform ")


def cause_of(error: BaseException) -> BaseException:
    """The cause of an error that MONAI has wrapped into ``RuntimeError``, also repeatedly; else the error itself."""
    while error.__cause__ is not None and type(error) is RuntimeError and str(error).startswith(_WRAPPERS):
        error = error.__cause__
    return error


def install_short_errors() -> None:
    """For uncaught errors that MONAI has wrapped, print only the type and message of their cause."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _short_error


def _short_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    cause = cause_of(error)
    short = cause is not error or isinstance(cause, UnusableItems)
    if not short or isinstance(cause, (AttributeError, TypeError, NameError)):
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"\n{type(cause).__name__}: {cause}", file=sys.stderr)
