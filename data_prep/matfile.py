"""Read and check one slice from a Figshare-style `.mat` file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data_prep import hdf5, mat5
from data_prep.limits import MAX_PIXELS, TooLarge, check_bytes
from data_prep.regular import check_regular
from data_prep.values import fault_of

CLASSES = {1: "meningioma", 2: "glioma", 3: "pituitary"}
FIELDS = ("label", "PID", "image", "tumorBorder", "tumorMask", "synthetic")
HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

Value = np.ndarray | str


class BadSlice(Exception):
    """A file that cannot be used as a slice. The message is `reason`, after the name of the file where it is known."""

    def __init__(self, reason: str, name: str = "") -> None:
        super().__init__(f"{name}: {reason}" if name else reason)
        self.reason = reason
        self.name = name

    def __reduce__(self) -> tuple[type[BadSlice], tuple[str, str]]:
        return type(self), (self.reason, self.name)


@dataclass(frozen=True)
class RawSlice:
    """The content of one file.

    Attributes:
        image: (rows, cols) in MATLAB's orientation and the file's own number type; intensities have no unit.
        mask: tumour mask, boolean, (rows, cols), or None where the file has none. `mask`, `border`, `label` and `pid`
            are None when only the image was asked for.
        border: outline of the tumour, (N, 2) float64, each row (x, y) = (column, row) in pixels from 1, or None.
        label: 1 meningioma, 2 glioma, 3 pituitary tumour.
        pid: the patient, as text.
        source: name of the file, for messages.
        synthetic: whether the file is marked as a generated phantom.
    """

    image: NDArray
    mask: NDArray[np.bool_] | None
    border: NDArray[np.float64] | None
    label: int | None
    pid: str | None
    source: str
    synthetic: bool = False


def read_slice(
    file: str | Path | bytes, name: str | None = None, *, labelled: bool = True, max_pixels: int = MAX_PIXELS
) -> RawSlice:
    """Read a v7.3 (HDF5) or older `.mat` file with struct `cjdata`, or with the same fields at its root.

    No other file is read: links, external storage and filters that are plugins are refused.

    Args:
        file: a path, or the content of the file, such as a member of a zip archive.
        name: name of the file in messages; its path by default.
        labelled: True requires label, PID and a mask or a border. False reads the image alone, as of new slices that
            are to be segmented, and ignores all other fields.
        max_pixels: largest number of pixels of the image; its size is checked before its pixels are read.

    Raises:
        BadSlice: the file is unreadable, truncated or too large, or a field is missing or invalid.
    """
    blob, name = _bytes_of(file, name, max_pixels)
    fields = _fields(blob, name, FIELDS if labelled else ("image",), max_pixels)
    if "cvind" in fields and "image" not in fields:
        raise BadSlice("holds fold numbers (cvind), not a slice", name)
    try:
        return _checked(fields, name, labelled)
    except BadSlice as bad:
        raise BadSlice(bad.reason, name) from None


def image_of(job: tuple[Path, int]) -> NDArray:
    """The image of a file, (rows, cols), given its path and `max_pixels` as one argument, for `child.call`.

    Raises:
        BadSlice: as `read_slice`.
    """
    path, max_pixels = job
    return read_slice(path, labelled=False, max_pixels=max_pixels).image


def read_folds(
    file: str | Path | bytes, name: str | None = None, max_pixels: int = MAX_PIXELS
) -> NDArray[np.float64] | None:
    """The fold numbers of a `cvind.mat`, (number of slices,), counted from 1 as in the file; None for other files.

    Raises:
        BadSlice: the file is unreadable.
    """
    blob, name = _bytes_of(file, name, max_pixels)
    fields = _fields(blob, name, (), max_pixels)
    if "cvind" not in fields:
        return None
    value = fields["cvind"]
    if isinstance(value, str) or value.size == 0:
        raise BadSlice("cvind holds no numbers", name)
    return value.astype(float).ravel(order="F")


def _bytes_of(file: str | Path | bytes, name: str | None, max_pixels: int) -> tuple[bytes, str]:
    if isinstance(file, bytes):
        return file, name or "slice"
    try:
        check_bytes(check_regular(file), max_pixels)
        return Path(file).read_bytes(), name or str(file)
    except OSError as error:
        raise BadSlice(f"cannot be read ({error.strerror or error})", name or str(file)) from None
    except TooLarge as error:
        raise BadSlice(str(error), name or str(file)) from None


def _fields(blob: bytes, name: str, names: Sequence[str], max_pixels: int) -> dict[str, Value]:
    """The named fields, without missing ones, or `cvind`: numeric arrays in MATLAB's orientation, text as text."""
    if not blob:
        raise BadSlice("the file is empty", name)
    # HDF5 allows a user block of 512 bytes or more in front; MATLAB writes 512, plain HDF5 files have none.
    is_hdf5 = any(blob.startswith(HDF5_SIGNATURE, at) for at in (0, 512, 1024, 2048))
    try:
        return (hdf5 if is_hdf5 else mat5).fields_of(blob, names, max_pixels)
    except (hdf5.Refused, TooLarge) as refused:
        raise BadSlice(str(refused), name) from None
    except MemoryError:
        raise BadSlice("it does not fit into memory", name) from None
    except Exception as error:  # damaged files make h5py, zlib and scipy raise many different types
        if "truncated" in str(error) or (is_hdf5 and _shorter_than_promised(blob)):
            raise BadSlice("the file is truncated: copy or download it again", name) from None
        raise BadSlice(f"not a readable .mat file ({type(error).__name__}: {str(error)[:120]})", name) from None


