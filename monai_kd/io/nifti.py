"""Read NIfTI files: the header first, then as many bytes as it announces."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.volumeutils import apply_read_scaling

from data_prep.limits import CHUNK, HEADER_BYTES, MAX_PIXELS, check_bytes, check_pixels
from data_prep.regular import check_regular

from .unreadable import UnreadableImage, first_line

__all__ = ["header_bytes", "header_from_bytes", "nifti_header", "read_nifti", "slice_axis"]

Stream = BufferedReader | gzip.GzipFile

MILLIMETRES = {1: 1000.0, 3: 0.001}  # metres, microns
HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
LARGEST_HEADER = 540
TRUNCATED = "the file is truncated or damaged: copy it again"


def slice_axis(shape: Sequence[int]) -> int:
    """The axis of a file along its slices: the last one, except in a single slice that was cut along another axis.

    Example:
        >>> slice_axis((256, 256, 25)), slice_axis((256, 256, 1)), slice_axis((1, 256, 180)), slice_axis((256, 1, 180))
        (2, 2, 0, 1)
    """
    if len(shape) == 3 and shape[2] > 1 and sorted(shape[:2])[0] == 1 < max(shape[:2]):
        return 0 if shape[0] == 1 else 1
    return 2


def nifti_header(path: str | Path) -> Any:
    """nibabel's header of a file, without extensions; no pixel is read.

    Raises:
        UnreadableImage: the file does not exist, or has no valid header.
    """
    with _opened(Path(path)) as stream:
        return _header(stream, Path(path))


def header_bytes(header: Any) -> np.ndarray:
    """A header as MONAI's metadata can hold and collate it: (540,) uint8, zeros behind the 348 bytes of NIfTI-1."""
    block = np.frombuffer(header.binaryblock, np.uint8)
    return np.pad(block, (0, LARGEST_HEADER - len(block)))


def header_from_bytes(block: bytes) -> Any:
    """The header that `header_bytes` was given.

    Raises:
        UnreadableImage: it is no header.

    Example:
        >>> header = nib.Nifti1Header()
        >>> header_from_bytes(header_bytes(header).tobytes()).get_data_shape() == header.get_data_shape()
        True
    """
    return _header(io.BytesIO(block), Path("nifti_header"))


