"""Which format a file has."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from .dicom import is_dicom
from .dicom_frames import file_and_volume

__all__ = ["SUFFIXES", "kind_by_suffix", "kind_of", "stem_of"]

SUFFIXES = {
    ".nii": "nifti",
    ".nii.gz": "nifti",
    ".png": "picture",
    ".jpg": "picture",
    ".jpeg": "picture",
    ".dcm": "dicom",
    ".mat": "mat",
}


def kind_by_suffix(path: str | PathLike[str]) -> str | None:
    """``"nifti"``, ``"picture"``, ``"dicom"`` or ``"mat"`` by the suffix; ``None`` for any other. No file is opened.

    Example:
        >>> kind_by_suffix("scan.nii.gz"), kind_by_suffix("SLICE.PNG"), kind_by_suffix("notes.txt")
        ('nifti', 'picture', None)
    """
    name = Path(path).name.lower()
    return next((kind for suffix, kind in SUFFIXES.items() if name.endswith(suffix)), None)


def stem_of(name: str) -> str:
    """A name or path without the suffix of its format. Other dots are of the name: many DICOM files have them.

    Example:
        >>> stem_of("more/scan.nii.gz"), stem_of("SLICE.PNG"), stem_of("1.2.840.1")
        ('more/scan', 'SLICE', '1.2.840.1')
    """
    lower = name.lower()
    return name[: len(name) - max((len(each) for each in SUFFIXES if lower.endswith(each)), default=0)]


def kind_of(path: str | PathLike[str]) -> str | None:
    """`kind_by_suffix`; of a file with no such suffix ``"dicom"`` if it has the mark of DICOM, and of a folder.

    A volume in a DICOM object, see `file_and_volume`, is of the kind of its file.
    """
    path, _ = file_and_volume(Path(path))
    kind = kind_by_suffix(path)
    if kind is None and (path.is_dir() or is_dicom(path)):
        return "dicom"
    return kind
