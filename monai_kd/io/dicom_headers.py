"""What a file is, by its DICOM header, before it is read as an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydicom

from data_prep.limits import MAX_PIXELS
from data_prep.regular import check_regular

from .dicom_frames import frames_of, is_enhanced, volumes_of
from .dicom_pixels import META_START, opened_dicom, quietly

__all__ = ["is_dicom", "series_and_volumes", "series_of"]


def is_dicom(path: str | Path) -> bool:
    """Whether the file has the prefix ``DICM`` of DICOM files, whatever its name is."""
    try:
        check_regular(path)
        with open(path, "rb") as file:
            return file.read(META_START)[128:] == b"DICM"
    except OSError:
        return False


def series_of(path: str | Path) -> str | None:
    """The SeriesInstanceUID of a file; ``None`` when it has none or can't be read."""
    try:
        with quietly(), opened_dicom(Path(path), MAX_PIXELS) as (stream, _):
            header = pydicom.dcmread(stream, stop_before_pixels=True, specific_tags=["SeriesInstanceUID"])
            return str(header.get("SeriesInstanceUID", "")) or None
    except Exception:  # Damaged headers raise many types; the error is reported when the whole file is read.
        return None


def series_and_volumes(path: str | Path) -> tuple[str | None, list[Path]]:
    """The SeriesInstanceUID of a file, as `series_of`, and the paths of its volumes if it has more than one frame.

    These are the file itself when it is one volume or can't be read, see `file_and_volume`; none for a single slice.
    """
    path = Path(path)
    try:
        with quietly(), opened_dicom(path, MAX_PIXELS) as (stream, _):
            header: Any = pydicom.dcmread(stream, stop_before_pixels=True)
            series = str(header.get("SeriesInstanceUID", "")) or None
            if int(header.get("NumberOfFrames", 1) or 1) < 2:
                return series, []
            header.source_name = path.name
            names = volumes_of(frames_of(header)) if is_enhanced(header) else [""]
            return series, [path / name if name else path for name in names]
    except Exception:  # as in `series_of`
        return series_of(path), []
