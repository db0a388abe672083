"""Inference on slices and volumes by networks that may return more than logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import chain, combinations
from typing import Any, Protocol

import torch
from monai.inferers import Inferer
from torch import nn

from ..io.plain import plain_tensor
from ..networks.half_weights import LastHalfWeights
from ..networks.outputs import main_logits
from .precision import autocast

__all__ = ["LogitsInferer", "PlanarInferer", "mirrored"]


class Watcher(Protocol):
    """Looks at what passes through a network, such as `Familiarity` and `OwnClasses` of `monai_kd.inference`."""

    def watching(self, network: nn.Module) -> AbstractContextManager[None]: ...


class LogitsInferer(Inferer):
    """One of MONAI's inferers for a network that may return more than logits, in mixed precision on any device.

    The inferer gets only the main logits (`monai_kd.engines.main_logits`), in float32.

    Args:
        inferer: such as ``monai.inferers.SlidingWindowInferer``.
        amp: autocast on the device of the input, see `monai_kd.engines.autocast`.
        mirror: spatial axes to average over mirrored images, see `mirrored`.

    Shape:
        - input: (B, C, spatial axes …)
        - output: (B, classes, spatial axes …)

    Raises:
        TypeError: the network returned no logits.
        ValueError: ``mirror`` is no such list; when called, the logits are not finite.

    Example:
        >>> from monai.inferers import SlidingWindowInferer
        >>> net = lambda x: (x[:, :1], "hidden")
        >>> LogitsInferer(SlidingWindowInferer(roi_size=(4, 4, 4)))(torch.zeros(1, 2, 8, 8, 6), net).shape
        torch.Size([1, 1, 8, 8, 6])
    """

    def __init__(self, inferer: Inferer, amp: bool = False, mirror: Sequence[int] = ()) -> None:
        self.inferer = inferer
        self.amp = bool(amp)
        self.mirror = _axes(mirror, 3)
        self._run = LastHalfWeights()

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args, **kwargs) -> torch.Tensor:
        def logits(image: torch.Tensor, *args, **kwargs) -> torch.Tensor:
            with autocast(image.device, self.amp):
                output = self._run(network, image, *args, **kwargs)
            return main_logits(output, network, image.ndim).float()

        def averaged(image: torch.Tensor, *args, **kwargs) -> torch.Tensor:
            return mirrored(image, lambda seen: logits(seen, *args, **kwargs), self.mirror)

        return _finite(self.inferer(plain_tensor(inputs), averaged, *args, **kwargs))


class PlanarInferer(Inferer):
    """Run a 2-D network on images, or on the slices of volumes, in mixed precision on any device.

    A 4-D batch is processed as it is; a 5-D one slice by slice along its last axis, a few slices at a time. The main
    logits (`monai_kd.engines.main_logits`) are returned in float32.

    Args:
        amp: autocast on the device of the input, see `monai_kd.engines.autocast`.
        slices_per_batch: number of slices of a volume that run at once.
        mirror: axes of the slice, of 0 and 1, to average over mirrored images, see `mirrored`.
        familiarity: remembers the features of the slices, for `monai_kd.inference.JudgeInputd`.
        reader: remembers what the network says of their classes, for `monai_kd.inference.JudgePresenced`.

    Shape:
        - input: (B, C, H, W) or (B, C, H, W, D)
        - output: (B, classes, H, W) or (B, classes, H, W, D); of a classifier (B, classes) or (B, classes, D)

    Raises:
        TypeError: the network returned no logits.
        ValueError: ``mirror`` is no such list; when called, the input has another number of axes, or the logits are not
            finite.

    Example:
        >>> PlanarInferer()(torch.zeros(1, 3, 8, 8, 5), torch.nn.Conv2d(3, 1, 1)).shape
        torch.Size([1, 1, 8, 8, 5])
    """

    def __init__(
        self,
        amp: bool = False,
        slices_per_batch: int = 16,
        mirror: Sequence[int] = (),
        familiarity: Watcher | None = None,
        reader: Watcher | None = None,
    ) -> None:
        self.amp = bool(amp)
        self.slices_per_batch = int(slices_per_batch)
        self.mirror = _axes(mirror, 2)
        self.watchers = [each for each in (familiarity, reader) if each is not None]
        self._run = LastHalfWeights()

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args, **kwargs) -> torch.Tensor:
        image = plain_tensor(inputs)
        if image.ndim not in (4, 5):
            raise ValueError(f"expected (B, C, H, W) or (B, C, H, W, D), got {tuple(image.shape)}.")
        slices = image.movedim(-1, 1).flatten(0, 1).split(self.slices_per_batch) if image.ndim == 5 else [image]

        def of(part: torch.Tensor) -> torch.Tensor:
            return main_logits(self._run(network, part, *args, **kwargs), network, part.ndim).float()

        with ExitStack() as stack:
            stack.enter_context(autocast(image.device, self.amp))
            if isinstance(network, nn.Module):
                for watcher in self.watchers:
                    stack.enter_context(watcher.watching(network))
            logits = [mirrored(part, of, self.mirror) for part in slices]
        found = _finite(logits[0] if image.ndim == 4 else torch.cat(logits))
        if image.ndim == 5:
            found = found.unflatten(0, (image.shape[0], image.shape[-1])).movedim(1, -1)
        return found


def mirrored(
    image: torch.Tensor, logits: Callable[[torch.Tensor], torch.Tensor], mirror: Sequence[int]
) -> torch.Tensor:
    """Logits averaged over an image and its mirror images along every combination of axes: 2ⁿ passes for n axes.

    Args:
        image: (B, C, spatial axes …).
        logits: a function of the image with logits of the same spatial axes, which are mirrored back, or (B, classes).
        mirror: spatial axes, from 0; none: one pass.

    Example:
        >>> mirrored(torch.tensor([[[1.0, 5.0]]]), lambda x: x * torch.tensor([1.0, 3.0]), [0])
        tensor([[[ 2., 10.]]])
    """
    total = logits(image)
    subsets = list(chain.from_iterable(combinations(mirror, count) for count in range(1, len(mirror) + 1)))
    for axes in subsets:
        dims = [2 + axis for axis in axes]
        found = logits(image.flip(dims))
        total = total + (found.flip(dims) if found.ndim == image.ndim else found)
    return total / (1 + len(subsets)) if subsets else total


def mirrored_logits(network: nn.Module, image: torch.Tensor, mirror: Sequence[int]) -> torch.Tensor:
    """The main logits of a network, `mirrored`, without autocast, checks or memory: what can be exported.

    Example:
        >>> mirrored_logits(nn.Identity(), torch.ones(1, 2, 4, 4), [0]).shape
        torch.Size([1, 2, 4, 4])
    """
    return mirrored(image, lambda seen: main_logits(network(seen), network, seen.ndim), mirror)


def _axes(mirror: Sequence[int], count: int) -> list[int]:
    axes: list[Any] = list(mirror) if isinstance(mirror, (list, tuple)) else [mirror]
    if not all(type(axis) is int and 0 <= axis < count for axis in axes) or len(set(axes)) < len(axes):
        raise ValueError(f"mirror must be a list of different axes from 0 to {count - 1}, got {mirror!r}.")
    return axes


def _finite(logits: torch.Tensor) -> torch.Tensor:
    # NaN is below every threshold: it would look like "no tumour found".
    if not torch.isfinite(logits).all():
        raise ValueError(
            "the network returned logits that are not finite: its weights are broken, or amp=False is needed."
        )
    return logits
