"""The row of a folder, with files that can't be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from students import segmentation_student

from monai_kd.benchmark import inference

BUNDLE = Path(__file__).parents[2] / "bundles" / "seg_student"


def test_files_that_can_not_be_read_are_left_out(tmp_path):
    checkpoint = segmentation_student(tmp_path / "student")
    slices = tmp_path / "slices"
    slices.mkdir()
    (slices / "0.png").write_bytes(b"no image")

    def row():
        return inference._folder_row(BUNDLE, checkpoint, slices, tmp_path / "out", False, 1, "cpu")

    with pytest.raises(ValueError, match=r"--slices: no slice in .* can be used"):
        row()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30)).astype(np.uint8)).save(slices / "1.png")
    assert "1 files and 1 that can't be used, masks, overlays and table" in row().measured
