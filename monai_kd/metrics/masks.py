"""How well one predicted mask fits the true one, in the geometry of the file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from monai.metrics import (
    compute_average_surface_distance,
    compute_confusion_matrix_metric,
    compute_dice,
    compute_hausdorff_distance,
    compute_iou,
    get_confusion_matrix,
)

from ..io.plain import plain_tensor

__all__ = [
    "MASK_METRICS",
    "OVERLAP",
    "SIZES",
    "VOLUME_METRICS",
    "class_columns",
    "mask_metrics",
    "masks_metrics",
    "metrics_of",
    "sizes_of",
]

OVERLAP: dict[str, str] = {
    "dice": "",
    "iou": "",
    "sensitivity": "",
    "precision": "",
    "hd95_mm": "mm",
    "surface_distance_mm": "mm",
}
# Of the true and of the predicted mask, by the number of spatial axes.
_SIZES = {
    2: {"truth_area_mm2": "mm²", "predicted_area_mm2": "mm²"},
    3: {"truth_volume_ml": "ml", "predicted_volume_ml": "ml"},
}
_UNITS_MM = {2: 1.0, 3: 1000.0}
SIZES: tuple[str, ...] = tuple(name for sizes in _SIZES.values() for name in sizes)
MASK_METRICS: dict[str, str] = {**OVERLAP, **_SIZES[2]}
"""Name of each metric of a slice and its unit, in the order of every table."""
VOLUME_METRICS: dict[str, str] = {**OVERLAP, **_SIZES[3]}
"""Those of a volume."""


def metrics_of(row: Mapping[str, Any]) -> dict[str, str]:
    """`MASK_METRICS` or `VOLUME_METRICS`, whichever a row has."""
    return {**OVERLAP, **_SIZES[3 if next(iter(_SIZES[3])) in row else 2]}


def sizes_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """The names of the sizes of the true and of the predicted mask in a row."""
    truth, predicted = (name for name in metrics_of(row) if name in SIZES)
    return truth, predicted


def mask_metrics(prediction: torch.Tensor, truth: torch.Tensor, spacing: Sequence[float]) -> dict[str, float | None]:
    r"""Overlap, surface distances and areas, or volumes, of a predicted mask P and a true mask T.

    .. math::
        \mathrm{dice} = \frac{2|P ∩ T|}{|P| + |T|} \quad
        \mathrm{iou} = \frac{|P ∩ T|}{|P ∪ T|} \quad
        \mathrm{sensitivity} = \frac{|P ∩ T|}{|T|} \quad
        \mathrm{precision} = \frac{|P ∩ T|}{|P|}

    The surface ∂M of a mask is its pixels that share an edge, or voxels that share a face, with one outside it; what
    lies beyond the image is outside. d(p, ∂T) is the distance from the middle of pixel p to that of the nearest pixel
    of ∂T, in mm.

    .. math::
        \mathrm{hd95} = \max\bigl(Q_{95}\{d(p, ∂T) : p ∈ ∂P\},\; Q_{95}\{d(t, ∂P) : t ∈ ∂T\}\bigr) \quad
        \mathrm{surface\_distance} = \frac{\sum_{p ∈ ∂P} d(p, ∂T) + \sum_{t ∈ ∂T} d(t, ∂P)}{|∂P| + |∂T|}

    Where an equation divides by zero or measures from a surface that is not there, the metric is ``None``: precision
    and both distances of an empty prediction, sensitivity and both distances of an empty truth, Dice and IoU when both
    are empty.

    Args:
        prediction: predicted mask, foreground where not 0.
        truth: true mask, foreground where not 0.
        spacing: size of a pixel along each axis, in mm.

    Shape:
        - prediction and truth: (H, W), or (H, W, D) of a volume, the same size.

    Returns:
        The metrics of `MASK_METRICS`, or of a volume those of `VOLUME_METRICS`.

    Raises:
        ValueError: the masks differ in size or are neither 2-D nor 3-D, or the spacing is not a positive number for
            each axis.

    Example:
        >>> truth, prediction = torch.zeros(8, 8), torch.zeros(8, 8)
        >>> truth[2:6, 2:6] = 1
        >>> prediction[2:6, 4:8] = 1
        >>> metrics = mask_metrics(prediction, truth, (0.5, 0.5))
        >>> metrics["dice"], metrics["hd95_mm"], metrics["truth_area_mm2"]
        (0.5, 1.0, 4.0)
    """
    axes = prediction.ndim
    if axes not in _SIZES or prediction.shape != truth.shape:
        raise ValueError(
            f"prediction and truth must be (H, W) or (H, W, D) of one size, got {tuple(prediction.shape)} and "
            f"{tuple(truth.shape)}."
        )
    spacing = [float(length) for length in spacing]
    if len(spacing) != axes or not all(math.isfinite(length) and length > 0 for length in spacing):
        raise ValueError(f"spacing must be {axes} positive numbers, in mm, got {spacing}.")
    predicted, true = _batch(prediction), _batch(truth)
    no_prediction, no_truth = not predicted.any(), not true.any()
    values: dict[str, float | None] = {**dict.fromkeys(OVERLAP), **_sizes(true, predicted, spacing)}
    if not (no_prediction and no_truth):
        values["dice"] = float(compute_dice(predicted, true, ignore_empty=False))
        values["iou"] = float(compute_iou(predicted, true, ignore_empty=False))
    counts = get_confusion_matrix(predicted, true)
    if not no_truth:
        values["sensitivity"] = float(compute_confusion_matrix_metric("sensitivity", counts))
    if not no_prediction:
        values["precision"] = float(compute_confusion_matrix_metric("precision", counts))
    if not (no_prediction or no_truth):
        values["hd95_mm"] = float(compute_hausdorff_distance(predicted, true, percentile=95, spacing=spacing))
        values["surface_distance_mm"] = float(
            compute_average_surface_distance(predicted, true, symmetric=True, spacing=spacing)
        )
    return values


def class_columns(mask_names: Sequence[str]) -> dict[str, str]:
    """What is appended to the name of a metric to give its column, for each class of several; nothing for one class.

    Example:
        >>> class_columns(["glioma", "oedema"]), class_columns(["tumour"])
        ({'glioma': '_glioma', 'oedema': '_oedema'}, {})
    """
    return {name: f"_{name}" for name in mask_names} if len(mask_names) > 1 else {}


def masks_metrics(
    predictions: torch.Tensor, truths: torch.Tensor, spacing: Sequence[float], mask_names: Sequence[str]
) -> dict[str, float | None]:
    """`mask_metrics` of every class, and over the classes.

    Over the classes, a metric is the mean of those classes for which it is defined; an area or volume is that of all
    classes together, in which pixels of two classes count once.

    Args:
        predictions, truths: a mask for each class, foreground where not 0.
        spacing: size of a pixel along each axis, in mm.
        mask_names: C names.

    Shape:
        - predictions and truths: (C, H, W), or (C, H, W, D) of a volume, the same size.

    Returns:
        For one class what `mask_metrics` gives. For several the same over the classes, then ``<metric>_<class>``
        class by class.

    Raises:
        ValueError: there are more or fewer masks than names, or as for `mask_metrics`.

    Example:
        >>> truths = torch.zeros(2, 4, 4)
        >>> truths[0, :2] = 1
        >>> metrics = masks_metrics(truths, truths, (1, 1), ["glioma", "oedema"])
        >>> metrics["dice"], metrics["dice_glioma"], metrics["dice_oedema"]
        (1.0, 1.0, None)
    """
    if not len(predictions) == len(truths) == len(mask_names):
        raise ValueError(
            f"predictions and truths must be (C, H, W …) with a mask for each of {', '.join(mask_names)}, got "
            f"{tuple(predictions.shape)} and {tuple(truths.shape)}."
        )
    each = {
        name: mask_metrics(prediction, truth, spacing)
        for name, prediction, truth in zip(mask_names, predictions, truths, strict=True)
    }
    columns = class_columns(mask_names)
    if not columns:
        return each[mask_names[0]]
    values: dict[str, float | None] = {}
    for metric in OVERLAP:
        defined = [value for own in each.values() if (value := own[metric]) is not None]
        values[metric] = math.fsum(defined) / len(defined) if defined else None
    values |= _sizes((truths != 0).any(0), (predictions != 0).any(0), spacing)
    for name, ending in columns.items():
        values |= {f"{metric}{ending}": value for metric, value in each[name].items()}
    return values


def _sizes(truth: torch.Tensor, prediction: torch.Tensor, spacing: Sequence[float]) -> dict[str, float]:
    unit = math.prod(map(float, spacing)) / _UNITS_MM[len(spacing)]
    both = (float(mask.sum(dtype=torch.float64)) * unit for mask in (truth, prediction))
    return dict(zip(_SIZES[len(spacing)], both, strict=True))


def _batch(mask: torch.Tensor) -> torch.Tensor:
    return (plain_tensor(mask) != 0).float()[None, None].cpu()
