"""One reader for all image formats, with the same array layout as in training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import ensure_tuple

from data_prep.limits import MAX_PIXELS, TooLarge
from data_prep.regular import check_regular
from data_prep.values import fault_of

from .dicom import is_dicom, read_dicom
from .nifti import read_nifti
from .pictures import read_picture
from .unreadable import NO_MEMORY, UnreadableImage

__all__ = ["SUFFIXES", "SliceReader", "UnreadableImage", "kind_of", "read_image"]

SUFFIXES = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".png": "picture",
    ".jpg": "picture",
    ".jpeg": "picture",
    ".dcm": "dicom",
    ".mat": "mat",
}


def kind_of(path: str | Path) -> str | None:
    """``"nifti"``, ``"picture"``, ``"dicom"`` or ``"mat"`` by the suffix, DICOM also by its prefix; else ``None``.

    Example:
        >>> kind_of("scan.nii.gz"), kind_of("SLICE.PNG"), kind_of("notes.txt")
        ('nifti', 'picture', None)
    """
    name = Path(path).name.lower()
    for suffix, kind in SUFFIXES.items():
        if name.endswith(suffix):
            return kind
    return "dicom" if Path(path).is_dir() or is_dicom(path) else None


def read_image(
    paths: str | Path | Sequence[str | Path],
    constant: bool = False,
    max_pixels: int = MAX_PIXELS,
    channels: bool = False,
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
        MONAI's metadata: ``affine`` (4 × 4, indices to RAS+ in mm), ``original_affine``, ``spatial_shape``,
        ``original_channel_dim``, ``space``, and ``spacing`` ((3,), mm, NaN where it is not known).

    Raises:
        UnreadableImage: the file can't be used; the message is the reason.
    """
    files = [Path(path) for path in ensure_tuple(paths)]
    try:
        image, affine, spacing = _read(files, max_pixels, channels)
        fault = fault_of(image, constant)
    except TooLarge as error:
        raise UnreadableImage(str(error)) from None
    except MemoryError:
        raise UnreadableImage(NO_MEMORY) from None
    if fault is not None:
        raise UnreadableImage(fault)
    if min(image.shape[:2]) < 2:
        raise UnreadableImage(f"the image has the size {image.shape}: a line is no slice")
    return image, {
        "affine": affine,
        "original_affine": affine.copy(),
        "spatial_shape": np.asarray(image.shape[:3]),
        "original_channel_dim": float("nan") if image.ndim < 4 else 3,
        "space": "RAS",
        "spacing": spacing,
    }


def _read(paths: list[Path], max_pixels: int, channels: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    for path in paths:
        if not path.is_dir() or kind_of(path) != "dicom":
            try:
                size = check_regular(path)
            except OSError as error:
                raise UnreadableImage(error.strerror or type(error).__name__) from None
            if size == 0:
                raise UnreadableImage("the file is empty")
    kind = kind_of(paths[0])
    if kind == "nifti":
        return read_nifti(paths[0], max_pixels, channels)
    if kind == "picture":
        # A picture has no geometry: it is taken as axial, its columns running to the left, its rows to the back.
        return read_picture(paths[0], max_pixels), np.diag([-1.0, -1.0, 1.0, 1.0]), np.full(3, np.nan)
    if kind == "dicom":
        return read_dicom(paths, max_pixels)
    if kind == "mat":
        return _mat(paths[0], max_pixels)
    raise UnreadableImage("it is none of NIfTI, PNG, JPEG, DICOM, .mat")


def _mat(path: Path, max_pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Imported here, because few programs read .mat files.
    from data_prep import matfile
    from data_prep.child import CannotStart, ChildDied, call
    from data_prep.writers import SPACING

    try:
        # In a child process, because damaged HDF5 files can crash the library.
        image = call(matfile.image_of, (path.absolute(), max_pixels))
    except matfile.BadSlice as bad:
        raise UnreadableImage(bad.reason) from None
    except ChildDied as error:
        raise UnreadableImage(f"it ended the process that read it ({error}): damaged, or too little memory") from None
    except CannotStart as error:
        raise UnreadableImage(f"{error}, which .mat files are read in") from None
    # The layout and geometry that data_prep writes.
    return image.T[..., None], np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0]), np.asarray(SPACING)


class SliceReader(ImageReader):
    """`read_image` for MONAI's ``LoadImage``: ``LoadImaged(keys="image", reader="monai_kd.io.SliceReader")``.

    When a reader fails to ``read`` a file, ``LoadImage`` tries the next reader, which would load a colour picture as
    three channels, for example. So ``read`` only keeps the paths, and ``get_data`` reads.

    Args:
        constant: as for `read_image`; for masks.
        max_pixels: as for `read_image`.
    """

    def __init__(self, constant: bool = False, max_pixels: int = MAX_PIXELS) -> None:
        super().__init__()
        self.constant, self.max_pixels = bool(constant), int(max_pixels)

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        return kind_of(ensure_tuple(filename)[0]) is not None

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[str | Path, ...]:
        return ensure_tuple(data)

    def get_data(self, img: tuple[str | Path, ...]) -> tuple[np.ndarray, dict[str, Any]]:
        """The array and the metadata of `read_image`.

        Raises:
            UnreadableImage: the file can't be used; the message names it.
        """
        try:
            return read_image(img, self.constant, self.max_pixels)
        except UnreadableImage as error:
            raise UnreadableImage(error.reason, str(img[0])) from None
