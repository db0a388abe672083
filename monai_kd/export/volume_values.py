"""Set the values of volumes as transforms of MONAI do, with numpy alone. Part of predict.py."""

import numpy as np


def normalised(image, steps):
    """The values as the transforms of MONAI of these names set them, each with all its arguments."""
    for step in steps:
        given = {name: value for name, value in step.items() if name != "_target_"}
        parts = image if given.pop("channel_wise", False) else image[None]
        numbers = range(len(parts))
        image = np.stack([STEPS[step["_target_"]](part, n, **given) for n, part in zip(numbers, parts, strict=True)])
        image = (image if parts.ndim == 4 else image[0]).astype(np.float32)
    return image


def _of(value, number):
    return value[number] if isinstance(value, list) else value


def normalize_intensity(image, number, subtrahend, divisor, nonzero):
    known = image != 0 if nonzero else np.ones(image.shape, bool)
    if not known.any():
        return image
    mean = image[known].mean(dtype=float) if subtrahend is None else _of(subtrahend, number)
    std = image[known].std(dtype=float) if divisor is None else _of(divisor, number)
    return np.where(known, (image - mean) / (std or 1), image)


def scale_intensity(image, number, minv, maxv, factor):
    if minv is None and maxv is None:
        return image * (1 + (factor or 0))
    low, high = image.min(), image.max()
    if low == high:
        return image if minv is None else image * minv
    part = (image - low) / (high - low)
    return part if minv is None or maxv is None else part * (maxv - minv) + minv


def scale_range(image, number, a_min, a_max, b_min, b_max, clip):
    if a_min == a_max:
        return image - a_min + (b_min or 0)
    image = (image - a_min) / (a_max - a_min)
    image = image if b_min is None or b_max is None else image * (b_max - b_min) + b_min
    return np.clip(image, b_min, b_max) if clip else image


def scale_percentiles(image, number, lower, upper, b_min, b_max, clip):
    a_min, a_max = np.percentile(image, [lower, upper])
    return scale_range(image, number, a_min, a_max, b_min, b_max, clip)


def clip_percentiles(image, number, lower, upper):
    ends = [0 if lower is None else lower, 100 if upper is None else upper]
    return np.clip(image, *np.percentile(image, ends))


STEPS: dict = {
    "NormalizeIntensity": normalize_intensity,
    "ScaleIntensity": scale_intensity,
    "ScaleIntensityRange": scale_range,
    "ScaleIntensityRangePercentiles": scale_percentiles,
    "ClipIntensityPercentiles": clip_percentiles,
    "ThresholdIntensity": lambda image, number, threshold, above, cval: np.where(
        image > threshold if above else image < threshold, image, cval
    ),
    "ShiftIntensity": lambda image, number, offset: image + offset,
}
