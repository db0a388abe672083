"""Images of several channels, a file for each or one file for all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import ensure_tuple

from data_prep.limits import MAX_PIXELS
from data_prep.values import fault_of

from .readers import kind_of, read_image
from .unreadable import UnreadableImage

__all__ = ["VolumeReader", "read_volume"]

_APART = 0.1  # pixels that channels may lie apart, for affines that were rounded
_WAY_OUT = "resample all channels of a patient onto one grid"


def read_volume(
    paths: str | Path | Sequence[str | Path],
    channels: int | None = None,
    constant: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> tuple[np.ndarray, dict[str, Any]]:
    """Read an image of one or more channels, with its geometry.

    Args:
        paths: a file for each channel, in any format of `read_image`; or one file, which may be a NIfTI file with a
            fourth axis, of channels.
        channels: how many there must be; ``None`` takes all.
        constant: whether every pixel of a channel may have the same value, as in a mask without a tumour.
        max_pixels: how many there may be, in all channels together.

    Returns:
        The image, (C, X, Y) or (C, X, Y, Z), and the metadata of `read_image`.

    Raises:
        UnreadableImage: a file can't be used, channels do not lie on one grid, or there are more or fewer of them; the
            message names the file.
    """
    files = [Path(path) for path in ensure_tuple(paths)]
    count, several = len(files), len(files) > 1
    read: list[np.ndarray] = []
    first: dict[str, Any] = {}
    for number, file in enumerate(files, 1):
        try:
            image, meta = read_image(file, constant, max_pixels // count, channels=not several)
            if not first:
                first = meta
            elif fault := _apart(image, meta["affine"], read[0], first["affine"]):
                raise UnreadableImage(fault)
            read += [image] if image.ndim < 4 else list(np.moveaxis(image, 3, 0))
        except UnreadableImage as error:
            place = f"channel {number} of {count}: " if several else ""
            raise UnreadableImage(place + error.reason, str(file)) from None
    if channels is not None and len(read) != channels:
        held = "1 channel" if len(read) == 1 else f"{len(read)} channels"
        raise UnreadableImage(f"the image has {held}, and {channels} are needed", str(files[0]))
    for number, image in enumerate(read if len(read) > count else [], 1):
        # Of one file with several channels, the whole need not be constant where one of them is.
        if fault := fault_of(image, constant):
            raise UnreadableImage(f"channel {number} of {len(read)}: {fault}", str(files[0]))
    return np.stack(read), {**first, "original_channel_dim": 0}


class VolumeReader(ImageReader):
    """`read_volume` for MONAI's ``LoadImage``: ``LoadImaged("image", reader=VolumeReader(channels=4))``.

    As for `SliceReader`, ``read`` only notes the paths, or another reader would be tried on a file that is refused.

    Args:
        channels, constant, max_pixels: as for `read_volume`.
    """

    def __init__(self, channels: int | None = None, constant: bool = False, max_pixels: int = MAX_PIXELS) -> None:
        super().__init__()
        self.channels, self.constant, self.max_pixels = channels, bool(constant), int(max_pixels)

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return all(kind_of(each) is not None for each in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[str | Path, ...]:
        return ensure_tuple(data)

    def get_data(self, img: tuple[str | Path, ...]) -> tuple[np.ndarray, dict[str, Any]]:
        """The array and the metadata of `read_volume`.

        Raises:
            UnreadableImage: as `read_volume`.
        """
        return read_volume(img, self.channels, self.constant, self.max_pixels)


def _apart(image: np.ndarray, affine: np.ndarray, other: np.ndarray, its_affine: np.ndarray) -> str | None:
    """Why two channels are not on one grid, or ``None``."""
    if image.shape != other.shape:
        sizes = [" × ".join(map(str, each.shape)) for each in (image, other)]
        return f"it has {sizes[0]} pixels, and the first channel {sizes[1]}: {_WAY_OUT}"
    lengths = [*image.shape, 1][:3]
    corners = np.array([*itertools.product(*((0, length - 1) for length in lengths), [1])], dtype=float)
    away = np.linalg.norm(((affine - its_affine) @ corners.T)[:3], axis=0).max()
    if away > _APART * np.linalg.norm(its_affine[:3, :3], axis=0).min():
        return f"it lies up to {away:.3g} mm beside the first channel by its affine: {_WAY_OUT}"
    return None
