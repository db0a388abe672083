"""Area under the ROC curve of resampled patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["auc_of_resamples"]


def auc_of_resamples(
    scores: np.ndarray, present: np.ndarray, members: Sequence[np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    """Area under the ROC curve, of slices, as a function of how often each patient is taken.

    Args:
        scores: (N,), the presence score of each slice.
        present: (N,), whether a slice has a tumour.
        members: for each of P patients the numbers of its slices.

    Returns:
        A function of the numbers of times, (B, P), with the areas, (B,); NaN where there are no pairs.
    """
    # wins[i, j]: pairs of a slice with a tumour of patient i and one without of patient j that are in the right order.
    wins = np.zeros((len(members), len(members)))
    for i, own in enumerate(members):
        for j, other in enumerate(members):
            above, below = scores[own[present[own]]][:, None], scores[other[~present[other]]]
            wins[i, j] = (above > below).sum() + 0.5 * (above == below).sum()
    positives, negatives = (np.array([chosen[own].sum() for own in members]) for chosen in (present, ~present))

    def areas(times: np.ndarray) -> np.ndarray:
        pairs = (times @ positives) * (times @ negatives)
        return np.divide(((times @ wins) * times).sum(1), pairs, out=np.full(len(times), np.nan), where=pairs > 0)

    return areas
