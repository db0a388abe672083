"""Numbers of DICOM headers, which may be missing or damaged."""

from __future__ import annotations

from typing import Any

import numpy as np

from .dicom_pixels import quietly

__all__ = ["header_number", "header_numbers"]


def header_numbers(data: Any, name: str, count: int) -> np.ndarray | None:
    """A header value of several finite numbers, or ``None``."""
    try:
        with quietly():
            values = np.asarray([float(value) for value in data.get(name) or ()])
    except (TypeError, ValueError):
        return None
    return values if values.shape == (count,) and np.isfinite(values).all() else None


def header_number(data: Any, *names: str) -> float:
    """The first positive number of the named header values, or NaN."""
    for name in names:
        try:
            with quietly():
                value = float(data.get(name))
        except Exception:  # Damaged values raise half a dozen types.
            continue
        if np.isfinite(value) and value > 0:
            return value
    return float("nan")
