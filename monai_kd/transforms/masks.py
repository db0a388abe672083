"""Values of mask files as class indices; masks with values that are not declared are refused, not thresholded."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform

__all__ = ["ClassOfMaskd", "DeclaredMask", "DeclaredMaskd", "EmptyOwnMaskd", "file_of", "held_values"]

_SHOWN = 8


def file_of(image: torch.Tensor, otherwise: str) -> str:
    """The file that an image was loaded from, by the metadata of MONAI's ``LoadImage``, or ``otherwise``."""
    name = image.meta.get("filename_or_obj") if isinstance(image, MetaTensor) else None
    return str(name) if name else otherwise


def held_values(img: torch.Tensor) -> str:
    """The values of an image as text for messages; only the first few if there are many.

    Example:
        >>> held_values(torch.tensor([0, 2, 1, 2]))
        '0, 1, 2'
    """
    found = torch.unique(torch.as_tensor(img)).tolist()
    shown = ", ".join(f"{value:.9g}" for value in found[:_SHOWN])
    return shown if len(found) <= _SHOWN else f"{len(found)} values, {shown} …"


class DeclaredMask(Transform):
    """Replace the values of a mask file by class indices; refuse a mask that has any other value.

    A threshold would take JPEG noise, other classes, and 255 for "ignore" for tumour. Apply it before resampling, to
    the values of the file.

    Args:
        values: value in the file to class index. 0 is the background, and need not be included. A number is short for
            ``{number: 1}``. ``None``: a mask may have 0 and one other value, which becomes class 1.

    Shape:
        - input and output: (C, \\*spatial)

    Raises:
        ValueError: ``values`` are not whole numbers, or map 0 to a class; when called: the mask has other values. The
            message names the file and the values.

    Example:
        >>> DeclaredMask({1: 1, 4: 2})(torch.tensor([[[0, 1, 4]]]))
        tensor([[[0, 1, 2]]])
    """

    def __init__(self, values: Mapping[Any, int] | int | None = None) -> None:
        self.classes: dict[float, int] | None = None
        if values is None:
            return
        # Keys of JSON are text.
        pairs = values.items() if isinstance(values, Mapping) else [(values, 1)]
        try:
            self.classes = {_whole(value): _whole(index) for value, index in pairs}
        except ValueError:
            raise ValueError(
                "values must be the value of the tumour in mask files, such as 255, or map values to class indices, "
                f"got {values!r}."
            ) from None
        if self.classes.setdefault(0, 0) != 0:
            raise ValueError(f"values: 0 is the background in mask files and can't be a class, got {values!r}.")

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
            expected = "a mask must hold 0 and one other value"
            remedy = (
                "keep the class to segment, and store it as 0 and 1; several of them are for the configs of "
                "docs/volumes.md, which take slices too"
            )
        else:
            expected = f"'mask_value' of the data list declares {' and '.join(map(str, sorted(self.classes)))}"
            remedy = "store the mask with these values, or correct 'mask_value'"
        lossy = " JPEG changes values: use PNG or NIfTI." if name.lower().endswith((".jpg", ".jpeg")) else ""
        return f"{name}: the mask holds {held}, but {expected}: {remedy}.{lossy}"


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


class EmptyOwnMaskd(MapTransform):
    """Empty a mask that was read from the file of the image itself: the slice is listed as one without a tumour.

    See `monai_kd.data.load_fold`, which refuses any other slice with its image as its label. A slice without a tumour
    may have a mask of its own, which must be empty.

    Args:
        keys: keys of loaded masks.
        image: key of the loaded image.

    Shape:
        - (C, \\*spatial)

    Raises:
        ValueError: when called: ``tumour`` of the item is false, and its mask is not empty. The message names the file.
    """

    def __init__(self, keys: KeysCollection, image: str = "image", allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.image = image

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        out = dict(data)
        for key in self.key_iterator(out):
            if file_of(out[key], "") and file_of(out[key], "") == file_of(out[self.image], ""):
                out[key] = torch.zeros_like(out[key])
            elif not out.get("tumour", True) and out[key].any():
                raise ValueError(
                    f'{file_of(out[key], "a mask")}: the mask is not empty, but the data list says "tumour": false of '
                    f"{file_of(out[self.image], 'its image')}: correct the entry, or leave out its 'label'."
                )
        return out


class ClassOfMaskd(MapTransform):
    """Multiply a binary mask by the index of its class, 1 + ``data["class"]``; the background stays 0.

    For a softmax over background and classes, with slices that show one tumour each.

    Args:
        keys: keys of masks with values 0 and 1.
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
