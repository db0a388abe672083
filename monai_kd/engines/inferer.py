"""A 2-D network on slices and on volumes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer

from .precision import autocast

__all__ = ["PlanarInferer"]


class PlanarInferer(Inferer):
    """Run a 2-D network on images, or on the slices of volumes, in mixed precision on any device.

    A 4-D batch goes through the network as it is; a 5-D one slice by slice along its last axis, a few slices at a
    time. Logits come back in float32.

    Args:
        amp: autocast on the device of the input, see `monai_kd.engines.autocast`.
        slices_per_batch: how many slices of a volume to run at once.

    Shape:
        - input: (B, C, H, W) or (B, C, H, W, D)
        - output: (B, classes, H, W) or (B, classes, H, W, D); of a classifier (B, classes) or (B, classes, D)

    Raises:
        ValueError: the input has another number of axes, or the logits are not finite.

    Example:
        >>> PlanarInferer()(torch.zeros(1, 3, 8, 8, 5), torch.nn.Conv2d(3, 1, 1)).shape
        torch.Size([1, 1, 8, 8, 5])
    """

    def __init__(self, amp: bool = False, slices_per_batch: int = 16) -> None:
        self.amp = bool(amp)
        self.slices_per_batch = int(slices_per_batch)

    def __call__(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args, **kwargs) -> torch.Tensor:
        # Every operation on a MetaTensor is several times slower; the engines keep the metadata with the image.
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        if image.ndim not in (4, 5):
            raise ValueError(f"expected (B, C, H, W) or (B, C, H, W, D), got {tuple(image.shape)}.")
        with autocast(image.device, self.amp):
            if image.ndim == 4:
                logits = network(image, *args, **kwargs).float()
            else:
                slices = image.movedim(-1, 1).flatten(0, 1).split(self.slices_per_batch)
                logits = torch.cat([network(part, *args, **kwargs).float() for part in slices])
        # NaN is below every threshold: it would pass for "no tumour found".
        if not torch.isfinite(logits).all():
            raise ValueError(
                "the network gave logits that are not finite: its weights are broken, or amp=False is needed."
            )
        if image.ndim == 5:
            logits = logits.unflatten(0, (image.shape[0], image.shape[-1])).movedim(1, -1)
        return logits
