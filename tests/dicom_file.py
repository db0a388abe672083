"""DICOM files by either of the versions of pydicom that are supported."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

PYDICOM = int(pydicom.__version__.split(".")[0])


def write_dicom_file(path: str | Path | BinaryIO, data: Dataset) -> None:
    """With preamble and file meta information."""
    if PYDICOM < 3:
        dcmwrite(path, data, write_like_original=False)
    else:
        dcmwrite(path, data, enforce_file_format=True)
