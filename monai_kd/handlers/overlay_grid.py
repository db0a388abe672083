"""Pictures of what the network finds on validation slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys as Keys

from data_prep.text import printable

from ..data import class_name
from ..plots import OverlayPanel, plot_overlays

__all__ = ["OverlayGrid"]


def _planes(*tensors: torch.Tensor, truth: torch.Tensor) -> list[np.ndarray]:
    """The first channel of each; of volumes, the slice with the most of the first true mask."""
    arrays = [np.asarray(torch.as_tensor(tensor)[0].float().cpu()) for tensor in (*tensors, truth)]
    if arrays[-1].ndim == 3:
        areas = arrays[-1].sum(axis=(0, 1))
        shown = int(areas.argmax()) if areas.any() else len(areas) // 2
        arrays = [array[..., shown] for array in arrays]
    return arrays


def _dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    total = prediction.sum() + truth.sum()
    return 2 * float((prediction * truth).sum()) / float(total) if total else float("nan")


class OverlayGrid:
    """Write a grid of slices (image, truth, prediction) whenever validation finds a new best.

    Attach it to the validation engine, after its post-processing made masks. The same slices are shown each time,
    spread evenly over the validation data; of a volume, the slice with the most of the tumour, and of several masks the
    first one.

    Args:
        path: the PNG to write.
        count: slices to show.
        class_names: name of each class number, for the captions.
        save: whether this process writes.
    """

    def __init__(self, path: str | Path, count: int = 12, class_names: Sequence[str] = (), save: bool = True) -> None:
        self.path, self.save, self.class_names = Path(path), bool(save), list(class_names)
        self.count = int(count)
        self._shown: set[int] = set()
        self._seen = 0
        self._panels: list[OverlayPanel] = []

    def attach(self, engine: Engine) -> None:
        if self.save:
            engine.add_event_handler(Events.STARTED, self._begin)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
            engine.add_event_handler(Events.COMPLETED, self._write)

    def _begin(self, engine: Engine) -> None:
        loader = engine.state.dataloader
        # Of several processes, each has a part of the slices.
        length = len(loader.dataset if loader.sampler is None else loader.sampler)
        self._shown = {int(i) for i in np.linspace(0, length - 1, min(self.count, length))}
        self._seen, self._panels = 0, []

    def _collect(self, engine: Engine) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if self._seen in self._shown:
                image, prediction, truth = _planes(output[Keys.IMAGE], output[Keys.PRED], truth=output[Keys.LABEL])
                self._panels.append(
                    OverlayPanel(
                        image=image,
                        truth=truth,
                        prediction=prediction,
                        title=f"{self._caption(item)}\nDice {_dice(prediction, truth):.2f}",
                    )
                )
            self._seen += 1

    def _caption(self, item: dict) -> str:
        named = class_name(self.class_names, int(item["class"])) if "class" in item else ""
        return f"{printable(item['source'])}  {named}".rstrip()

    def _write(self, engine: Engine) -> None:
        state = engine.state
        if state.best_metric_epoch == state.epoch:
            best = "undefined" if math.isnan(state.best_metric) else f"{state.best_metric:.3f}"
            plot_overlays(self._panels, self.path, f"epoch {state.epoch}: mean Dice {best}")
