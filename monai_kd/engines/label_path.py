"""Batches whose label is read after the prediction, on the grid of its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.utils.enums import CommonKeys

__all__ = ["LabelPath"]


class LabelPath:
    """As MONAI's ``prepare_batch``, for batches whose label is a path: the image moves, the label is kept.

    For evaluation, whose post-processing reads the masks at the size of their files.

    Returns of a call:
        ``(image, label)``: (B, C, spatial axes …) on the device, and B paths.

    Example:
        >>> LabelPath()({"image": torch.zeros(1, 1, 4, 4), "label": ["a.png"]}, device="cpu")[1]
        ['a.png']
    """

    def __call__(
        self,
        batchdata: Mapping[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, Sequence[str]]:
        image = batchdata[CommonKeys.IMAGE].to(device=device, non_blocking=non_blocking, **kwargs)
        return image, batchdata[CommonKeys.LABEL]
