"""Masks whose file holds other values than were declared are refused, not thresholded."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform

__all__ = ["ClassOfMaskd", "DeclaredMask", "DeclaredMaskd", "file_of", "held_values"]

_SHOWN = 8


def file_of(image: torch.Tensor, otherwise: str) -> str:
    """The file that an image was loaded from, as MONAI's ``LoadImage`` notes it, or ``otherwise``."""
    name = image.meta.get("filename_or_obj") if isinstance(image, MetaTensor) else None
    return str(name) if name else otherwise


def held_values(img: torch.Tensor) -> str:
    """The values of an image, a few of them if there are many, for messages.

    Example:
        >>> held_values(torch.tensor([0, 2, 1, 2]))
        '0, 1, 2'
    """
    found = torch.unique(torch.as_tensor(img)).tolist()
    shown = ", ".join(f"{value:.9g}" for value in found[:_SHOWN])
    return shown if len(found) <= _SHOWN else f"{len(found)} values, {shown} …"


class DeclaredMask(Transform):
    """Turn the values of a mask's file into class indices; refuse a mask that holds any other value.

    A threshold takes the noise of a JPEG, another class and 255 for "ignore" all for tumour. Use it before resampling,
    on the values of the file.

    Args:
        values: the value in the file of each class, mapped to the index of the class. 0 is the background, and need not
            be named. A number is short for ``{number: 1}``. ``None``: not declared, then a mask may hold 0 and one
            other value, which is class 1.

    Shape:
        - input and output: (C, \\*spatial)

    Raises:
        ValueError: ``values`` holds something else than whole numbers, or maps 0 to a class; when called: the mask
            holds other values. The message names the file and the values.

    Example:
        >>> DeclaredMask({1: 1, 4: 2})(torch.tensor([[[0, 1, 4]]]))
        tensor([[[0, 1, 2]]])
    """

    def __init__(self, values: Mapping[Any, int] | int | None = None) -> None:
        self.classes: dict[float, int] | None = None
        if values is None:
            return
        # JSON has text for keys.
        pairs = values.items() if isinstance(values, Mapping) else [(values, 1)]
        try:
            self.classes = {_whole(value): _whole(index) for value, index in pairs}
        except ValueError:
            raise ValueError(
                "values must be the value of the tumour in mask files, as 255, or map such values to class indices, "
                f"got {values!r}."
            ) from None
        if self.classes.setdefault(0, 0) != 0:
            raise ValueError(f"values: 0 is the background in mask files, got {values!r}.")

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        classes = self.classes
        if classes is None:
            high = img.max()
            classes = {0: 0, (high if high > 0 else img.min()).item(): 1}
        out, known = torch.zeros_like(img), torch.zeros_like(img, dtype=torch.bool)
        for value, index in classes.items():
            here = img == value
            known |= here
            if value != 0:
                out[here] = index
        if not known.all():
            raise ValueError(self._refusal(img))
        return out

    def _refusal(self, img: torch.Tensor) -> str:
        held = held_values(img)
        name = file_of(img, "a mask")
        if self.classes is None:
            wanted = "a mask has 0 and one other value"
            way_out = "keep the class to segment, and store it as 0 and 1"
        else:
            wanted = f"'mask_value' of the data list declares {' and '.join(map(str, sorted(self.classes)))}"
            way_out = "store the mask with these values, or correct 'mask_value'"
        lossy = " JPEG changes values: use PNG or NIfTI." if name.lower().endswith((".jpg", ".jpeg")) else ""
        return f"{name}: the mask holds {held}, and {wanted}: {way_out}.{lossy}"


def _whole(value: Any) -> int:
    if isinstance(value, str):
        return int(value)
    if type(value) is not int:
        raise ValueError(value)
    return value


class DeclaredMaskd(MapTransform):
    """Dictionary form of `DeclaredMask`."""

    def __init__(
        self, keys: KeysCollection, values: Mapping[Any, int] | int | None = None, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.declared = DeclaredMask(values)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.declared(out[key])
        return out


class ClassOfMaskd(MapTransform):
    """Give the tumour in a binary mask the number of its class: 1 + ``data["class"]``; 0 stays the background.

    For softmax over background and classes, of slices that show one tumour each.

    Args:
        keys: masks, 0 or 1.
        class_key: key of the class number, from 0.

    Shape:
        - input and output: (C, \\*spatial)

    Example:
        >>> ClassOfMaskd("label")({"label": torch.tensor([[[0, 1]]]), "class": 2})["label"]
        tensor([[[0, 3]]])
    """

    def __init__(self, keys: KeysCollection, class_key: str = "class", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.class_key = class_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = out[key] * (1 + int(out[self.class_key]))
        return out
