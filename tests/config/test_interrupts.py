"""An interrupt where Python can't raise it."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import partial

import pytest

PROGRAM = """
import signal, time, weakref
from monai_kd.config import heed_interrupts
{heeded}
class Freed: pass
def callback(_):
    signal.raise_signal(signal.SIGINT)
    for _ in range(100): pass
freed = Freed()
reference = weakref.ref(freed, callback)
try:
    del freed
    time.sleep({wait})
    print("went on")
except KeyboardInterrupt:
    print("stopped")
"""


@pytest.mark.parametrize(
    ("heeded", "end", "wait"), [("", "went on", 1), ("heed_interrupts()", "stopped", 60)], ids=["without", "with"]
)
def test_an_interrupt_in_a_callback_is_not_lost(heeded: str, end: str, wait: float) -> None:
    # Tests may run in the background of a shell, which lets their children ignore it.
    heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    command = [sys.executable, "-c", PROGRAM.format(heeded=heeded, wait=wait)]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=heeding)
    assert done.stdout.strip() == end
    assert ("Exception ignored" in done.stderr) == (not heeded)


def test_other_errors_in_a_callback_are_printed() -> None:
    program = PROGRAM.format(heeded="heed_interrupts()", wait=0).replace("signal.raise_signal(signal.SIGINT)", "1 / 0")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "went on"
    assert "ZeroDivisionError" in done.stderr
