"""Functions in another process, so that a file that ends the process that reads it ends nothing else.

Damaged HDF5 files make the library crash; no exception says so.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

__all__ = ["CannotStart", "ChildDied", "ChildProcess", "borrowed", "call"]

Argument = TypeVar("Argument")
Result = TypeVar("Result")

BEGIN = "import sys; sys.path[:] = {path!r}; from data_prep.child import _serve; _serve()"


class ChildDied(Exception):
    """The process ended in the middle of a call; the message says how."""


class CannotStart(Exception):
    """There is no process to call functions in."""


class ChildProcess:
    """A Python process that calls functions, one at a time; it starts with the first call and ends with this process.

    `subprocess` rather than `multiprocessing`: works in the daemonic processes of a ``DataLoader`` too, and never
    imports the main module of the calling program.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def call(self, function: Callable[[Argument], Result], argument: Argument) -> Result:
        """``function(argument)``; both are pickled, so the function must be one of a module.

        Raises:
            ChildDied: the process ended. The next call starts another one.
            CannotStart: it did not even start.
            Exception: whatever the function raises.
        """
        job = pickle.dumps((sys.path, pickle.dumps((function, argument), pickle.HIGHEST_PROTOCOL)))
        if self._process is None:
            self._process = self._started()
        try:
            self._process.stdin.write(job)  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
            done, value = pickle.load(self._process.stdout)  # type: ignore[arg-type]
        except (EOFError, OSError, pickle.UnpicklingError):
            raise ChildDied(self._how_it_ended()) from None
        except BaseException:
            # Stopped in the middle of an answer: what is left of it must not be taken for that of the next call.
            self.close(kill=True)
            raise
        if not done:
            raise value
        return value

    def _started(self) -> subprocess.Popen[bytes]:
        code = BEGIN.format(path=sys.path)
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            pickle.load(process.stdout)  # type: ignore[arg-type]
        except EOFError:
            process.communicate()
            raise CannotStart(f"a worker process could not be started (exit code {process.returncode})") from None
        return process

    def _how_it_ended(self) -> str:
        process, self._process = self._process, None
        assert process is not None, "it was called"
        with contextlib.suppress(OSError):
            process.stdin.close()  # type: ignore[union-attr]
        process.stdout.close()  # type: ignore[union-attr]
        code = process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def close(self, kill: bool = False) -> None:
        """End the process; the next call starts another one."""
        process, self._process = self._process, None
        if process is not None:
            if kill:
                process.kill()
            with contextlib.suppress(OSError):
                process.communicate()


_lock = threading.Lock()
_idle: list[ChildProcess] = []


@contextlib.contextmanager
def borrowed() -> Iterator[ChildProcess]:
    """A process of one's own for a while. One is kept for the next borrower: starting it takes half a second."""
    with _lock:
        child = _idle.pop() if _idle else ChildProcess()
    try:
        yield child
    finally:
        with _lock:
            keep = not _idle
            if keep:
                _idle.append(child)
        if not keep:
            child.close()


def call(function: Callable[[Argument], Result], argument: Argument) -> Result:
    """``function(argument)`` in another process; tried once more, in a new one, if that process ends.

    A process is also killed for want of memory that others use: what happens twice is the file's fault.

    Raises:
        ChildDied: it ended twice.
        CannotStart: it did not even start.
        Exception: whatever the function raises.
    """
    with borrowed() as child:
        try:
            return child.call(function, argument)
        except ChildDied:
            return child.call(function, argument)


@atexit.register
def _close_all() -> None:
    while _idle:
        _idle.pop().close()


def _forget() -> None:
    """A forked process has no part in the processes of its parent: two would read the same answers."""
    global _lock
    _lock = threading.Lock()
    for child in _idle:
        child._process = None
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _serve() -> None:
    """What the process does: one call after the other, until nothing more can come."""
    answers = os.fdopen(os.dup(1), "wb")
    # Ctrl-C reaches every process of a terminal: the calling one decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What libraries print must not be taken for an answer.
    os.dup2(2, 1)
    _answer(answers, None)
    while True:
        try:
            sys.path[:], job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            function, argument = pickle.loads(job)
            value: Any = (True, function(argument))
        except Exception as error:
            value = (False, error)
        try:
            _answer(answers, value)
        except BrokenPipeError:
            return
        del value


def _answer(answers: Any, value: Any) -> None:
    try:
        content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        if value is not None and not value[0]:
            pickle.loads(content)  # errors with arguments of their own are pickled, and can't be read again
    except Exception:
        content = pickle.dumps((False, RuntimeError(f"{type(value[1]).__name__}: {value[1]}")))
    answers.write(content)
    answers.flush()
