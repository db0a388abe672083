"""How well one predicted mask fits the true one, in the geometry of the file."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.data import MetaTensor
from monai.metrics import (
    compute_average_surface_distance,
    compute_confusion_matrix_metric,
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    get_confusion_matrix,
)

__all__ = ["METRICS", "mask_metrics"]

METRICS: dict[str, str] = {
    "dice": "",
    "iou": "",
    "sensitivity": "",
    "precision": "",
    "hd95_mm": "mm",
    "surface_distance_mm": "mm",
    "truth_area_mm2": "mm²",
    "predicted_area_mm2": "mm²",
}
"""Name of each metric and its unit, in the order of every table."""


def mask_metrics(prediction: torch.Tensor, truth: torch.Tensor, spacing: Sequence[float]) -> dict[str, float | None]:
    r"""Overlap, surface distances and areas of a predicted mask P and a true mask T.

    .. math::
        \mathrm{dice} = \frac{2|P ∩ T|}{|P| + |T|} \quad
        \mathrm{iou} = \frac{|P ∩ T|}{|P ∪ T|} \quad
        \mathrm{sensitivity} = \frac{|P ∩ T|}{|T|} \quad
        \mathrm{precision} = \frac{|P ∩ T|}{|P|}

    The surface ∂M of a mask is its pixels that have a 4-neighbour outside it; what lies beyond the image is outside.
    d(p, ∂T) is the distance from the middle of pixel p to that of the nearest pixel of ∂T, in mm.

    .. math::
        \mathrm{hd95} = \max\bigl(Q_{95}\{d(p, ∂T) : p ∈ ∂P\},\; Q_{95}\{d(t, ∂P) : t ∈ ∂T\}\bigr) \quad
        \mathrm{surface\_distance} = \frac{\sum_{p ∈ ∂P} d(p, ∂T) + \sum_{t ∈ ∂T} d(t, ∂P)}{|∂P| + |∂T|}

    Where an equation divides by zero or measures from a surface that is not there, the metric is ``None``: precision
    and both distances of an empty prediction, sensitivity and both distances of an empty truth, Dice and IoU when both
    are empty.

    Args:
        prediction: predicted mask, foreground where not 0.
        truth: true mask, foreground where not 0.
        spacing: size of a pixel along both axes, in mm.

    Shape:
        - prediction and truth: (H, W), the same size.

    Raises:
        ValueError: the masks differ in size or are not 2-D, or the spacing is not two positive numbers.

    Example:
        >>> truth, prediction = torch.zeros(8, 8), torch.zeros(8, 8)
        >>> truth[2:6, 2:6] = 1
        >>> prediction[2:6, 4:8] = 1
        >>> metrics = mask_metrics(prediction, truth, (0.5, 0.5))
        >>> metrics["dice"], metrics["hd95_mm"], metrics["truth_area_mm2"]
        (0.5, 1.0, 4.0)
    """
    if prediction.ndim != 2 or prediction.shape != truth.shape:
        raise ValueError(
            f"prediction and truth must be (H, W) of one size, got {tuple(prediction.shape)} and {tuple(truth.shape)}."
        )
    spacing = [float(length) for length in spacing]
    if len(spacing) != 2 or not all(math.isfinite(length) and length > 0 for length in spacing):
        raise ValueError(f"spacing must be two positive numbers, in mm, got {spacing}.")
    found, wanted = _batch(prediction), _batch(truth)
    empty, nothing = not found.any(), not wanted.any()
    values: dict[str, float | None] = dict.fromkeys(METRICS)
    pixel = spacing[0] * spacing[1]
    values["truth_area_mm2"] = float(wanted.sum(dtype=torch.float64)) * pixel
    values["predicted_area_mm2"] = float(found.sum(dtype=torch.float64)) * pixel
    if not (empty and nothing):
        values["dice"] = float(compute_dice(found, wanted, ignore_empty=False))
        values["iou"] = float(compute_iou(found, wanted, ignore_empty=False))
    counts = get_confusion_matrix(found, wanted)
    if not nothing:
        values["sensitivity"] = float(compute_confusion_matrix_metric("sensitivity", counts))
    if not empty:
        values["precision"] = float(compute_confusion_matrix_metric("precision", counts))
    if not (empty or nothing):
        values["hd95_mm"] = float(compute_hausdorff_distance(found, wanted, percentile=95, spacing=spacing))
        values["surface_distance_mm"] = float(
            compute_average_surface_distance(found, wanted, symmetric=True, spacing=spacing)
        )
    return values


def _batch(mask: torch.Tensor) -> torch.Tensor:
    # Every operation on a MetaTensor is several times slower.
    plain = mask.as_tensor() if isinstance(mask, MetaTensor) else mask
    return (plain != 0).float()[None, None].cpu()
