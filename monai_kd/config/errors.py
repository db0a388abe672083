"""Short error messages: the cause of an error that MONAI has wrapped, and what an interrupt leaves."""

from __future__ import annotations

import _thread
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec

from ..io.unreadable import UnusableItems

__all__ = ["cause_of", "heed_interrupts", "install_short_errors", "one_line_errors"]

Given = ParamSpec("Given")

# The messages of MONAI's wrappers in `monai.bundle.config_item`, `monai.utils.module` and `monai.transforms.transform`
# begin so. Other errors with a cause have a message of their own.
_WRAPPERS = ("Failed to evaluate ", "Failed to instantiate component ", "applying transform ")
# Each class of Ignite's engines has a logger of its own.
_ENGINES = ("DistillationTrainer", "FileEvaluator", "SupervisedEvaluator")


def cause_of(error: BaseException) -> BaseException:
    """The cause of an error that MONAI has wrapped into ``RuntimeError``, also repeatedly; else the error itself."""
    while error.__cause__ is not None and type(error) is RuntimeError and str(error).startswith(_WRAPPERS):
        error = error.__cause__
    return error


def one_line_errors(command: Callable[Given, int]) -> Callable[Given, int]:
    """Of a command: an error that its user can mend is one line on stderr and exit code 2.

    These are ``OSError``, ``ValueError``, and ``ImportError`` of a package that is not installed. Where the reader of
    the output has closed it, as ``head`` does, the command ends silently, with the exit code of a shell's ``SIGPIPE``.
    """

    @functools.wraps(command)
    def ended(*args: Given.args, **kwargs: Given.kwargs) -> int:
        try:
            code = command(*args, **kwargs)
            sys.stdout.flush()
            return code
        except (OSError, ValueError, ImportError) as error:
            if isinstance(error, BrokenPipeError) and _output_is_closed():
                return 128 + 13
            print(f"error: {error}", file=sys.stderr)
            return 2

    return ended


def _output_is_closed() -> bool:
    try:
        # A flush alone may have nothing left to write, and then it succeeds.
        print(flush=True)
    except BrokenPipeError:
        # What is left of the output goes nowhere: Python writes it once more when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def install_short_errors() -> None:
    """For uncaught errors that MONAI has wrapped, print only the type and message of their cause.

    For an uncaught ``KeyboardInterrupt`` print what is kept, and end the process with exit code 130: MONAI's command
    line would end with a traceback and exit code 1. Engines do not log what ended them, since it is printed.
    """
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _short_error
    for name in _ENGINES:
        logging.getLogger(f"ignite.engine.engine.{name}").addFilter(_no_end_of_the_run)
    heed_interrupts()


def heed_interrupts() -> None:
    """Let no Ctrl+C be lost.

    Python can't raise an error in a callback of a weak reference or in ``__del__``: it prints that it was ignored, and
    goes on. Where that is a ``KeyboardInterrupt``, it is raised once more a moment later.
    """
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _interrupt_again


def _interrupt_again(unraisable: sys.UnraisableHookArgs) -> None:
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        # Not from here: it would be raised at once, within this hook, and be ignored too.
        again = threading.Timer(0.1, _thread.interrupt_main)
        again.daemon = True
        again.start()
    else:
        sys.__unraisablehook__(unraisable)


def _no_end_of_the_run(record: logging.LogRecord) -> bool:
    return "terminating due to exception" not in record.getMessage()


def _short_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print(
            "\nstopped. A training goes on after its last finished epoch by --resume True; inference keeps masks and "
            "rows of the files that it had finished; an evaluation starts anew.",
            file=sys.stderr,
        )
        # Python ends a process with the exit code of a SystemExit that its hook raises.
        raise SystemExit(130)
    cause = cause_of(error)
    short = cause is not error or isinstance(cause, UnusableItems)
    if not short or isinstance(cause, (AttributeError, TypeError, NameError)):
        sys.__excepthook__(kind, error, trace)
    else:
        print(f"\n{type(cause).__name__}: {cause}", file=sys.stderr)
