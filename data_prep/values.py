"""Check that an array is an image that a network can process."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["fault_of"]

LEVELS = 512  # grey levels that single precision must resolve between the lowest and the highest value


def fault_of(image: NDArray, constant: bool = False) -> str | None:
    r"""The reason why an array can't be used as an image, or ``None``.

    Networks compute in float32, which rounds values with a relative error of up to :math:`2^{-24}`: an image whose
    range is smaller than 512 such errors would lose its grey levels, and one beyond :math:`3.4 \cdot 10^{38}` would be
    infinite.

    Args:
        image: real numbers, of any shape.
        constant: whether every pixel may have the same value, as in a mask without a tumour.

    Example:
        >>> fault_of(np.array([1, 2])), fault_of(np.array([7, 7]))
        (None, 'the image is constant (every pixel is 7)')
        >>> fault_of(np.array([10**9, 10**9 + 1]))
        'the values of the image differ by too little to be told apart in 32 bits'
    """
    if image.size == 0:
        return "the image is empty: it has no pixels"
    bad = image.size - np.count_nonzero(np.isfinite(image))
    if bad:
        return f"the image holds NaN or infinity in {bad} pixels"
    low, high = image.min(), image.max()
    with np.errstate(over="ignore", invalid="ignore"):
        spread = np.float32(high) - np.float32(low)
    if not np.isfinite(spread):
        return "the image holds values too large to be scaled in 32 bits"
    if low == high:
        return None if constant else f"the image is constant (every pixel is {image.flat[0]:g})"
    apart = (int(high) - int(low) if image.dtype.kind in "biu" else float(high) - float(low)) / LEVELS
    largest = max(abs(float(low)), abs(float(high)))
    # The upper bound first: the exact rounding errors, which are 0 for whole numbers up to 2^24, take more memory.
    possible = max(2.0**-24 * largest, 2.0**-150) > apart
    if spread == 0 or (possible and np.abs(image - image.astype(np.float32).astype(np.float64)).max() > apart):
        return "the values of the image differ by too little to be told apart in 32 bits"
    return None
