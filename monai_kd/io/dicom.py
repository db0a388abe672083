"""Read DICOM files as slices and volumes, with the geometry that a mask needs and no other header values."""

from __future__ import annotations

import filecmp
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import MediaStorageDirectoryStorage

from data_prep.limits import MAX_PIXELS, TooLarge, check_bytes, check_pixels

from .dicom_frames import PIXELS, chosen_volume, file_and_volume, frames_of, is_enhanced
from .dicom_geometry import geometry, in_order
from .dicom_headers import is_dicom, series_and_volumes, series_of
from .dicom_pixels import dicom_pixels, opened_dicom, quietly
from .unreadable import UnreadableImage

__all__ = [
    "dicom_slices",
    "is_dicom",
    "quietly",
    "read_slices",
    "series_and_volumes",
    "series_of",
]

# An empty modality is accepted, because de-identification may have removed it.
MODALITIES = ("MR", "")
# What is read of a header, apart from patient and study.
USED = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"),
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SpacingBetweenSlices", "SliceThickness"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
)


def read_slices(slices: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels and geometry of one slice, or of the slices of one series as a volume.

    The Modality LUT is applied, or rescale slope and intercept; MONOCHROME1, where bright means low, is inverted.

    Args:
        slices: data sets of `dicom_slices`; stored pixels are removed from each as soon as it is decoded.

    Returns:
        The image, (X, Y, slices) with X = column and Y = row as float32; its affine, 4 × 4, from indices to RAS+ in mm;
        its spacing, (3,) in mm, NaN where the header does not give it. Of unevenly spaced slices, see
        `uneven_positions`, affine and spacing have the usual distance.

    Raises:
        UnreadableImage: pixels are damaged, or compressed in a way that can't be decoded.
    """
    decoded = []
    for each in slices:
        decoded.append(dicom_pixels(each).T)
        for name in PIXELS:
            if name in each:
                del each[name]
    for parent in {id(each.whole): each.whole for each in slices if hasattr(each, "whole")}.values():
        for name in PIXELS:
            if name in parent:
                del parent[name]
    return np.stack(decoded, axis=-1), *geometry(slices)


def dicom_slices(paths: Sequence[str | Path], max_pixels: int = MAX_PIXELS, any_modality: bool = False) -> list[Any]:
    """The data sets of one series, checked and in the order of their positions; each file is opened once.

    A file that has the bytes and the SOPInstanceUID of another one, with which it is compared, is left out; the first
    data set has their number as ``copies``.

    Args:
        paths: files of one series, in any order; one folder that holds one series, whose headers are read before; or a
            volume of an enhanced object, see `file_and_volume`.
        max_pixels: how many there may be in all slices together, by their headers.
        any_modality: whether other images than those of magnetic resonance are taken, too.

    Raises:
        UnreadableImage: a file is damaged, no image, of another modality than MR (unless ``any_modality``), in colour,
            a mosaic, or multi-frame without the positions of its frames; it holds several volumes, and none is named;
            or the slices do not make one volume of one patient. Pixels are not decoded.
        TooLarge: there are more pixels.
    """
    slices, pixels, size, copies = [], 0, 0, 0
    read: dict[str, Path] = {}
    for path in _files(paths):
        file, volume = file_and_volume(path)
        data = _checked(file, max_pixels, any_modality)
        same = read.setdefault(str(data.get("SOPInstanceUID")), file)
        if same != file and filecmp.cmp(same, file, shallow=False):
            copies += 1
            continue
        size += data.bytes_unpacked
        check_bytes(size, max_pixels)
        pixels += abs(int(data.get("Rows") or 0) * int(data.get("Columns") or 0) * data.frames)
        check_pixels(pixels, max_pixels)
        slices += chosen_volume(_frames(data), volume) if is_enhanced(data) else [data]
    if len(slices) > 1:
        slices = in_order(slices)
    slices[0].copies = copies
    return slices


def _files(paths: Sequence[str | Path]) -> list[Path]:
    files = [Path(path) for path in paths]
    if len(files) == 1 and files[0].is_dir():
        files = sorted(file for file in files[0].iterdir() if file.is_file() and is_dicom(file))
        if not files:
            raise UnreadableImage("the folder holds no DICOM files")
        count = len({series_of(file) for file in files})
        if count > 1:
            raise UnreadableImage(f"the folder holds {count} DICOM series where one is expected")
    return files


def _checked(file: Path, max_pixels: int, any_modality: bool) -> Any:
    try:
        with quietly(), opened_dicom(file, max_pixels) as (stream, size):
            data = pydicom.dcmread(stream)
            directory = data.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage
            kinds = [_code(each) for each in data.get("ImageType") or ()]
            colours = int(data.get("SamplesPerPixel", 1))
            frames = int(data.get("NumberOfFrames", 1) or 1)
            photometric = _code(data.get("PhotometricInterpretation", "MONOCHROME2"))
            modality = _code(data.get("Modality", ""))
            # pydicom parses values on first access.
            for name in USED:
                data.get(name)
            for name in ("Rows", "Columns"):
                int(data.get(name) or 0)
            pixels = any(name in data for name in PIXELS)
    except (UnreadableImage, TooLarge, MemoryError):
        raise
    except OSError as error:
        raise UnreadableImage(f"{file.name} can't be read ({error.strerror or type(error).__name__})") from None
    except InvalidDicomError:
        raise UnreadableImage(f"{file.name} is not a DICOM file: it lacks the prefix DICM after 128 bytes") from None
    except Exception as error:
        # Only the type: messages may quote the header.
        raise UnreadableImage(f"the header of {file.name} can't be read ({type(error).__name__})") from None
    if directory:
        raise UnreadableImage(f"{file.name} is the index of a DICOM folder (DICOMDIR), not an image")
    if not pixels:
        raise UnreadableImage(
            f"{file.name} holds no image (modality {modality or 'unknown'}), or is truncated before its pixels"
        )
    if modality == "SEG":
        raise UnreadableImage(f"{file.name} is a segmentation, not an image")
    if modality not in MODALITIES and not any_modality:
        raise UnreadableImage(
            f"{file.name} is of modality {modality}, and the network is for MR images of heads; the data list of one "
            "for others names their body_part, see docs/data.md"
        )
    if colours != 1 or not photometric.startswith("MONOCHROME"):
        raise UnreadableImage(f"{file.name} is a colour image ({photometric}); grey slices are expected")
    if "MOSAIC" in kinds:
        raise UnreadableImage(
            f"{file.name} is a Siemens mosaic, whose slices are tiles of one picture: convert it with dcm2niix"
        )
    if frames != 1 and not is_enhanced(data):
        raise UnreadableImage(
            f"{file.name} is multi-frame ({frames} frames) without the positions of its frames; export it as one file "
            "per slice"
        )
    data.source_name, data.bytes_unpacked, data.frames = file.name, size, abs(frames)
    return data


def _frames(data: Any) -> list[Any]:
    try:
        with quietly():
            return frames_of(data)
    except (UnreadableImage, MemoryError):
        raise
    except Exception as error:  # as in `_checked`
        raise UnreadableImage(f"the header of {data.source_name} can't be read ({type(error).__name__})") from None


def _code(value: Any) -> str:
    """A code of the header, for messages. In a damaged header its place may hold any other value, such as a name."""
    text = str(value)
    return text if re.fullmatch("[A-Z0-9_ ]{0,16}", text) else "no code"
