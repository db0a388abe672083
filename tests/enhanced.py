"""Enhanced MR objects, written without the code under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from dicom_file import write_dicom_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

AXIAL = (1, 0, 0, 0, 1, 0)
Frame = Mapping[str, Any]  # of `write_enhanced`


def items(**values: Any) -> Items:
    """A sequence of one item."""
    item = Dataset()
    for name, value in values.items():
        setattr(item, name, value)
    return Items([item])


def write_enhanced(
    path: Path,
    frames: Sequence[Frame],
    spacing: tuple[float, float] = (0.5, 0.75),
    series: str = "1.2.3",
    **header: Any,
) -> Path:
    """An uncompressed enhanced MR image.

    Args:
        path: the file.
        frames: of each, ``image``, (rows, columns), ``position`` and, where they are not those of all frames,
            ``orientation``, ``slope`` and ``intercept``; and ``stack``, ``phase``, ``echo``, ``component``,
            ``contrast`` and ``b_value``, where it has one.
        spacing: between rows and columns.
        header: other values.
    """
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = EnhancedMRImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.SeriesInstanceUID, data.StudyInstanceUID, data.FrameOfReferenceUID = series, "1.2", "1.2.9"
    data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = "DOE^JANE", "ID-4711", "19700102", "F"
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20200102", "101010", "1", ""
    data.ReferringPhysicianName, data.Modality = "", "MR"
    data.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    pixels = np.stack([frame["image"] for frame in frames])
    data.NumberOfFrames, data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(pixels.dtype.kind == "i")
    shared, own = Dataset(), []
    shared.PixelMeasuresSequence = items(PixelSpacing=list(spacing), SliceThickness=5.0)
    if not any("orientation" in frame for frame in frames):
        shared.PlaneOrientationSequence = items(ImageOrientationPatient=list(AXIAL))
    for number, frame in enumerate(frames, 1):
        group = Dataset()
        content = {"FrameAcquisitionNumber": number}
        content |= {"StackID": frame["stack"]} if "stack" in frame else {}
        content |= {"TemporalPositionIndex": frame["phase"]} if "phase" in frame else {}
        group.FrameContentSequence = items(**content)
        group.PlanePositionSequence = items(ImagePositionPatient=list(frame["position"]))
        if "orientation" in frame:
            group.PlaneOrientationSequence = items(ImageOrientationPatient=list(frame["orientation"]))
        if "slope" in frame:
            values = {"RescaleSlope": frame["slope"], "RescaleIntercept": frame["intercept"], "RescaleType": "US"}
            group.PixelValueTransformationSequence = items(**values)
        if "echo" in frame:
            group.MREchoSequence = items(EffectiveEchoTime=frame["echo"])
        kinds = {"ComplexImageComponent": "component", "AcquisitionContrast": "contrast"}
        if kind := {name: frame[key] for name, key in kinds.items() if key in frame}:
            group.MRImageFrameTypeSequence = items(**kind)
        if "b_value" in frame:
            group.MRDiffusionSequence = items(DiffusionBValue=frame["b_value"])
        own.append(group)
    data.SharedFunctionalGroupsSequence = Items([shared])
    data.PerFrameFunctionalGroupsSequence = Items(own)
    for name, value in header.items():
        setattr(data, name, value)
    data.PixelData = pixels.tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_dicom_file(path, data)
    return path


def stack(count: int, gap: float = 3.0, seed: int = 0, **more: Any) -> list[dict[str, Any]]:
    """Frames of an axial stack, each with pixels of its own."""
    random = np.random.default_rng(seed)
    return [
        {"image": random.integers(0, 900, (20, 16)).astype(np.uint16), "position": (4, 5, gap * number), **more}
        for number in range(count)
    ]
