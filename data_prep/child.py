"""Call functions in a child process, so that a file that crashes its reader does not crash the caller.

Damaged HDF5 files can crash the HDF5 library itself, without a Python exception.
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
from typing import IO, Any, NamedTuple, TypeVar

__all__ = ["CannotStart", "ChildDied", "ChildProcess", "borrowed", "call", "close_idle"]

Argument = TypeVar("Argument")
Result = TypeVar("Result")

BEGIN = "import sys; sys.path[:] = {path!r}; from data_prep.child import _serve; _serve()"


class ChildDied(Exception):
    """The child process ended during a call; the message gives its signal or exit code."""


class CannotStart(Exception):
    """The child process could not be started."""


class _Running(NamedTuple):
    process: subprocess.Popen[bytes]
    calls: IO[bytes]
    answers: IO[bytes]


class ChildProcess:
    """A Python process that calls functions, one at a time; it starts with the first call and ends with this process.

    It uses `subprocess` rather than `multiprocessing`, which can't start processes in the daemonic workers of a
    ``DataLoader`` and imports the main module of the calling program.
    """

    def __init__(self) -> None:
        self._running: _Running | None = None

    def call(self, function: Callable[[Argument], Result], argument: Argument) -> Result:
        """Return ``function(argument)``; both are pickled, so the function must be at the top level of a module.

        Raises:
            ChildDied: the process ended during the call. The next call starts a new process.
            CannotStart: the process could not be started.
            Exception: whatever the function raises.
        """
        # Paths in the argument are relative to the folder of now, not to that in which the process was started.
        here = (sys.path, _working_folder())
        job = pickle.dumps((here, pickle.dumps((function, argument), pickle.HIGHEST_PROTOCOL)))
        if self._running is None:
            self._running = self._started()
        try:
            self._running.calls.write(job)
            self._running.calls.flush()
            done, value = pickle.load(self._running.answers)
        except (EOFError, OSError, pickle.UnpicklingError):
            raise ChildDied(self._exit_status()) from None
        except BaseException:
            # Interrupted while reading an answer: the rest of it must not be read as the answer of the next call.
            self.close(kill=True)
            raise
        if not done:
            raise value
        return value

    def _started(self) -> _Running:
        code = BEGIN.format(path=sys.path)
        process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None, "it is a pipe"
        assert process.stdout is not None, "it is a pipe"
        try:
            pickle.load(process.stdout)
        except EOFError:
            process.communicate()
            raise CannotStart(f"a worker process could not be started (exit code {process.returncode})") from None
        return _Running(process, process.stdin, process.stdout)

    def _exit_status(self) -> str:
        running, self._running = self._running, None
        assert running is not None, "it was called"
        with contextlib.suppress(OSError):
            running.calls.close()
        running.answers.close()
        code = running.process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def close(self, kill: bool = False) -> None:
        """End the process; the next call starts a new one."""
        running, self._running = self._running, None
        if running is not None:
            if kill:
                running.process.kill()
            with contextlib.suppress(OSError):
                running.process.communicate()


def _working_folder() -> str | None:
    """``None`` where it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


_lock = threading.Lock()
_idle: list[ChildProcess] = []


@contextlib.contextmanager
def borrowed() -> Iterator[ChildProcess]:
    """Lend a child process for exclusive use. One is kept for the next borrower: starting it takes half a second."""
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
    """Return ``function(argument)``, computed in a child process; retried once, in a new one, if that process ends.

    The system may also kill a process because other programs use up the memory: only what fails twice is blamed on the
    argument.

    Raises:
        ChildDied: the process ended twice.
        CannotStart: the process could not be started.
        Exception: whatever the function raises.
    """
    with borrowed() as child:
        try:
            return child.call(function, argument)
        except ChildDied:
            return child.call(function, argument)


@atexit.register
def close_idle() -> None:
    """End the processes that no one has borrowed; the next borrower starts new ones."""
    while _idle:
        _idle.pop().close()


def _forget() -> None:
    """Drop the child processes in a forked process: they are its parent's, and two readers would mix up answers."""
    global _lock
    _lock = threading.Lock()
    for child in _idle:
        child._running = None
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _serve() -> None:
    """The main loop of a child process: one call after the other, until the input is closed."""
    answers = os.fdopen(os.dup(1), "wb")
    # Ctrl-C reaches every process of a terminal: the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What libraries print must not be read as an answer.
    os.dup2(2, 1)
    _answer(answers, None)
    while True:
        try:
            (sys.path[:], folder), job = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        try:
            if folder not in (None, _working_folder()):
                os.chdir(folder)
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
            pickle.loads(content)  # some exceptions can be pickled, but not unpickled
    except Exception:
        content = pickle.dumps((False, RuntimeError(f"{type(value[1]).__name__}: {value[1]}")))
    answers.write(content)
    answers.flush()