def read_nifti(
    path: str | Path, max_pixels: int = MAX_PIXELS, channels: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
    """Read a slice or a volume.

    In single files (``n+1``), pixels begin at byte 352 or later: a smaller ``vox_offset`` means 352 (nifti1.h). Metres
    and microns become millimetres. The axes of a single slice that was cut along the first or second axis are
    reordered, so that its in-plane axes come first.

    Args:
        path: ``.nii`` or ``.nii.gz``.
        max_pixels: largest number of pixels, by the header.
        channels: whether there may be a fourth axis, of channels.

    Returns:
        The image, (X, Y), (X, Y, slices) or with channels (X, Y, slices, channels), scaled as the header says; its
        affine, 4 × 4, from indices to RAS+ in mm; its spacing, (3,) in mm; and nibabel's header, without extensions.

    Raises:
        UnreadableImage: the file is damaged, no greyscale slice or volume, or has no valid affine.
        TooLarge: it has more pixels than `max_pixels`.
    """
    path = Path(path)
    with _opened(path) as stream:
        header = _header(stream, path)
        shape, kind = _shape(header, channels), header.get_data_dtype()
        count = math.prod(shape)
        check_pixels(count, max_pixels)
        check_bytes(count * kind.itemsize, max_pixels)
        affine, slope, intercept, scale = _geometry(header, path)
        image = _pixels(stream, int(header["vox_offset"]), shape, kind, max_pixels)
    if slope is not None:
        image = apply_read_scaling(image, slope, intercept)
    if image.dtype.kind == "f" and image.dtype.itemsize > 8:
        image = image.astype(np.float64)  # torch has no wider type
    affine[:3] *= scale
    axis = slice_axis(shape)
    if axis != 2:
        image = np.moveaxis(image, axis, 2)
        affine[:, :3] = affine[:, [*sorted({0, 1, 2} - {axis}), axis]]
    return image, affine, np.linalg.norm(affine[:3, :3], axis=0), header


def _opened(path: Path) -> Stream:
    try:
        check_regular(path)
        return gzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb")
    except OSError as error:
        raise UnreadableImage(f"it can't be opened ({error.strerror or type(error).__name__})") from None


def _header(stream: Stream | io.BytesIO, path: Path) -> Any:
    """The header at the beginning of a stream, which is left behind it."""
    try:
        block = stream.read(LARGEST_HEADER)
        for size, kind in HEADERS.items():
            if size in (int.from_bytes(block[:4], order) for order in ("little", "big")) and len(block) >= size:
                stream.seek(size)
                return _checked(kind(block[:size], check=False))
    except UnreadableImage:
        raise
    except (EOFError, zlib.error):
        raise UnreadableImage(TRUNCATED) from None
    except Exception as error:  # a damaged header makes nibabel raise many different types
        raise _unreadable(first_line(error, path)) from None
    raise _unreadable("it has no NIfTI header")


def _unreadable(why: str) -> UnreadableImage:
    return UnreadableImage(f"it can't be read as NIfTI, truncated or damaged? ({why})")


def _checked(header: Any) -> Any:
    if header["magic"].item() != header.single_magic:
        raise UnreadableImage("by its header, the pixels lie in another file (.img), or it is no NIfTI file")
    offset, least = float(header["vox_offset"]), header.single_vox_offset
    if not math.isfinite(offset) or offset - least > HEADER_BYTES:
        raise UnreadableImage(
            f"its header puts the pixels at byte {offset:g}; up to {HEADER_BYTES:,} bytes of extensions are read"
        )
    header["vox_offset"] = max(offset, least)
    if _lacks_sizes(header):
        header["qform_code"] = 0  # it is invalid without them (nifti1.h, method 2)
    header.check_fix(error_level=40)
    return header


def _lacks_sizes(header: Any) -> bool:
    """Whether an axis of several pixels has a pixel size of 0, which nibabel silently takes for 1."""
    sides, sizes = header["dim"][1:4], header["pixdim"][1:4]
    return bool(((sides > 1) & (sizes == 0))[: max(int(header["dim"][0]), 0)].any())


def _shape(header: Any, channels: bool = False) -> tuple[int, ...]:
    shape, kind = tuple(map(int, header.get_data_shape())), header.get_data_dtype()
    if len(shape) not in ((2, 3, 4) if channels else (2, 3)):
        raise UnreadableImage(f"the NIfTI image has {len(shape)} axes {shape}; a slice or a volume has 2 or 3")
    if min(shape) < 1:
        raise UnreadableImage(f"the NIfTI image has the size {shape}: no pixels")
    if kind.fields is not None or kind.kind not in "buif":
        raise UnreadableImage(f"the NIfTI image holds colours or complex numbers ({kind}), not grey values")
    return shape


def _geometry(header: Any, path: Path) -> tuple[np.ndarray, float | None, float | None, float]:
    """Affine in the units of the file, slope and intercept of the values, and millimetres per unit."""
    try:
        slope, intercept = header.get_slope_inter()
        affine = np.array(header.get_best_affine(), dtype=float)
        # By its number: nibabel has no name for one that the standard leaves undefined.
        scale = MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    except Exception as error:  # nibabel raises many different types
        raise _unreadable(first_line(error, path)) from None
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise UnreadableImage("its affine is invalid: it holds NaN or infinity, or is singular")
    return affine, slope, intercept, scale


def _pixels(stream: Stream, offset: int, shape: tuple[int, ...], kind: np.dtype, max_pixels: int) -> np.ndarray:
    # Untouched memory costs nothing: a file that is too short takes as much as it holds.
    raw = np.empty(math.prod(shape) * kind.itemsize, np.uint8)
    view, filled = raw.data, 0
    try:
        stream.seek(offset)
        while filled < len(view):
            count = stream.readinto(view[filled : filled + CHUNK])
            if not count:
                raise UnreadableImage("the file is truncated: it ends before its last pixel; copy it again")
            filled += count
        # gzip's checksum of the pixels is at the end of the stream, after any data that follow the last pixel.
        while isinstance(stream, gzip.GzipFile) and (rest := stream.read(CHUNK)):
            filled += len(rest)
            check_bytes(filled, max_pixels)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UnreadableImage(TRUNCATED) from None
    return np.ndarray(shape, kind, raw, order="F")
