"""The presence score of a slice: how sure a segmentation network is that the slice shows a tumour at all."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from scipy.special import expit, logit

from ..io.plain import plain_tensor

__all__ = ["PRESENCE_SCORES", "joined_presence", "log_odds", "presence_score"]

# 25 pixels of a slice of 256 × 256. As a fraction, so that the score hardly depends on the grid of the map. The
# smallest tumours of the Figshare data cover 0.1 % of a slice, which is 66 such pixels.
TOP_FRACTION = 25 / 256**2
# Scores of 0 and 1 have no logit.
_LEAST = 1e-6


def _top_k_mean(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.topk(max(1, round(TOP_FRACTION * len(pixels)))).values.mean()


PRESENCE_SCORES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "max": torch.max,
    "top_k_mean": _top_k_mean,
}
"""Name of each score to its function of the pixels of a map, (N,); names are those of ``operating_point#score``."""


def presence_score(probability: torch.Tensor, kind: str = "top_k_mean") -> float:
    """Score of one slice, between 0 and 1, from the map of the probability of tumour.

    - ``"max"``: the highest probability. A single pixel decides.
    - ``"top_k_mean"``: the mean of the k highest probabilities, wherever they lie. k is 25 for a map of 256 × 256 and
      the same fraction of any other map (6 of 128 × 128, 100 of 512 × 512), at least 1.

    A slice shows a tumour if its score is at least the threshold of the operating point, which belongs to one kind.

    Args:
        probability: the map of tumour, or of each class of tumour *without the background*; of several classes, the
            highest at each pixel counts. See `monai_kd.transforms.foreground_probabilities`.
        kind: one of `PRESENCE_SCORES`.

    Shape:
        - probability: (H, W) or (C, H, W), values in 0 … 1

    Raises:
        ValueError: the kind is unknown, or the map is empty, has another shape, or has values outside 0 … 1 or NaN.

    Example:
        >>> probability = torch.zeros(1, 256, 256)
        >>> probability[0, :5, :5] = 0.8
        >>> round(presence_score(probability), 6), round(presence_score(probability, "max"), 6)
        (0.8, 0.8)
    """
    if kind not in PRESENCE_SCORES:
        raise ValueError(f"kind of presence score must be one of {', '.join(PRESENCE_SCORES)}, got {kind!r}.")
    values = plain_tensor(probability)
    if values.ndim not in (2, 3) or not values.numel():
        raise ValueError(f"probability must be (H, W) or (C, H, W), and not empty, got {tuple(values.shape)}.")
    pixels = values.float()
    pixels = (pixels if values.ndim == 2 else pixels.amax(0)).flatten()
    # NaN is not within the bounds either.
    if not bool(((pixels >= 0) & (pixels <= 1)).all()):
        raise ValueError("probability must lie between 0 and 1; apply the sigmoid or softmax first.")
    return float(PRESENCE_SCORES[kind](pixels))


def log_odds(scores: np.ndarray) -> np.ndarray:
    """The logit of scores from 0 to 1, of which 0 and 1 themselves would have none.

    Example:
        >>> log_odds(np.array([0.0, 0.5, 1.0])).round(1)
        array([-13.8,   0. ,  13.8])
    """
    return logit(np.clip(np.asarray(scores, dtype=float), _LEAST, 1 - _LEAST))


def joined_presence(scores: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    r"""Presence scores of slices that a classifier was asked about, too.

    .. math:: \operatorname{logit} s' = \tfrac12 (\operatorname{logit} s + \operatorname{logit} p)

    Log-odds of two readers add up where their errors are independent; the half keeps the scale, and changes no order.

    Args:
        scores: of the segmentation, from 0 to 1, see `presence_score`.
        probabilities: of a tumour by the classifier, of the same shape.

    Returns:
        the same shape.

    Example:
        >>> joined_presence(np.array([0.9, 0.9]), np.array([0.9, 0.1])).round(3)
        array([0.9, 0.5])
    """
    return expit((log_odds(scores) + log_odds(probabilities)) / 2)
