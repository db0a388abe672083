"""Masks on their way through MONAI Label's own steps, without MONAI Label."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_kd.label import ForMonaiLabeld


@pytest.mark.parametrize(
    ("path", "shape", "expected", "spatial"),
    [
        pytest.param("a.png", (1, 4, 6), (4, 6), (4, 6), id="picture"),
        pytest.param("a.nii.gz", (1, 4, 6), (1, 4, 6, 1), (4, 6, 1), id="flat"),
        pytest.param("a.nii", (1, 4, 6, 1), (1, 4, 6, 1), (4, 6, 1), id="single"),
        pytest.param("a.nii", (1, 4, 6, 3), (1, 4, 6, 3), (4, 6, 3), id="volume"),
    ],
)
def test_shapes(path, shape, expected, spatial):
    mask = torch.randint(0, 2, shape, dtype=torch.uint8)
    data = {"image": MetaTensor(torch.zeros(3, 2, 2)), "pred": MetaTensor(mask), "image_path": path}
    out = ForMonaiLabeld("pred")(data)
    assert tuple(out["pred"].shape) == expected
    assert torch.equal(out["pred"].as_tensor().flatten(), mask.flatten())
    # What its Restored compares the mask with.
    assert out["image"].meta["spatial_shape"] == spatial


@pytest.mark.parametrize(
    ("path", "asked", "expected"),
    [
        pytest.param("a.jpg", None, ".png", id="JPEG"),
        pytest.param("a.JPEG", "", ".png", id="JPEG, of another name"),
        pytest.param("a.jpg", ".nrrd", ".nrrd", id="JPEG, and asked for another kind"),
        pytest.param("a.nii.gz", ".jpg", ".png", id="asked for JPEG"),
        pytest.param("a.png", None, None, id="PNG"),
        pytest.param("a.nii.gz", None, None, id="NIfTI"),
    ],
)
def test_no_mask_is_written_as_jpeg(path, asked, expected):
    """MONAI Label's writer goes by ``result_extension``, and without it by the suffix of the image."""
    mask = MetaTensor(torch.randint(0, 2, (1, 4, 6), dtype=torch.uint8))
    data = {"image": MetaTensor(torch.zeros(3, 2, 2)), "pred": mask, "image_path": path, "result_extension": asked}
    assert (ForMonaiLabeld("pred")(data)["result_extension"] or None) == expected


def test_other_runs_are_left_alone():
    data = {"image": MetaTensor(torch.zeros(3, 2, 2)), "pred": MetaTensor(torch.zeros(1, 4, 6))}
    assert ForMonaiLabeld("pred")(data)["pred"] is data["pred"]


def test_masks_that_overlap_become_indices_of_the_last():
    masks = torch.zeros(3, 4, 6, dtype=torch.uint8)
    masks[0], masks[1, 1:], masks[2, 2] = 1, 1, 1
    data = {"image": MetaTensor(torch.zeros(3, 2, 2)), "pred": MetaTensor(masks), "image_path": "a.png"}
    found = ForMonaiLabeld("pred")(data)["pred"]
    assert found.tolist() == [[1] * 6, [2] * 6, [3] * 6, [2] * 6]
