"""Decode the pixels of DICOM files, within a limit of memory."""

from __future__ import annotations

import logging
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
from pydicom import encaps
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian, RLELossless

from data_prep.limits import CHUNK, MAX_PIXELS, check_bytes, most_bytes
from data_prep.regular import check_regular
from data_prep.values import fault_of

from .codestream import frame_of, size_of
from .unreadable import UnreadableImage

__all__ = ["META_START", "dicom_pixels", "opened_dicom", "pixels_in_header", "quietly"]

META_START = 132  # bytes before the meta information: the preamble and the prefix
RUN_LENGTH = 64  # largest compression ratio of run-length encoding: two bytes become up to 128
# Packages that decode each group of transfer syntaxes, by the beginning of their names in DICOM. RLE needs none.
DECODERS = {
    "JPEG 2000": "pylibjpeg pylibjpeg-openjpeg",
    "High-Throughput JPEG 2000": "pylibjpeg pylibjpeg-openjpeg",
    "JPEG-LS": "pyjpegls",
    "JPEG": "pylibjpeg pylibjpeg-libjpeg",
}


@contextmanager
def quietly() -> Iterator[None]:
    """Silence pydicom's warnings and highdicom's log, which quote header values, that is a patient's data."""
    # By level, which the loggers of their modules inherit; disabling a logger would silence only itself.
    logs = [logging.getLogger(name) for name in ("pydicom", "highdicom")]
    before = [log.level for log in logs]
    try:
        for log in logs:
            log.setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


def pixels_in_header(path: str | Path, max_pixels: int = MAX_PIXELS) -> int:
    """Number of pixels that the header of a file announces; of negative values, the absolute value counts.

    Raises:
        TooLarge: the file is deflated, and larger than the limit after decompression.
        UnreadableImage: its pixels are run-length encoded, and could exceed the limit.
        Exception: of many types, from pydicom, when the header is damaged.
    """
    with quietly(), opened_dicom(Path(path), max_pixels) as (stream, _):
        names = ["Rows", "Columns", "NumberOfFrames"]
        header = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=names)
        rows, columns, frames = (abs(int(header.get(name) or 1)) for name in names)
    return rows * columns * frames


@contextmanager
def opened_dicom(file: Path, max_pixels: int) -> Iterator[tuple[BinaryIO, int]]:
    """A file that pydicom may read, and how many bytes it makes of it then, pixels packed as they are.

    Raises:
        TooLarge: the file is larger than the limit, before or, when it is deflated, after decompression.
        UnreadableImage: its pixels are run-length encoded, and could exceed the limit.
    """
    size = check_regular(file)
    check_bytes(size, max_pixels)
    with open(file, "rb") as stream:
        size = _unpacked(stream, file, size, max_pixels)
        stream.seek(0)
        yield stream, size


def _unpacked(stream: BinaryIO, file: Path, size: int, max_pixels: int) -> int:
    # What pydicom's read_file_meta_info does with a path.
    read_preamble(stream, False)
    syntax = _read_file_meta_info(stream).get("TransferSyntaxUID")
    if syntax == RLELossless and size * RUN_LENGTH > most_bytes(max_pixels):
        raise UnreadableImage(
            f"{file.name} is run-length encoded and bigger than {most_bytes(max_pixels) / RUN_LENGTH / 2**20:.1f} MB, "
            "so that its pixels could exceed the limit: convert it to an uncompressed transfer syntax"
        )
    if syntax == DeflatedExplicitVRLittleEndian:
        # The first element of the meta information is its length without itself, 12 bytes.
        stream.seek(0)
        begin = stream.read(META_START + 12)
        stream.seek(int.from_bytes(begin[-4:], "little"), 1)
        unpacker, count, rest = zlib.decompressobj(-zlib.MAX_WBITS), 0, b""
        while not unpacker.eof and (rest := rest or stream.read(CHUNK)):
            count += len(unpacker.decompress(rest, CHUNK))
            rest = unpacker.unconsumed_tail
            check_bytes(count, max_pixels)
        return size + count
    return size


