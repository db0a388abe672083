"""Masks as DICOM segmentations, for a PACS and its viewers."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import written_whole
from ..extras import require_extra
from .dicom import dicom_slices, quietly

__all__ = ["NoSegmentation", "require_highdicom", "write_dicom_seg"]

# What a segmentation takes over from its source. DICOM wants them there, be they empty; de-identification removes some.
MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName"),
)
MUST_BE_THERE = ("StudyInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient")
SERIES_NUMBER = 9001
DESCRIPTION = "Tumour, by a network, for research"


class NoSegmentation(ValueError):
    """A mask can't be written as a DICOM segmentation; the message says why."""


def require_highdicom() -> None:
    """Say how to get highdicom, when it is not installed.

    Raises:
        ImportError: it is not.
    """
    require_extra("dicom", ["highdicom"], "dicom_seg", otherwise=", or set dicom_seg to False")


def write_dicom_seg(mask: np.ndarray, sources: Sequence[str | Path], path: str | Path, algorithm: str) -> None:
    """Write a mask as a binary DICOM Segmentation object that refers to the images it was made of.

    Of the source it takes over patient and study, **with the patient's name and number**, as DICOM asks for, and its
    frame of reference; its series, time and identifiers are new. Slices without tumour are left out of it.

    Args:
        mask: (X, Y) or (X, Y, slices), 0 or 1, with at least one pixel, in the order of `read_dicom`.
        sources: the files of the series, in any order.
        path: where to; written whole or not at all.
        algorithm: name of what made the mask.

    Raises:
        NoSegmentation: the mask is empty, or the source lacks what a segmentation must refer to.
        ImportError: highdicom is not installed.
    """
    require_highdicom()
    volume = mask.reshape(*mask.shape[:2], -1) > 0
    if not volume.any():
        raise NoSegmentation("no DICOM SEG of an empty mask")
    slices = dicom_slices(sources)
    lacking = sorted({name for each in slices for name in (*MUST_BE_THERE, "PixelSpacing") if not each.get(name)})
    if lacking:
        raise NoSegmentation(f"no DICOM SEG: the source has no {', '.join(lacking)}")
    for each in slices:
        for name in MAY_BE_EMPTY:
            if name not in each:
                setattr(each, name, "")
    with quietly():
        segmentation = _segmentation(volume.transpose(2, 1, 0).astype(np.uint8), slices, algorithm)
        with written_whole(path) as temporary:
            segmentation.save_as(temporary)


def _segmentation(frames: np.ndarray, slices: Sequence[Any], algorithm: str) -> Any:
    # Takes a second to import, and few runs need it.
    import highdicom as hd
    from pydicom.sr.codedict import codes

    own = version("monai_kd")
    described = hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="tumour",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=algorithm, version=own, family=codes.DCM.ArtificialIntelligence
        ),
    )
    return hd.seg.Segmentation(
        source_images=slices,
        pixel_array=frames,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[described],
        series_instance_uid=hd.UID(),
        series_number=SERIES_NUMBER,
        series_description=DESCRIPTION,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="monai_kd",
        manufacturer_model_name=algorithm,
        software_versions=own,
        device_serial_number="none",
        content_label="TUMOUR",
        content_description=DESCRIPTION,
    )
