"""One reader for all image formats, with the same array layout as in training."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import ensure_tuple

from data_prep.limits import MAX_PIXELS

from .kinds import kind_of
from .source import SourceImage, read_source
from .unreadable import UnreadableImage

__all__ = ["ReadAlready", "SliceReader", "SourceReader", "UnreadableImage", "read_image"]

Paths = Sequence[str | PathLike] | str | PathLike  # as MONAI's ImageReader has it


def read_image(
    paths: Paths, constant: bool = False, max_pixels: int = MAX_PIXELS, channels: bool = False
) -> tuple[np.ndarray, dict[str, Any]]:
    """Read a slice or a volume, with its geometry.

    Args:
        paths: a file; a folder with one DICOM series; or the files of one DICOM series.
        constant: whether every pixel may have the same value, as in a mask without a tumour.
        max_pixels: largest number of pixels in all slices together. Sizes are read from headers, before the pixels; of
            compressed files, the decompressed bytes are counted too.
        channels: whether a NIfTI file may have a fourth axis, of channels, which is the last one of the image then.

    Returns:
        The image, finite and not constant unless it may be, (X, Y) or (X, Y, slices), X = column and Y = row of a
        picture: pictures and 2-D NIfTI have no third axis, DICOM and ``.mat`` have one also for a single slice. And
        MONAI's metadata: ``filename_or_obj``, ``affine`` (4 × 4, indices to RAS+ in mm), ``original_affine``,
        ``spatial_shape``, ``original_channel_dim``, ``space``, ``spacing`` ((3,), mm, NaN where it is not known), and
        of NIfTI ``nifti_header``, see `header_bytes`.

    Raises:
        UnreadableImage: the file can't be used; the message is the reason.
    """
    source = read_source(paths, constant, max_pixels, channels)
    return source.pixels, source.meta()


class SourceReader(ImageReader):
    """Reader for MONAI's ``LoadImage`` that reads a `SourceImage`; a subclass says how.

    ``LoadImage`` passes a file that a reader fails to ``read`` on to the next reader, which would make a three-channel
    image of a colour picture, say. So ``read`` only notes the paths, and ``get_data`` reads.
    """

    @abstractmethod
    def source(self, paths: Paths) -> SourceImage:
        """Read the file or files of one image.

        Raises:
            UnreadableImage: a file can't be used; the message names it.
        """

    def verify_suffix(self, filename: Paths) -> bool:
        return all(kind_of(each) is not None for each in ensure_tuple(filename))

    def read(self, data: Paths, **kwargs: Any) -> tuple[str | PathLike, ...]:
        return ensure_tuple(data)

    def get_data(self, img: tuple[str | PathLike, ...]) -> tuple[np.ndarray, dict[str, Any]]:
        """Pixels and metadata of the `SourceImage`."""
        source = self.source(img)
        return source.pixels, source.meta()


class SliceReader(SourceReader):
    """`read_image` for MONAI's ``LoadImage``: ``LoadImaged(keys="image", reader="monai_kd.io.SliceReader")``.

    Args:
        constant: as for `read_image`; for masks.
        max_pixels: as for `read_image`.
        of_head: as for `read_source`.
    """

    def __init__(self, constant: bool = False, max_pixels: int = MAX_PIXELS, of_head: bool = True) -> None:
        super().__init__()
        self.constant, self.max_pixels, self.of_head = bool(constant), int(max_pixels), bool(of_head)

    def source(self, paths: Paths) -> SourceImage:
        try:
            return read_source(paths, self.constant, self.max_pixels, of_head=self.of_head)
        except UnreadableImage as error:
            raise UnreadableImage(error.reason, str(ensure_tuple(paths)[0])) from None


class ReadAlready(ImageReader):
    """Gives ``LoadImage`` an image that was read before, so that it is prepared like a file.

    Args:
        pixels: as `read_image` returns them; copied, as later transforms may work in place.
        meta: as `read_image` returns it.
    """

    def __init__(self, pixels: np.ndarray, meta: Mapping[str, Any]) -> None:
        self.pixels, self.meta = pixels, meta

    def verify_suffix(self, filename: Paths) -> bool:
        return True

    def read(self, data: Paths, **kwargs: Any) -> Any:
        return data

    def get_data(self, img: Any) -> tuple[np.ndarray, dict[str, Any]]:
        # LoadImage writes the name of the file into the dictionary.
        return np.array(self.pixels), dict(self.meta)
