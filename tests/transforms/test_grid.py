"""Labels on the grid of their image, turned to it, or refused."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImaged, SpatialResample
from PIL import Image

from monai_kd.inference import SliceReader
from monai_kd.transforms import SameGridd

TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = TURN @ np.diag([-0.5, -0.7, 6])
OBLIQUE[:3, 3] = (20, -30, 12)
# 45°: which axis runs where can't be told, in image and label each by itself.
DIAGONAL = np.eye(4)
DIAGONAL[:3, :3] = np.array([[1, -1, 0], [1, 1, 0], [0, 0, 2**0.5]]) / 2**0.5
PLACES = {"data_prep": np.diag([-0.49, -0.49, 6, 1]), "oblique": OBLIQUE, "diagonal": DIAGONAL}
ORIENTATIONS = [
    np.array([*zip(axes, flips, strict=True)], dtype=float)
    for axes in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def tensor(array: np.ndarray, affine: np.ndarray, name: str) -> MetaTensor:
    return MetaTensor(torch.as_tensor(array.copy())[None].float(), affine=affine, meta={"filename_or_obj": name})


def pair(label: np.ndarray, of_label: np.ndarray, size: tuple[int, ...], of_image: np.ndarray) -> dict:
    return {"image": tensor(np.zeros(size), of_image, "i.nii"), "label": tensor(label, of_label, "l.nii")}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("depth", [1, 3])
def test_every_way_to_store_an_array_leads_to_the_same_label(place, depth):
    size = (4, 6, depth)
    array = np.random.default_rng(0).integers(0, 2, size)
    for turn in ORIENTATIONS:
        stored = nib.orientations.apply_orientation(array, turn)
        affine = place @ nib.orientations.inv_ornt_aff(turn, size)
        out = SameGridd("label")(pair(stored, affine, size, place))["label"]
        np.testing.assert_array_equal(out[0].numpy(), array)
        np.testing.assert_array_equal(out.affine.numpy(), place)


def test_as_monai_resamples():
    size = (4, 6, 3)
    array = np.random.default_rng(0).integers(0, 2, size)
    turn = np.array([[1, -1], [0, 1], [2, -1]], dtype=float)
    stored = nib.orientations.apply_orientation(array, turn)
    data = pair(stored, OBLIQUE @ nib.orientations.inv_ornt_aff(turn, size), size, OBLIQUE)
    wanted = SpatialResample(mode="nearest", align_corners=True)(
        data["label"], dst_affine=data["image"].affine, spatial_size=size
    )
    torch.testing.assert_close(SameGridd("label")(data)["label"].as_tensor(), wanted.as_tensor(), rtol=0, atol=0)


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("axes", [(4, 6), (4, 6, 1)])
def test_same_grid_is_left_bit_by_bit(place, axes):
    array = np.random.default_rng(0).normal(size=axes).astype(np.float32)
    rounded = place.astype(np.float32).astype(float)
    out = SameGridd("label")(pair(array, rounded, (4, 6, 1), place))["label"]
    np.testing.assert_array_equal(out[0].numpy(), array.reshape(4, 6, 1))
    assert out.meta["filename_or_obj"] == "l.nii"


def shifted(pixels: float, axis: int) -> np.ndarray:
    step = np.eye(4)
    step[axis, 3] = pixels
    return step


@pytest.mark.parametrize(
    ("step", "away"),
    [
        pytest.param(shifted(1, 0), "1", id="a pixel"),
        pytest.param(shifted(-0.5, 1), "0.5", id="centres for corners"),
        pytest.param(shifted(2, 2), "2", id="another slice"),
        pytest.param(np.diag([1.1, 1, 1, 1]), "6.3", id="another spacing"),
        pytest.param(np.diag([-1, 1, 1, 1]), "63", id="flipped about the origin"),
        pytest.param(nib.affines.from_matvec(TURN), "40.8", id="rotated"),
    ],
)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_same_size_elsewhere(place, step, away):
    data = pair(np.zeros((64, 48, 1)), place @ step, (64, 48, 1), place)
    with pytest.raises(
        ValueError, match=rf"l\.nii has the size of i\.nii, but by its affine it is up to {away}\d? pixels away from it"
    ):
        SameGridd("label")(data)


@pytest.mark.parametrize("step", [shifted(0.04, 0), np.diag([1.001, 1, 1, 1]), np.diag([1, 1, 1 / 6, 1])])
def test_rounding_and_the_thickness_of_one_slice_are_no_displacement(step):
    # The third: how thick a single slice is says nothing about where its pixels lie.
    data = pair(np.ones((64, 48, 1)), OBLIQUE @ step, (64, 48, 1), OBLIQUE)
    assert SameGridd("label")(data)["label"].sum() == 64 * 48


def test_tolerance():
    data = pair(np.ones((64, 48, 1)), OBLIQUE @ shifted(0.04, 0), (64, 48, 1), OBLIQUE)
    with pytest.raises(ValueError, match=r"up to 0\.04 pixels"):
        SameGridd("label", tolerance=0.01)(data)


@pytest.mark.parametrize(
    ("label", "image", "message"),
    [
        ((4, 6, 1), (4, 5, 1), r"l\.nii has 4 × 6 pixels, and i\.nii has 4 × 5\. Save the label on the grid"),
        ((6, 4), (4, 6), "has 6 × 4 pixels"),
        ((4, 6, 3), (4, 6, 1), "has 4 × 6 × 3 pixels, and i.nii has 4 × 6"),
        ((8, 12, 1), (4, 6, 1), "has 8 × 12 pixels"),
    ],
)
def test_other_sizes(label, image, message):
    with pytest.raises(ValueError, match=message):
        SameGridd("label")(pair(np.zeros(label), OBLIQUE, image, OBLIQUE))


def read(folder: Path, **files: tuple[str, np.ndarray, np.ndarray]) -> dict:
    for name, array, affine in files.values():
        if name.endswith(".png"):
            Image.fromarray(array.astype(np.uint8).T).save(folder / name)
        else:
            nib.save(nib.Nifti1Image(array.astype(np.uint8), affine), folder / name)
    load = LoadImaged(list(files), reader=SliceReader, constant=True, ensure_channel_first=True)
    return Compose([load, SameGridd("label")])({key: str(folder / name) for key, (name, *_) in files.items()})


@pytest.mark.parametrize(("image", "label"), itertools.product(("i.png", "i.nii.gz"), ("l.png", "l.nii.gz")))
def test_pictures_beside_files_that_lie_upright(tmp_path, image, label):
    array = np.random.default_rng(0).integers(0, 2, (7, 5))
    affine = np.diag([-0.5, -0.5, 6, 1])
    affine[:3, 3] = 90  # beside a picture, where the other lies is of no matter
    out = read(tmp_path, image=(image, array + 1, affine), label=(label, array, affine))
    np.testing.assert_array_equal(out["label"][0].numpy(), array)
    np.testing.assert_array_equal(out["label"].affine, out["image"].affine)


@pytest.mark.parametrize(("image", "label"), [("i.png", "l.nii"), ("i.nii", "l.png")])
def test_pictures_beside_files_that_do_not(tmp_path, image, label):
    array = np.random.default_rng(0).integers(0, 2, (7, 5))
    with pytest.raises(RuntimeError) as caught:
        read(tmp_path, image=(image, array + 1, np.eye(4)), label=(label, array, np.eye(4)))
    assert "one file does not record its orientation" in str(caught.value.__cause__)


def test_pictures_of_other_sizes(tmp_path):
    with pytest.raises(RuntimeError) as caught:
        read(tmp_path, image=("i.png", np.eye(6), None), label=("l.png", np.ones((6, 5)), None))
    assert str(caught.value.__cause__).startswith(f"{tmp_path}/l.png has 6 × 5 pixels, and {tmp_path}/i.png has 6 × 6.")


def test_plain_tensors_have_sizes_alone():
    data = {"image": torch.zeros(1, 3, 4), "label": torch.ones(1, 3, 4)}
    assert torch.equal(SameGridd("label")(data)["label"], data["label"])
    with pytest.raises(ValueError, match="'label' has 3 × 4 pixels, and 'image' has 4 × 3"):
        SameGridd("label")({**data, "image": torch.zeros(1, 4, 3)})


def test_a_real_volume_stored_otherwise(tmp_path):
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "volumes"
    if not folder.is_dir():
        pytest.skip("no real volumes here")
    label = nib.load(folder / "brain1_label.nii.gz")
    nib.save(nib.as_closest_canonical(label), tmp_path / "ras.nii.gz")
    load = LoadImaged(["image", "label"], reader=SliceReader, constant=True, ensure_channel_first=True)
    item = {"image": str(folder / "brain1.nii.gz"), "label": str(tmp_path / "ras.nii.gz")}
    out = Compose([load, SameGridd("label")])(item)
    np.testing.assert_array_equal(out["label"][0].numpy(), np.asarray(label.dataobj))
