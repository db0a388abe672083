"""From probabilities to masks."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import AsDiscrete, MapTransform

from ..config.checks import EXPECTED_DICE
from ..io.plain import plain_tensor

__all__ = ["DecideMaskd", "threshold_of_expected_dice"]

# Masks whose expected Dice bounds the threshold from below; any would do, and good ones leave less to be sorted.
_FIRST_TRIED = (0.5, 0.1, 0.01)


def threshold_of_expected_dice(probability: torch.Tensor) -> float:
    r"""The threshold on the probabilities of an image whose mask has the highest expected Dice.

    Of masks with k pixels, the one with the k most probable pixels has the highest expected Dice, and k is chosen to
    maximise

    .. math:: \frac{2 \sum_{i \le k} p_i}{k + \sum_i p_i}, \quad p_1 \ge p_2 \ge \dots,

    where the second sum, over all pixels, is the expected size of the truth. It is the expected Dice of pixels that are
    independent, for masks of many pixels: the expectations of numerator and denominator are taken apart. The mask has
    the pixels whose probability is at least half of that maximum (Lipton et al., Optimal thresholding of classifiers to
    maximize F1 measure, 2014): the less sure the network is of the whole image, the less does a pixel need. Dai and Li
    (RankSEG: a consistent ranking-based framework for segmentation, JMLR 24, 2023) have the exact form.

    An empty mask has the Dice 1 where the truth is empty, which has the probability :math:`\prod_i (1 - p_i)`. It is
    the mask where this is more than the maximum.

    Args:
        probability: of one class, of any shape.

    Returns:
        The least probability in the mask; infinity for an empty mask.

    Example:
        >>> sure = threshold_of_expected_dice(torch.tensor([0.75, 0.75, 0.25, 0.0]))
        >>> unsure = threshold_of_expected_dice(torch.full((64,), 0.25))
        >>> nothing = threshold_of_expected_dice(torch.full((64,), 0.001))
        >>> sure, unsure, nothing
        (0.75, 0.25, inf)
    """
    flat = plain_tensor(probability).flatten().cpu().double()
    size = flat.sum()
    likely = flat[flat >= _FIRST_TRIED[-1]]
    tried = [likely[likely >= threshold] for threshold in _FIRST_TRIED]
    least = max(float(each.sum() / (len(each) + size)) for each in tried) if size > 0 else math.inf
    # A pixel raises the ratio only if its probability is above half of it.
    within = likely if least >= _FIRST_TRIED[-1] else flat
    found = within[within >= least].sort(descending=True).values
    expected = 2 * found.cumsum(0) / (torch.arange(1, len(found) + 1) + size)
    # The first bound of the probability of an empty truth is quick, and mostly enough.
    if not len(found) or (torch.exp(-size) > expected.max() and torch.log1p(-flat).sum().exp() > expected.max()):
        return math.inf
    return float(found[expected.argmax()])


class DecideMaskd(MapTransform):
    """Masks from probabilities: by a threshold, by the highest expected Dice, or the index of the most probable class.

    Args:
        keys: probabilities.
        argmax: the channels are background and classes that exclude each other; each pixel gets the index of the most
            probable one.
        threshold: from which on a probability is marked; or ``"expected_dice"``: in each channel the mask of
            `threshold_of_expected_dice`.
        each_slice: the last axis counts slices, each of which has a mask of its own highest expected Dice.
        ruled: whether `JudgePresenced` says afterwards which slices are marked at all.

    Shape:
        - input: (C, X, Y) or (C, X, Y, Z); output: the same, or (1, …) with ``argmax``

    Raises:
        ValueError: ``"expected_dice"`` with ``argmax``; or for slices of which no rule says whether they are marked,
            since that mask is hardly ever empty.
    """

    def __init__(
        self,
        keys: KeysCollection,
        argmax: bool = False,
        threshold: float | str = 0.5,
        each_slice: bool = False,
        ruled: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.each_slice, self._by_value = each_slice, None
        if threshold != EXPECTED_DICE:
            self._by_value = AsDiscrete(argmax=argmax, threshold=None if argmax else float(threshold))
        elif argmax:
            raise ValueError(
                f"threshold: {EXPECTED_DICE} is for a mask of one class, or of classes that may overlap; this network "
                "gives each pixel the most probable of several classes. Leave threshold out."
            )
        elif each_slice and not ruled:
            raise ValueError(
                f"threshold: {EXPECTED_DICE} marks something in nearly each slice, and nothing says which slices "
                "are to be marked: choose an operating point by an evaluation with --specificity, or give "
                "--presence_threshold 0 if each slice shows what is segmented."
            )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self._by_value(out[key]) if self._by_value else self._expected(out[key])
        return out

    def _expected(self, probability: torch.Tensor) -> torch.Tensor:
        sliced = self.each_slice and probability.ndim == 4
        parts = [[*channel.unbind(-1)] if sliced else [channel] for channel in plain_tensor(probability)]
        found = [[threshold_of_expected_dice(part) for part in channel] for channel in parts]
        chosen = torch.tensor(found, dtype=torch.float64)
        of_each = chosen.to(probability).reshape(len(parts), *(1,) * (probability.ndim - 2), -1)
        return (probability >= of_each).to(probability.dtype)
