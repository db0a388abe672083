"""Transforms that treat a volume as a stack of slices, so that slices and volumes share one preprocessing."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.data.meta_obj import get_track_meta
from monai.transforms import InvertibleTransform, MapTransform, Resize, Transform
from monai.transforms.spatial.functional import resize
from monai.utils import convert_to_tensor, ensure_tuple_rep

__all__ = ["ResizeInPlane", "ResizeInPlaned", "ScaleSliceIntensity", "ScaleSliceIntensityd", "SqueezeSliced"]


class ScaleSliceIntensity(Transform):
    """Scale each slice to 0 … 1 by its own minimum and maximum; a constant slice becomes 0.

    Shape:
        - input and output: (C, H, W) or (C, H, W, D); the extremes are taken over C, H and W.
    """

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        img = convert_to_tensor(img, track_meta=get_track_meta()).float()
        low, high = img.amin(dim=(0, 1, 2), keepdim=True), img.amax(dim=(0, 1, 2), keepdim=True)
        return (img - low) / torch.where(high > low, high - low, torch.ones_like(high))


class ScaleSliceIntensityd(MapTransform):
    """Dictionary form of `ScaleSliceIntensity`."""

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scaler = ScaleSliceIntensity()

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.scaler(out[key])
        return out


class ResizeInPlane(Resize):
    """Resize the first two spatial axes; the number of slices of a volume is kept. Invertible.

    Args:
        in_plane_size: height and width, in pixels.
        mode: ``"bilinear"`` for images and probabilities, ``"nearest"`` for labels.

    Shape:
        - input: (C, H, W) or (C, H, W, D)
        - output: (C, *in_plane_size) or (C, *in_plane_size, D)

    Raises:
        ValueError: ``mode`` is neither, or the input has another number of axes.
    """

    def __init__(self, in_plane_size: Sequence[int] | int, mode: str = "bilinear") -> None:
        if mode not in ("bilinear", "nearest"):
            raise ValueError(f"mode must be 'bilinear' or 'nearest', got '{mode}'.")
        self.in_plane_size: tuple[int, ...] = ensure_tuple_rep(in_plane_size, 2)
        super().__init__(spatial_size=self.in_plane_size, mode=mode)

    def __call__(self, img: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # no option per call
        if img.ndim not in (3, 4):
            raise ValueError(f"expected (C, H, W) or (C, H, W, D), got {tuple(img.shape)}.")
        # In three dimensions "trilinear" with an unchanged depth is bilinear in every slice.
        mode = "trilinear" if self.mode == "bilinear" and img.ndim == 4 else self.mode
        return resize(
            convert_to_tensor(img, track_meta=get_track_meta()),
            out_size=(*self.in_plane_size, *img.shape[3:]),
            mode=mode,
            align_corners=None if mode == "nearest" else False,
            dtype=torch.float32,
            input_ndim=img.ndim - 1,
            anti_aliasing=False,
            anti_aliasing_sigma=None,
            lazy=False,
            transform_info=self.get_transform_info(),
        )


class ResizeInPlaned(MapTransform, InvertibleTransform):
    """Dictionary form of `ResizeInPlane`; ``mode`` is one for all keys, or one for each."""

    def __init__(
        self,
        keys: KeysCollection,
        in_plane_size: Sequence[int] | int,
        mode: str | Sequence[str] = "bilinear",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.resizers = [ResizeInPlane(in_plane_size, each) for each in ensure_tuple_rep(mode, len(self.keys))]

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        for key, resizer in self.key_iterator(out, self.resizers):
            out[key] = resizer(out[key])
        return out

    def inverse(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        for key, resizer in self.key_iterator(out, self.resizers):
            out[key] = resizer.inverse(out[key])
        return out


class SqueezeSliced(MapTransform):
    """Take one slice, (C, H, W), of a volume, (C, H, W, D): number ``data["slice"]``, from 0, or the only one.

    Raises:
        ValueError: the volume has more than one slice, and there is no ``"slice"``.
    """

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        # Removed, since a batch may hold both slices of volumes and slices with a file of their own.
        chosen = out.pop("slice", None)
        for key in self.key_iterator(out):
            image = out[key]
            if image.ndim == 4 and (chosen is not None or image.shape[-1] == 1):
                out[key] = single = image[..., chosen or 0]
                if isinstance(single, MetaTensor) and "spatial_shape" in single.meta:
                    # Metadata are collated: those of all slices of a batch must have the same shape.
                    single.meta["spatial_shape"] = single.meta["spatial_shape"][:2]
            elif image.ndim != 3:
                raise ValueError(f"'{key}' must be one slice, (C, H, W) or (C, H, W, 1), got {tuple(image.shape)}.")
        return out
