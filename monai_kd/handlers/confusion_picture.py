"""The confusion matrix of the validation slices, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys as Keys

from ..metrics import confusion_matrix
from ..plots import plot_confusion

__all__ = ["ConfusionPicture"]


class ConfusionPicture:
    """Draw the confusion matrix after each new best validation.

    Attach it to the validation engine, whose output has logits or probabilities (C,) in ``pred`` and the class number
    in ``label``. With DDP every process must attach it, since the counts are summed over the processes.

    Args:
        path: the PNG to write.
        class_names: name of each class number.
        save: whether this process writes.
        title: first line of the title.
    """

    def __init__(self, path: str | Path, class_names: Sequence[str], save: bool = True, title: str = "") -> None:
        self.path, self.class_names, self.save = Path(path).expanduser(), list(class_names), bool(save)
        self.title = title
        self._true: list[int] = []
        self._predicted: list[int] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _begin(self, _engine: Engine) -> None:
        self._true, self._predicted = [], []

    def _collect(self, engine: Any) -> None:
        for output in engine.state.output:
            self._true.append(int(output[Keys.LABEL]))
            self._predicted.append(int(output[Keys.PRED].argmax()))

    def _write(self, engine: Any) -> None:
        state = engine.state
        counts = confusion_matrix(self._true, self._predicted, len(self.class_names))
        # Before any condition that may differ between processes, since all of them must take part.
        matrix = torch.as_tensor(idist.all_reduce(torch.as_tensor(counts, device=idist.device()))).cpu().numpy()
        if self.save and state.best_metric_epoch == state.epoch:
            title = f"{self.title}\nepoch {state.epoch}: accuracy {float(state.best_metric):.3f}".strip()
            plot_confusion(matrix, self.class_names, self.path, title)