def _shorter_than_promised(blob: bytes) -> bool:
    """Whether an HDF5 file with version 0 superblock, as MATLAB writes it, ends before its end-of-file address."""
    start = blob.find(HDF5_SIGNATURE)
    superblock = blob[start : start + 48]
    return len(superblock) < 48 or (superblock[8] == 0 and int.from_bytes(superblock[40:48], "little") > len(blob))


def _checked(fields: dict[str, Value], name: str, labelled: bool) -> RawSlice:
    image = _image(fields)
    if not labelled:
        return RawSlice(image, None, None, None, None, name)
    shape: tuple[int, int] = image.shape
    label, pid = _label(fields), _pid(fields)
    mask, border = _mask(fields, shape), _border(fields, shape)
    if label is None:
        raise BadSlice("no label")
    if pid is None:
        raise BadSlice("no PID: it is not known which slices belong to the same patient")
    if mask is None and border is None:
        raise BadSlice("no tumorMask and no tumorBorder")
    return RawSlice(image, mask, border, label, pid, name, bool(np.any(_numbers(fields, "synthetic"))))


def _numbers(fields: dict[str, Value], key: str) -> NDArray:
    value = fields.get(key, np.zeros(0))
    if isinstance(value, str) or value.dtype.kind not in "buif":
        raise BadSlice(f"{key} holds no real numbers")
    return value


def _image(fields: dict[str, Value]) -> NDArray:
    if "image" not in fields:
        raise BadSlice("no field image")
    image = _numbers(fields, "image")
    if image.size == 0:
        raise BadSlice("the image is empty")
    if image.ndim != 2 or min(image.shape) < 2:
        raise BadSlice(f"the image has shape {image.shape}; one grey slice (rows, cols) is expected")
    fault = fault_of(image)
    if fault is not None:
        raise BadSlice(fault)
    return image


def _label(fields: dict[str, Value]) -> int | None:
    value = _numbers(fields, "label")
    if value.size == 0:
        return None
    if value.size != 1 or value.item() not in CLASSES:
        known = ", ".join(f"{number} {text}" for number, text in CLASSES.items())
        raise BadSlice(f"unknown label {value.ravel()[:4].tolist()}; known are {known}")
    return int(value.item())


def _pid(fields: dict[str, Value]) -> str | None:
    value = fields.get("PID", "")
    if not isinstance(value, str):
        value = _text_of_numbers(_numbers(fields, "PID"))
    value = value.strip().strip("\0")
    if value and not value.isprintable():
        raise BadSlice(f"PID {value[:20]!r} is no printable text")
    return value or None


def _text_of_numbers(value: NDArray) -> str:
    """A patient number as text; several numbers are character codes, whatever type they are stored in."""
    if value.size > hdf5.MOST_LETTERS:
        raise BadSlice(f"PID holds {value.size} numbers")
    if value.size and not np.all(np.isfinite(value) & (value == np.floor(value)) & (value >= 0)):
        raise BadSlice(f"PID {value.ravel()[:4].tolist()} is neither text nor a whole number")
    if value.size == 1:
        return str(int(value.item()))
    if np.any(value > 0x10FFFF):
        raise BadSlice("PID holds several numbers that are no character codes")
    return "".join(chr(int(code)) for code in value.ravel(order="F"))


def _mask(fields: dict[str, Value], shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    if "tumorMask" not in fields:
        return None
    mask = _numbers(fields, "tumorMask")
    if mask.shape != shape:
        raise BadSlice(f"tumorMask has size {mask.shape}, the image {shape}")
    if not mask.any():
        raise BadSlice("tumorMask is empty: no pixel is set")
    if not np.all((mask == 0) | (mask == mask.max())):
        raise BadSlice("tumorMask holds more than two values, so it is no mask")
    return mask != 0


def _border(fields: dict[str, Value], shape: tuple[int, int]) -> NDArray[np.float64] | None:
    if "tumorBorder" not in fields:
        return None
    values = _numbers(fields, "tumorBorder")
    if values.size == 0:
        raise BadSlice("tumorBorder is empty")
    if values.size != max(values.shape) or values.size % 2 or values.size < 6:
        raise BadSlice(f"tumorBorder has shape {values.shape}; x1 y1 x2 y2 ... of three points or more is expected")
    border = values.astype(float).reshape(-1, 2)
    # Pixel centres count from 1, so the image reaches from 0.5 to size + 0.5.
    inside = (border >= 0.5) & (border <= np.array([shape[1], shape[0]]) + 0.5)
    if not inside.all():
        x, y = border[~inside.all(axis=1)][0]
        raise BadSlice(f"tumorBorder leaves the image: point x {x:g}, y {y:g} in {shape[1]} columns, {shape[0]} rows")
    return border
