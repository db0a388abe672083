"""Batches of images and their classes, optionally with mixup."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from monai.transforms import MixUp

from ..io.plain import plain_tensor

__all__ = ["ClassBatch"]


class ClassBatch:
    r"""``prepare_batch`` for classification: the image under ``image``, the class number under ``class``.

    With mixup (Zhang et al. 2018, https://arxiv.org/abs/1710.09412) a batch is blended with itself in another order,
    images and one-hot classes alike:

    .. math:: \tilde x = λ x_i + (1 - λ) x_j, \quad \tilde y = λ y_i + (1 - λ) y_j, \quad λ \sim \mathrm{Beta}(a, a)

    A teacher gets the blended image too. All randomness comes from torch's generator, so that `EpochSeed` fixes it.

    Args:
        num_classes: C.
        mixup: a, 0 for none.

    Shape:
        - image: (B, channels, H, W)
        - class: (B,)
        - output: the image, and (B,) class numbers, with mixup (B, C) probabilities

    Raises:
        ValueError: ``mixup`` is negative, or, when called, a class is not one of 0 … C − 1, or an item of a batch with
            mixup has no label (``labelled`` is false).

    Example:
        >>> batch = {"image": torch.ones(4, 3, 8, 8), "class": torch.tensor([0, 1, 2, 2])}
        >>> image, target = ClassBatch(3, mixup=0.4)(batch)
        >>> target.shape, bool(torch.allclose(target.sum(dim=1), torch.ones(4)))
        (torch.Size([4, 3]), True)
    """

    def __init__(self, num_classes: int, mixup: float = 0.0) -> None:
        if mixup < 0:
            raise ValueError(f"mixup must be 0 or more, got {mixup}.")
        self.num_classes, self.mixup = int(num_classes), float(mixup)

    def __call__(
        self,
        batch: Mapping[str, torch.Tensor],
        device: torch.device | str | None = None,
        non_blocking: bool = False,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        image, target = batch["image"], torch.as_tensor(batch["class"])
        if target.numel() and not 0 <= int(target.min()) <= int(target.max()) < self.num_classes:
            raise ValueError(f"classes must be 0 to {self.num_classes - 1}, got {sorted(set(target.tolist()))}.")
        if self.mixup > 0:
            if not torch.as_tensor(batch.get("labelled", True)).all():
                raise ValueError("mixup blends labels, and some images have none: set mixup to 0.")
            blend = MixUp(batch_size=len(image), alpha=self.mixup)
            blend.set_random_state(seed=int(torch.randint(2**31, (1,))))
            # A batch of MetaTensors, as made by random transforms, can't be indexed by the permutation, an array.
            image = plain_tensor(image)
            # MixUp takes images: classes as images of one pixel.
            classes = F.one_hot(target, self.num_classes).float()[:, :, None, None]
            blend.randomize()
            # MONAI draws the weights on the CPU, and the image is where it was augmented.
            weights, order, places = blend._params
            blend._params = (weights.to(image.device), order, places)
            image, mixed = blend(image, classes.to(image.device), randomize=False)
            target = mixed[:, :, 0, 0]
        return (
            image.to(device=device, non_blocking=non_blocking, **kwargs),
            target.to(device=device, non_blocking=non_blocking),
        )
