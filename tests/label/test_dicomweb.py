"""From a DICOM server, by MONAI Label, and back to it as DICOM SEG; `.ci/label` runs this."""

from __future__ import annotations

import shutil
from configparser import ConfigParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from monai_kd.inference import BundlePredictor, read_image

pytest.importorskip("monailabel", reason="MONAI Label is not installed: see docs/label.md and .ci/label")
from orthanc import orthanc, orthanc_is_here, segmentations, store, write_series
from page_lines import LABEL
from test_server import BUNDLES, Server, checkpoints, made, planes, served

# Fixtures of the other module.
__all__ = ["checkpoints", "planes"]

pytestmark = pytest.mark.skipif(
    not orthanc_is_here() or shutil.which("itkimage2segimage") is None,
    reason="Orthanc with its plug-in DICOMweb, or itkimage2segimage of dcmqi, is not installed: see docs/label.md",
)


def test_a_series_is_segmented_and_its_segmentation_stored(checkpoints, planes, tmp_path):
    series = write_series(tmp_path / "series", np.stack(planes[:4], -1))
    predictor = BundlePredictor(BUNDLES / "seg_student", checkpoints["segmentation"], device="cpu")
    image, meta = read_image(tmp_path / "series")
    expected = np.asarray(torch.as_tensor(predictor(image, meta)["pred"])[0])
    assert 0.01 < expected.mean() < 0.99
    folder = made(checkpoints, tmp_path / "app")
    with orthanc(tmp_path / "orthanc") as address:
        store(address, tmp_path / "series")
        for server in served(
            Server(
                folder,
                f"{address}/dicom-web",
                LABEL["DICOMweb server"],
                MONAI_LABEL_DICOMWEB_CACHE_PATH=str(tmp_path / "cache"),
            )
        ):
            assert server.client.info()["datastore"]["total"] == 1
            assert server.client.next_sample("entropy", {})["id"] == series
            mask = server.mask(series, "segmentation")
            found = nib.as_closest_canonical(nib.load(mask))
            right = nib.as_closest_canonical(nib.Nifti1Image(expected, meta["affine"]))
            np.testing.assert_allclose(found.affine, right.affine, atol=1e-3)
            np.testing.assert_array_equal(np.asanyarray(found.dataobj), np.asanyarray(right.dataobj))
            server.client.save_label(series, str(mask), "final", {"label_info": [{"name": "tumour"}]})
        (stored,) = segmentations(address)
    assert stored.ReferencedSeriesSequence[0].SeriesInstanceUID == series
    assert [segment.SegmentLabel for segment in stored.SegmentSequence] == ["tumour"]
    frames = stored.pixel_array.reshape(-1, stored.Rows, stored.Columns)
    back = np.zeros(expected.shape, dtype=np.uint8)
    for pixels, groups in zip(frames, stored.PerFrameFunctionalGroupsSequence, strict=True):
        height = float(groups.PlanePositionSequence[0].ImagePositionPatient[2])
        back[..., round((height - 10) / 6)] = pixels.T
    np.testing.assert_array_equal(back, expected)


def test_the_page_installs_what_is_needed():
    setup = ConfigParser()
    setup.read(Path(__file__).resolve().parents[2] / "setup.cfg")
    assert "dcmqi" in setup["options.extras_require"]["label"]
