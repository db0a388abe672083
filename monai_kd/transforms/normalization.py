"""The normalisation of volumes, as definitions that settings.json may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import monai.transforms
from monai.config import KeysCollection
from monai.transforms import Compose, MapTransform

__all__ = ["NORMALIZATION_OF_VOLUMES", "NormalizeByd", "checked_normalization"]

TARGET = "_target_"
# Of an array, without random numbers, and changing values alone. Settings may come from a stranger, so that nothing
# else is built from them.
_TRANSFORMS = (
    "NormalizeIntensity",
    "ScaleIntensity",
    "ScaleIntensityRange",
    "ScaleIntensityRangePercentiles",
    "ClipIntensityPercentiles",
    "ThresholdIntensity",
    "ShiftIntensity",
)
NORMALIZATION_OF_VOLUMES: list[dict[str, Any]] = [{TARGET: "NormalizeIntensity", "nonzero": True, "channel_wise": True}]
"""Each channel by the mean and the standard deviation of its values that are not 0."""


def checked_normalization(definitions: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One definition or a list of them as a list, with the short names of the transforms.

    Raises:
        ValueError: one is no transform of MONAI that sets the values of an array, or does not take these arguments.

    Example:
        >>> checked_normalization({"_target_": "monai.transforms.ScaleIntensity", "minv": 0, "maxv": 1})
        [{'_target_': 'ScaleIntensity', 'minv': 0, 'maxv': 1}]
    """
    steps = definitions if isinstance(definitions, (list, tuple)) else [definitions]
    names = list(map(_name, steps))
    found = [{**step, TARGET: name} for step, name in zip(steps, names, strict=True)]
    _built(found)
    return found


def _name(definition: Any) -> str:
    name = definition.get(TARGET) if isinstance(definition, Mapping) else None
    short = str(name).rpartition(".")[2]
    if name not in (short, f"monai.transforms.{short}") or short not in _TRANSFORMS:
        raise ValueError(
            f"normalization has {definition!r}: give one of MONAI's {', '.join(_TRANSFORMS)}, of an array, without "
            "keys, or a list of them, such as [{'_target_': 'ScaleIntensityRange', 'a_min': -100, 'a_max': 300, …}]."
        )
    return short


def _built(steps: Sequence[Mapping[str, Any]]) -> Compose:
    built = []
    for step in steps:
        arguments = {name: value for name, value in step.items() if name != TARGET}
        try:
            built.append(getattr(monai.transforms, step[TARGET])(**arguments))
        except (TypeError, ValueError) as error:
            keys = " It sets the values of an array: leave keys out." if "keys" in arguments else ""
            raise ValueError(f"normalization, {step[TARGET]}, does not take {arguments}: {error}.{keys}") from error
    return Compose(built)


class NormalizeByd(MapTransform):
    """Set the values of images by the transforms of `checked_normalization`, one after the other.

    It is not inverted: masks have no values to bring back.

    Args:
        keys: of the images, (C, spatial axes …).
        definitions: as for `checked_normalization`.

    Raises:
        ValueError: as `checked_normalization`.
    """

    def __init__(self, keys: KeysCollection, definitions: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
        super().__init__(keys)
        self.transform = _built(checked_normalization(definitions))

    def __call__(self, data: Mapping[Any, Any]) -> dict[Any, Any]:
        result = dict(data)
        for key in self.key_iterator(result):
            result[key] = self.transform(result[key])
        return result
