"""Files to segment, written without the code under test, and a network whose answer is known."""

from __future__ import annotations

import datetime
from pathlib import Path

import h5py
import numpy as np
import torch
from dicom_file import write_dicom_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid
from torch import nn

PATIENT = "DOE^JANE"


class Brightness(nn.Module):
    """Logits that are positive where the slice is brighter than half of its range. (B, 3, H, W) to (B, 1, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.steepness = nn.Parameter(torch.tensor(50.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.steepness * (x[:, :1] * 0.229 + 0.485 - 0.5)


def pattern(columns: int = 64, rows: int = 64) -> np.ndarray:
    """A hook near the upper right corner, as a picture shows it: (rows, columns) bool. Any flip or turn changes it."""
    mask = np.zeros((rows, columns), dtype=bool)
    mask[rows // 8 : rows // 2, -columns // 4 : -columns // 8] = True
    mask[rows // 8 : rows // 4, columns // 2 : -columns // 8] = True
    return mask


def grey(mask: np.ndarray, low: float = 100, high: float = 1000) -> np.ndarray:
    """An image with these values outside and inside of the mask."""
    return np.where(mask, high, low).astype(np.int16)


def write_dicom(
    path: Path,
    image: np.ndarray,
    position: tuple[float, float, float] | None = (10.0, -20.0, 30.0),
    orientation: tuple[float, ...] | None = (1, 0, 0, 0, 1, 0),
    spacing: tuple[float, float] | None = (0.5, 0.75),
    series: str = "1.2.3",
    **header: object,
) -> Path:
    """An uncompressed MR image, (rows, columns), with a patient's name in it; ``spacing`` is between rows, columns."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = MRImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.SeriesInstanceUID, data.StudyInstanceUID = series, "1.2"
    data.PatientName, data.PatientID, data.PatientBirthDate = PATIENT, "ID-4711", "19700102"
    data.StudyDate = datetime.date(2020, 1, 2).strftime("%Y%m%d")
    data.Modality, data.SliceThickness = "MR", 5.0
    if position is not None:
        data.ImagePositionPatient = list(position)
    if orientation is not None:
        data.ImageOrientationPatient = list(orientation)
    if spacing is not None:
        data.PixelSpacing = list(spacing)
    data.Rows, data.Columns = image.shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * image.dtype.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(image.dtype.kind == "i")
    for name, value in header.items():
        if value is None:
            del data[name]
        else:
            setattr(data, name, value)
    if "Rows" in data:
        data.PixelData = image.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dicom_file(path, data)
    return path


def write_mat(path: Path, image: np.ndarray) -> Path:
    """A v7.3 file with nothing but an image, (rows, columns), which MATLAB stores transposed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        file.create_dataset("cjdata/image", data=image.T)
    return path


def dice(first: np.ndarray, second: np.ndarray) -> float:
    first, second = first > 0, second > 0
    return 2 * float((first & second).sum()) / float(first.sum() + second.sum())
