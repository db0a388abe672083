"""Pictures of the predicted masks on validation slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys as Keys

from data_prep.text import printable

from ..data import class_name
from ..plots import OverlayPanel, plot_overlays
from ..transforms import separate_masks

__all__ = ["OverlayGrid"]


def _fullest_slice(masks: np.ndarray) -> int:
    """Index of the slice of a volume, (…, X, Y, Z), with the largest area of masks; the middle one without masks."""
    areas = masks.reshape(-1, masks.shape[-1]).sum(axis=0)
    return int(areas.argmax()) if areas.any() else len(areas) // 2


def _masks(tensor: torch.Tensor, classes: int) -> np.ndarray:
    """Masks with values 0 and 1: (X, Y) or (X, Y, Z) for one class, (C, X, Y) or (C, X, Y, Z) for several."""
    masks = np.asarray(separate_masks(torch.as_tensor(tensor).cpu(), classes).float())
    return masks[0] if classes == 1 else masks


def _dice(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Mean Dice over the classes that occur in the truth or the prediction; NaN if none occurs."""
    pairs = [(prediction, truth)] if prediction.ndim == 2 else zip(prediction, truth, strict=True)
    defined = [2 * float((p * t).sum()) / float(p.sum() + t.sum()) for p, t in pairs if p.any() or t.any()]
    return sum(defined) / len(defined) if defined else float("nan")


class OverlayGrid:
    """Write a grid of slices (image, truth, prediction) after each new best validation.

    Attach it to the validation engine, after the post-processing to masks. The same slices are shown each time, spread
    evenly over the validation data. Of a volume, the first channel of the slice with the largest true tumour is shown.

    Args:
        path: the PNG to write.
        count: number of slices.
        class_names: name of each class number, for the captions.
        save: whether this process writes.
        mask_names: names of the segmented classes; each of several has its own colour.
        title: first line of the title.
    """

    def __init__(
        self,
        path: str | Path,
        count: int = 12,
        class_names: Sequence[str] = (),
        save: bool = True,
        mask_names: Sequence[str] = ("tumour",),
        title: str = "",
    ) -> None:
        self.path, self.save, self.class_names = Path(path).expanduser(), bool(save), list(class_names)
        self.mask_names = list(mask_names)
        self.count, self.title = int(count), title
        self._shown: set[int] = set()
        self._seen = 0
        self._panels: list[OverlayPanel] = []

    def attach(self, engine: Engine) -> None:
        if self.save:
            engine.add_event_handler(Events.STARTED, self._begin)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
            engine.add_event_handler(Events.COMPLETED, self._write)

    def _begin(self, engine: Any) -> None:
        loader = engine.state.dataloader
        # With DDP, each process has a part of the slices.
        length = len(loader.dataset if loader.sampler is None else loader.sampler)
        self._shown = {int(i) for i in np.linspace(0, length - 1, min(self.count, length))}
        self._seen, self._panels = 0, []

    def _collect(self, engine: Any) -> None:
        for item, output in zip(engine.state.batch, engine.state.output, strict=True):
            if self._seen in self._shown:
                image = np.asarray(torch.as_tensor(output[Keys.IMAGE])[0].float().cpu())
                prediction, truth = (_masks(output[key], len(self.mask_names)) for key in (Keys.PRED, Keys.LABEL))
                if image.ndim == 3:
                    chosen = _fullest_slice(truth)
                    image, prediction, truth = (each[..., chosen] for each in (image, prediction, truth))
                self._panels.append(
                    OverlayPanel(
                        image=image,
                        truth=truth,
                        prediction=prediction,
                        title=f"{self._caption(item)}\nDice {_dice(prediction, truth):.2f}",
                        mask_names=self.mask_names,
                    )
                )
            self._seen += 1

    def _caption(self, item: dict) -> str:
        named = class_name(self.class_names, int(item["class"])) if "class" in item else ""
        return f"{printable(item['source'])}  {named}".rstrip()

    def _write(self, engine: Any) -> None:
        state = engine.state
        if state.best_metric_epoch == state.epoch:
            best = "undefined" if math.isnan(state.best_metric) else f"{state.best_metric:.3f}"
            title = f"{self.title}\nepoch {state.epoch}: mean Dice {best}".strip()
            plot_overlays(self._panels, self.path, title)
