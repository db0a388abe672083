"""The classes that a segmentation network gives itself, asked whether its slices show a tumour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..engines import autocast
from ..engines.inferer import mirrored
from ..metrics import OWN_CLASSES, joined_presence
from ..networks.class_outputs import class_logits, returning_classes
from .seen_slices import SeenSlices

__all__ = ["OwnClasses", "gives_presence"]

AT_ONCE = 16  # slices that have not been seen


def gives_presence(network: Any, settings: Mapping[str, Any]) -> bool:
    """Whether a segmentation network has logits of its classes and, as the last one, of "no tumour".

    Args:
        network: such as `monai_kd.networks.TimmUNet` with ``classes``: one with the attribute ``classes``, the number
            of these logits, which returns them beside the masks while its attribute ``with_classes`` is true.
        settings: see `trained_settings`, with ``class_names``.
    """
    known = bool(settings.get("class_names")) and hasattr(network, "with_classes")
    return known and getattr(network, "classes", 0) == len(settings["class_names"]) + 1


class OwnClasses:
    r"""The probability, by the class head of the segmentation, that a slice shows a tumour: :math:`1 - P(\text{no tumour})`.

    A second reader, as `SecondReader`, that needs no pass of its own: it remembers what the network says of the classes
    while its masks are computed. Slices that it has not seen go through the network again.

    Args:
        network: in evaluation mode, see `gives_presence`.
        settings: of the network, of which ``class_names`` and ``mirror`` are used.
        amp: autocast, see `monai_kd.engines.autocast`.
        mirror: axes of the slice to average over, those of the masks; ``None``: those of the settings.

    Raises:
        ValueError: the network has no such classes.
    """  # noqa: E501 - the formula

    sha256 = OWN_CLASSES

    def __init__(
        self,
        network: nn.Module,
        settings: Mapping[str, Any],
        amp: bool = False,
        mirror: Sequence[int] | None = None,
    ) -> None:
        if not gives_presence(network, settings):
            raise ValueError(
                "classifier: this network gives no classes with 'no tumour' that fit its class_names, but masks alone: "
                "give a checkpoint of a classifier, or train one for both tasks, see docs/training.md."
            )
        self.network, self.amp = network, bool(amp)
        self.mirror = list(settings["mirror"] if mirror is None else mirror)
        self.class_names = list(settings["class_names"])
        self.seen = SeenSlices()

    @contextmanager
    def watching(self, network: nn.Module) -> Iterator[None]:
        """Remember what the network says of the classes of slices that go through it.

        Raises:
            ValueError: it is another network than the one whose classes are asked.
        """
        if network is not self.network:
            raise ValueError(
                "the operating point was chosen with the classes that the network gives itself, and what runs here "
                "(TorchScript, or a wrapper) gives masks alone: choose one with --classifier none in a copy of the "
                "weights, see docs/examinations.md."
            )

        def remember(_network: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            logits = class_logits(output)
            if logits is not None:
                self.seen.remember(inputs[0], logits.double())

        handle = network.register_forward_hook(remember)
        try:
            with returning_classes(network):
                yield
        finally:
            handle.remove()

    def __call__(self, images: torch.Tensor) -> np.ndarray:
        """Of each slice.

        Shape:
            - images: (B, C, H, W), as the network gets them
            - result: (B,)
        """
        with torch.no_grad():
            logits = mirrored(images, self._logits, self.mirror)
        return 1 - logits.softmax(dim=1)[:, -1].numpy()

    def _logits(self, images: torch.Tensor) -> torch.Tensor:
        found = self.seen.recall_each(images)
        missing = [number for number, row in enumerate(found) if row is None]
        for some in (missing[start : start + AT_ONCE] for start in range(0, len(missing), AT_ONCE)):
            for number, row in zip(some, self._pass(images[some]), strict=True):
                found[number] = row
        return torch.stack([row for row in found if row is not None])

    def _pass(self, images: torch.Tensor) -> torch.Tensor:
        images = images.to(next(self.network.parameters()).device).float()
        with autocast(images.device, self.amp), returning_classes(self.network):
            logits = class_logits(self.network(images))
        if logits is None:
            raise TypeError(f"{type(self.network).__name__} returned no classes while its with_classes was true.")
        self.seen.remember(images, logits.double())
        return logits.double().cpu()

    def joined(self, scores: np.ndarray, images: torch.Tensor) -> np.ndarray:
        """Presence scores (B,) of the masks together with those of the classes, see `joined_presence`."""
        return joined_presence(scores, self(images))

    def save(self, path: str | Path) -> None:
        """Nothing: it is within the weights of the segmentation. A file of an earlier classifier is removed."""
        Path(path).unlink(missing_ok=True)