def dicom_pixels(data: Any) -> np.ndarray:
    """The values of one slice, (rows, columns) float32.

    The Modality LUT is applied, or rescale slope and intercept; MONOCHROME1, where bright means low, is inverted.

    Args:
        data: pydicom's data set; its attribute ``source_name`` is the file name for messages. The pixels of a frame
            are those of its ``whole``, which are decoded once, see `monai_kd.io.dicom_frames.frames_of`.

    Raises:
        UnreadableImage: the pixels are damaged, or compressed in a way that can't be decoded.
    """
    parent = getattr(data, "whole", None)
    _check_codestream(data if parent is None else parent)
    try:
        with quietly():
            stored = np.asarray(data.pixel_array if parent is None else parent.pixel_array)
            if parent is not None:
                stored = stored.reshape(-1, *stored.shape[-2:])[data.place]
            image = _values(data, _without_unused_bits(stored, data))
            inverted = data.PhotometricInterpretation == "MONOCHROME1"
            # Objects of floating-point numbers have neither.
            bits = data.get("BitsStored")
            shifted = bits is not None and int(data.get("HighBit", bits - 1)) != bits - 1
    except MemoryError:
        raise
    except Exception as error:
        # Only the type: messages may quote the header.
        kind = type(error).__name__
        syntax = _compressed(data)
        if syntax is not None:
            reason = f"the pixels of {data.source_name} are compressed as {syntax.name} and {_undecodable(syntax)}"
            raise UnreadableImage(reason) from None
        raise UnreadableImage(f"the pixels of {data.source_name} can't be read ({kind}): truncated?") from None
    if shifted:
        raise UnreadableImage(
            f"the pixels of {data.source_name} are not in the lowest bits (HighBit is not BitsStored - 1)"
        )
    # Checked before the conversion to 32 bits. One slice of a volume may be constant.
    fault = fault_of(image, constant=True)
    if fault is not None:
        raise UnreadableImage(fault)
    image = image.astype(np.float32)
    return -image if inverted else image


def _without_unused_bits(stored: np.ndarray, data: Any) -> np.ndarray:
    """Stored values, extended by their sign bit; old scanners keep overlays in the bits above (PS3.5 8.1.1).

    pydicom 3 does this itself, pydicom 2, which MONAI Label needs, does not.
    """
    unused = 8 * stored.dtype.itemsize - int(data.get("BitsStored", 0))
    if stored.dtype.kind not in "iu" or not 0 < unused < 8 * stored.dtype.itemsize:
        return stored
    return stored << unused >> unused


def _values(data: Any, stored: np.ndarray) -> np.ndarray:
    """Stored values after the modality transform, in double precision (PS3.3 C.11.1: a LUT, or slope and intercept)."""
    if data.get("ModalityLUTSequence"):
        return np.asarray(_modality_lut(stored, data)).astype(np.float64)
    slope, intercept = float(data.get("RescaleSlope", 1) or 1), float(data.get("RescaleIntercept", 0) or 0)
    return stored.astype(np.float64) * slope + intercept


def _modality_lut(stored: np.ndarray, data: Any) -> np.ndarray:
    try:
        from pydicom.pixels import apply_modality_lut
    except ImportError:  # pydicom 2, which MONAI Label needs
        from pydicom.pixel_data_handlers import util

        return util.apply_modality_lut(stored, data)
    return apply_modality_lut(stored, data)


def _compressed(data: Any) -> UID | None:
    syntax = data.file_meta.get("TransferSyntaxUID")
    # pydicom 2 asks nothing else of a private one.
    public = isinstance(syntax, UID) and not syntax.is_private
    return syntax if public and syntax.is_transfer_syntax and syntax.is_encapsulated else None


def _check_codestream(data: Any) -> None:
    """Refuse compressed pixels whose own size differs from that in the header: decoders use the former."""
    if _compressed(data) is None or not isinstance(data.get("PixelData"), bytes) or hasattr(data, "sizes_checked"):
        return
    frames = int(data.get("NumberOfFrames", 1) or 1)
    streams = [frame_of(data.PixelData)] if frames == 1 else _codestreams(data.PixelData, frames)
    for stream in streams:
        size = size_of(stream)
        if size is not None and size != (data.get("Rows"), data.get("Columns"), 1):
            raise UnreadableImage(
                f"the compressed pixels of {data.source_name} are of another size than its header says"
            )
    data.sizes_checked = True


def _codestreams(pixel_data: bytes, frames: int) -> Iterator[bytes]:
    """The codestream of each frame; of damaged pixel data as many as can be found, as decoders report the rest."""
    try:
        if hasattr(encaps, "generate_frames"):
            yield from encaps.generate_frames(pixel_data, number_of_frames=frames)
        else:  # pydicom 2, which MONAI Label needs
            yield from encaps.generate_pixel_data_frame(pixel_data, frames)
    except (ValueError, EOFError, struct.error):
        return


def _undecodable(syntax: UID) -> str:
    """The reason why pixels of a compressed transfer syntax could not be decoded, and a remedy."""
    packages = next((needed for name, needed in DECODERS.items() if syntax.name.startswith(name)), None)
    installed = _decoders(syntax)
    if not installed:
        return "there is no decoder for it: convert the file to an uncompressed transfer syntax"
    if any(installed) or packages is None:
        return "can't be decoded: damaged?" + (
            f" If not, try another decoder: pip install {packages}" if packages else ""
        )
    return f"no decoder for it is installed: pip install {packages}"


def _decoders(syntax: UID) -> list[bool]:
    """Of each decoder that pydicom knows for a transfer syntax, or of all together, whether it is installed."""
    try:
        from pydicom.pixels import get_decoder
    except ImportError:  # pydicom 2, which MONAI Label needs
        from pydicom import config

        handlers = [each for each in config.pixel_data_handlers if each.supports_transfer_syntax(syntax)]
        return [each.is_available() for each in handlers]
    try:
        return [get_decoder(syntax).is_available]
    except NotImplementedError:
        return []
