"""Masks of regions, which may overlap, from a label with one value at each voxel."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_dst_type

from .masks import file_of, held_values

__all__ = ["RegionMasks", "RegionMasksd"]


class RegionMasks(Transform):
    """A mask for each region from the values of a label file; a label with any other value is refused.

    Like MONAI's ``ConvertToMultiChannelBasedOnBratsClasses``, whose regions are ``{"tumour core": [1, 4], "whole
    tumour": [1, 2, 4], "enhancing tumour": [4]}``, but for any regions. Apply it before resampling, to the values of
    the file.

    Args:
        regions: name of each region to its values in label files. 0 is the background.
        names: which regions to return, in this order; ``None``: all.
        exclusive: whether to return one map of class indices, 0 for the background and 1 for the first region, for a
            softmax. Regions that overlap are then refused.

    Shape:
        - input: (1, spatial axes …)
        - output: (regions, spatial axes …), 0 or 1; with ``exclusive`` (1, spatial axes …); uint8

    Raises:
        ValueError: there are no regions, ``names`` are not among them, or they overlap although ``exclusive``; when
            called: the label has a value of no region. The message names the file and the values.

    Example:
        >>> RegionMasks({"whole": [1, 2], "core": [2]})(torch.tensor([[0, 1, 2]]))
        tensor([[0, 1, 1],
                [0, 0, 1]], dtype=torch.uint8)
    """

    def __init__(
        self, regions: Mapping[str, Sequence[int]], names: Sequence[str] | None = None, exclusive: bool = False
    ) -> None:
        chosen = list(regions if names is None else names)
        if not chosen or (unknown := [name for name in chosen if name not in regions]):
            known = ", ".join(regions) or "none"
            raise ValueError(
                f"mask_names: there are no regions {', '.join(unknown) if chosen else 'to return'}; known are: "
                f"{known}. The background is none of them."
            )
        self.declared = sorted({0, *(value for values in regions.values() for value in values)})
        self.values = [list(regions[name]) for name in chosen]
        self.exclusive = bool(exclusive)
        listed = [value for values in self.values for value in values]
        if self.exclusive and len(set(listed)) < len(listed):
            raise ValueError(
                f"the regions {', '.join(chosen)} overlap, so that they can't be classes of a softmax: set multiclass "
                "to False, or choose regions that do not overlap."
            )

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        if img.shape[0] != 1:
            raise ValueError(f"{file_of(img, 'a label')}: it has {img.shape[0]} channels; a label has one.")
        plain = torch.as_tensor(img)
        if not torch.isin(plain, plain.new_tensor(self.declared)).all():
            raise ValueError(
                f"{file_of(img, 'a label')}: the label holds {held_values(img)}, but 'regions', of the data list or "
                f"of the settings of the network, declare {', '.join(map(str, self.declared))}: correct one of them."
            )
        masks = torch.cat([torch.isin(plain, plain.new_tensor(values)) for values in self.values]).to(torch.uint8)
        if self.exclusive:
            numbers = torch.arange(1, len(masks) + 1, dtype=torch.uint8).reshape(-1, *[1] * (masks.ndim - 1))
            masks = (masks * numbers).sum(dim=0, keepdim=True, dtype=torch.uint8)
        return convert_to_dst_type(masks, dst=img, dtype=torch.uint8)[0]


class RegionMasksd(MapTransform):
    """Dictionary form of `RegionMasks`."""

    def __init__(
        self,
        keys: KeysCollection,
        regions: Mapping[str, Sequence[int]],
        names: Sequence[str] | None = None,
        exclusive: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.masks = RegionMasks(regions, names, exclusive)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        out = dict(data)
        for key in self.key_iterator(out):
            out[key] = self.masks(out[key])
        return out
