"""Images of several channels, a file for each or one file for all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import ensure_tuple

from data_prep.limits import MAX_PIXELS
from data_prep.values import fault_of

from .kinds import kind_of
from .readers import Paths, SourceReader
from .source import SourceImage, read_source
from .unreadable import UnreadableImage

__all__ = ["VolumeReader", "corners_apart", "read_volume"]

_APART = 0.1  # pixels that channels may lie apart, for affines that were rounded
_WAY_OUT = "resample all channels of a patient onto one grid"


def read_volume(
    paths: Paths, channels: int | None = None, constant: bool = False, max_pixels: int = MAX_PIXELS
) -> tuple[np.ndarray, dict[str, Any]]:
    """Read an image of one or more channels, with its geometry, of any modality and part of the body.

    Args:
        paths: a file for each channel, in any format of `read_image`; one file, which may be a NIfTI file with a fourth
            axis, of channels; or, of one channel, the files of one DICOM series.
        channels: how many there must be; ``None`` takes all.
        constant: whether every pixel of a channel may have the same value, as in a mask without a tumour.
        max_pixels: how many there may be, in all channels together.

    Returns:
        The image, (C, X, Y) or (C, X, Y, Z), and the metadata of `read_image`.

    Raises:
        UnreadableImage: a file can't be used, channels do not lie on one grid, or there are more or fewer of them; the
            message names the file.
    """
    source = VolumeReader(channels, constant, max_pixels).source(paths)
    return source.pixels, source.meta()


class VolumeReader(SourceReader):
    """`read_volume` for MONAI's ``LoadImage``: ``LoadImaged("image", reader=VolumeReader(channels=4))``.

    Args:
        channels, constant, max_pixels: as for `read_volume`.
        spatial_dims: 3 refuses single slices, as of a picture, which a network of volumes can't take.
    """

    def __init__(
        self,
        channels: int | None = None,
        constant: bool = False,
        max_pixels: int = MAX_PIXELS,
        spatial_dims: int | None = None,
    ) -> None:
        super().__init__()
        self.channels, self.constant, self.max_pixels = channels, bool(constant), int(max_pixels)
        self.spatial_dims = spatial_dims

    def source(self, paths: Paths) -> SourceImage:
        """The channels, (C, X, Y) or (C, X, Y, Z), with geometry and header of the first.

        Raises:
            UnreadableImage: as `read_volume`.
        """
        files = tuple(Path(path) for path in ensure_tuple(paths))
        first, read = self._channels(files)
        if self.channels is not None and len(read) != self.channels:
            held = "1 channel" if len(read) == 1 else f"{len(read)} channels"
            raise UnreadableImage(f"the image has {held}, and {self.channels} are needed", str(files[0]))
        if self.spatial_dims == 3 and read[0].ndim < 3:
            raise UnreadableImage("it is a single slice, and the network is of volumes", str(files[0]))
        for number, image in enumerate(read if len(read) > len(files) else [], 1):
            # Of one file with several channels, the whole need not be constant where one of them is.
            if fault := fault_of(image, self.constant):
                raise UnreadableImage(f"channel {number} of {len(read)}: {fault}", str(files[0]))
        return replace(first, pixels=np.stack(read), paths=files, channel_dim=0)

    def _channels(self, files: tuple[Path, ...]) -> tuple[SourceImage, list[np.ndarray]]:
        """The image of the first file, and the pixels of each channel."""
        count, several = len(files), len(files) > 1
        if self.channels == 1 and several and all(kind_of(file) == "dicom" for file in files):
            try:
                series = _even(read_source(files, self.constant, self.max_pixels, of_head=False))
            except UnreadableImage as error:
                raise UnreadableImage(error.reason, str(files[0])) from None
            return series, [series.pixels]
        first: SourceImage | None = None
        read: list[np.ndarray] = []
        for number, file in enumerate(files, 1):
            try:
                most = self.max_pixels // count
                image = _even(read_source(file, self.constant, most, channels=not several, of_head=False))
                if first is None:
                    first = image
                elif fault := _apart(image, first):
                    raise UnreadableImage(fault)
            except UnreadableImage as error:
                place = f"channel {number} of {count}: " if several else ""
                raise UnreadableImage(place + error.reason, str(file)) from None
            read += [image.pixels] if image.channel_dim is None else list(np.moveaxis(image.pixels, 3, 0))
        assert first is not None
        return first, read


def corners_apart(shape: Sequence[int], first: np.ndarray, second: np.ndarray) -> float:
    """How far two affines, 4 × 4 in mm, put a corner of an image of two or three axes apart at most, in mm."""
    corners = np.array([*itertools.product(*((0, length - 1) for length in [*shape, 1][:3]), [1])], dtype=float)
    return float(np.linalg.norm(((first - second) @ corners.T)[:3], axis=0).max())


def _even(image: SourceImage) -> SourceImage:
    if image.positions is not None:
        raise UnreadableImage(
            "the slices are not evenly spaced, as a network of volumes needs them: resample the series"
        )
    return image


def _apart(image: SourceImage, first: SourceImage) -> str | None:
    """Why two channels are not on one grid, or ``None``."""
    shape = image.pixels.shape
    if shape != first.pixels.shape:
        sizes = [" × ".join(map(str, each.pixels.shape)) for each in (image, first)]
        return f"it has {sizes[0]} pixels, and the first channel {sizes[1]}: {_WAY_OUT}"
    away = corners_apart(shape, image.affine, first.affine)
    if away > _APART * np.linalg.norm(first.affine[:3, :3], axis=0).min():
        return f"it lies up to {away:.3g} mm beside the first channel by its affine: {_WAY_OUT}"
    return None
