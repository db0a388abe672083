"""DICOM segmentations in the hands of other software: dcmqi, and the DICOM server Orthanc."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from orthanc import orthanc, orthanc_is_here, segmentations, store, write_series

from monai_kd.inference import read_source

pytest.importorskip("highdicom", reason="needs monai_kd[dicom]")
from monai_kd.inference.dicom_seg import write_dicom_seg

DCMQI = shutil.which("segimage2itkimage", path=str(Path(sys.executable).parent)) or shutil.which("segimage2itkimage")
SPACING, ORIGIN, GAP = 0.49, np.array([-60, -70, 10]), 6.0


@pytest.fixture
def masks() -> np.ndarray:
    """(columns, rows, slices): two classes; the second slice has neither."""
    masks = np.zeros((2, 24, 20, 4), np.uint8)
    masks[0, 3:9, 5:12, 0], masks[0, 4:7, 5:12, 2:], masks[1, 12:20, 2:6, 3] = 1, 1, 1
    return masks


@pytest.fixture
def written(tmp_path: Path, masks: np.ndarray) -> Path:
    """A series in ``in``, and its segmentation."""
    write_series(tmp_path / "in", np.random.default_rng(0).integers(0, 900, (24, 20, 4)), GAP)
    target = tmp_path / "seg" / "seg.dcm"
    target.parent.mkdir()
    names = ["tumour", "oedema"]
    write_dicom_seg(masks, read_source(tmp_path / "in").datasets, target, "a network", names)
    return target


@pytest.mark.skipif(DCMQI is None, reason="needs dcmqi")
def test_dcmqi_reads_it(written, masks, tmp_path):
    (tmp_path / "itk").mkdir()
    command = [str(DCMQI), "--inputDICOM", str(written), "--outputDirectory", str(tmp_path / "itk"), "-t", "nii"]
    subprocess.run(command, check=True, capture_output=True)
    described = json.loads((tmp_path / "itk" / "meta.json").read_text())["segmentAttributes"]
    for number, (mask, (segment,)) in enumerate(zip(masks, described, strict=True), 1):
        image = nib.load(tmp_path / "itk" / f"{number}.nii.gz")
        found = nib.affines.apply_affine(image.affine, np.argwhere(image.get_fdata() > 0))
        # Patient coordinates to those of NIfTI: to the right and to the front, not to the left and to the back.
        expected = (ORIGIN + np.argwhere(mask) * (SPACING, SPACING, GAP)) * (-1, -1, 1)
        np.testing.assert_allclose(*(points[np.lexsort(points.round(2).T)] for points in (found, expected)), atol=1e-3)
        assert segment["SegmentedPropertyTypeCodeSequence"]["CodeMeaning"] == ["Neoplasm", "Edema"][number - 1]
        assert len(segment["recommendedDisplayRGBValue"]) == 3
        assert segment["AnatomicRegionSequence"]["CodeMeaning"] == "Brain"


@pytest.mark.skipif(not orthanc_is_here(), reason="needs Orthanc with its plug-in DICOMweb")
def test_orthanc_keeps_it_with_its_series(written, tmp_path):
    with orthanc(tmp_path / "server") as address:
        for folder in ("in", "seg"):
            store(address, tmp_path / folder)
        (found,) = segmentations(address)
    original = pydicom.dcmread(written)
    np.testing.assert_array_equal(found.pixel_array, original.pixel_array)
    source = pydicom.dcmread(tmp_path / "in" / "0.dcm")
    assert (found.StudyInstanceUID, found.PatientID) == (source.StudyInstanceUID, source.PatientID)
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
