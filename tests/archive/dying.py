"""Data sets at one file of which a process ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from monai_kd.inference import ReadableDataset


class DyingDataset(ReadableDataset):
    """`ReadableDataset` that kills its process when it reaches ``at``, unless the file ``mark`` exists."""

    def __init__(self, data: Any, transform: Any, at: str, mark: str) -> None:
        super().__init__(data, transform)
        self.at, self.mark = at, Path(mark)

    def _transform(self, index: int) -> Any:
        if self.data[index]["file"] == self.at and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._transform(index)


class StoppingDataset(ReadableDataset):
    """`ReadableDataset` that terminates another process before its first item and waits, unless ``mark`` exists."""

    def __init__(self, data: Any, transform: Any, command: int, mark: str) -> None:
        super().__init__(data, transform)
        self.command, self.mark = command, Path(mark)

    def _transform(self, index: int) -> Any:
        if not self.mark.exists():
            self.mark.write_text(str(os.getpid()))
            os.kill(self.command, signal.SIGTERM)
            time.sleep(600)
        return super()._transform(index)
