"""How far the features of an image lie from those that a network was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["FeatureReference", "ledoit_wolf"]

LEAST_PATIENTS, LEAST_SLICES = 10, 40
QUANTILE = 0.99  # of the distances of training images that count as usual


def ledoit_wolf(features: np.ndarray) -> np.ndarray:
    r"""Covariance that is shrunk towards a multiple of the unit matrix, and so can be inverted.

    With S the covariance of n samples of p features, m its mean variance, and the squared norm |·|² divided by p,

    .. math::
        Σ = \frac{b²}{d²} m I + \left(1 - \frac{b²}{d²}\right) S \quad
        d² = |S - m I|² \quad
        b² = \min\Bigl(d², \frac{1}{n²} \sum_i |x_i x_i^T - S|²\Bigr)

    O. Ledoit and M. Wolf, A well-conditioned estimator for large-dimensional covariance matrices, J. Multivariate
    Analysis 88 (2004), which scikit-learn's ``LedoitWolf`` computes too.

    Args:
        features: (n, p).

    Returns:
        (p, p).

    Example:
        >>> ledoit_wolf(np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]))
        array([[0.5, 0. ],
               [0. , 0.5]])
    """
    count, size = features.shape
    centred = features - features.mean(axis=0)
    covariance = centred.T @ centred / count
    mean = np.trace(covariance) / size
    distance = ((covariance - mean * np.eye(size)) ** 2).sum() / size
    # Σ |x xᵀ - S|² = Σ |x|⁴ - n |S|²
    spread = ((centred**2).sum(axis=1) ** 2).sum() - count * (covariance**2).sum()
    share = 0.0 if distance == 0 else min(1.0, spread / count**2 / size / distance)
    return share * mean * np.eye(size) + (1 - share) * covariance


@dataclass(frozen=True, eq=False)
class FeatureReference:
    """Mean and covariance of the features of training images, and the distance that is usual among them.

    Attributes:
        mean: (p,).
        precision: (p, p), the inverse of `ledoit_wolf`.
        usual: the `QUANTILE` of the distances of images that the covariance was not fitted to.
    """

    mean: np.ndarray
    precision: np.ndarray
    usual: float

    @classmethod
    def fit(cls, features: np.ndarray, groups: Sequence[str]) -> FeatureReference:
        """Fit to training images; what is usual is measured on one half of the patients with a fit to the other half.

        Args:
            features: (n, p).
            groups: n patients.

        Raises:
            ValueError: there are fewer than `LEAST_PATIENTS` or `LEAST_SLICES`, or the features are not finite, or do
                not vary.
        """
        if not np.isfinite(features).all():
            raise ValueError("features are not finite: the weights of the network are broken.")
        patients = sorted(set(groups))
        if len(patients) < LEAST_PATIENTS or len(features) < LEAST_SLICES:
            raise ValueError(
                f"what is usual can't be told from {len(features)} slices of {len(patients)} patients: at least "
                f"{LEAST_SLICES} of {LEAST_PATIENTS} are needed."
            )
        if not features.std(axis=0).any():
            raise ValueError("all slices have the same features.")
        # Without any order that a data list may have.
        first = set(np.random.default_rng(0).permutation(patients)[: len(patients) // 2])
        inside = np.array([group in first for group in groups])
        distances = np.concatenate(
            [cls._of(features[one]).distances(features[other]) for one, other in ((inside, ~inside), (~inside, inside))]
        )
        whole = cls._of(features)
        return cls(whole.mean, whole.precision, float(np.quantile(distances, QUANTILE)))

    @classmethod
    def _of(cls, features: np.ndarray) -> FeatureReference:
        return cls(features.mean(axis=0), np.linalg.inv(ledoit_wolf(features)), 1.0)

    def distances(self, features: np.ndarray) -> np.ndarray:
        r"""Mahalanobis distance of each image, √((x − μ)ᵀ Σ⁻¹ (x − μ)), divided by the usual one: (n, p) to (n,).

        K. Lee et al., A simple unified framework for detecting out-of-distribution samples, NeurIPS 2018, with one
        class.
        """
        away = features - self.mean
        return np.sqrt(np.einsum("ni,ij,nj->n", away, self.precision, away).clip(0)) / self.usual
