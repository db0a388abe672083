"""Lesions of known size and place, and their geometry."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import regionprops

from monai_kd.inference import read_image
from monai_kd.metrics import MOST_LESIONS, SliceStack, label_lesions, lesion_columns, lesion_extents, measure_lesions

BRAIN = Path(__file__).resolve().parents[3] / "shared" / "volumes"


def stack_of(affine: np.ndarray, slices: int, **more: object) -> SliceStack:
    return SliceStack.of({"original_affine": affine, "spacing": np.linalg.norm(affine[:3, :3], axis=0), **more}, slices)


def ellipsoid(shape: tuple[int, ...], affine: np.ndarray, centre: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Voxels whose middles lie within semi-axes (3, 3), as columns in mm, around a centre in RAS+."""
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    away = indices @ affine[:3, :3].T + affine[:3, 3] - centre
    return (np.linalg.solve(axes, away.reshape(-1, 3).T) ** 2).sum(axis=0).reshape(shape) <= 1


ROTATED = np.array([[0.0, 0.8, 0.1, -60], [-0.7, 0.0, 0.0, 50], [0.0, -0.1, 1.5, -30], [0, 0, 0, 1.0]])
AFFINES = {
    "as data_prep writes": np.diag([-0.5, -0.5, 2.0, 1.0]) + np.array([[0, 0, 0, 40], [0] * 4, [0] * 4, [0] * 4]),
    "oblique": ROTATED,
    "tilted": np.array([[0.6, 0, 0.5, -50], [0, 0.6, 0, -50], [0, 0, 2.0, -30], [0, 0, 0, 1.0]]),
}


@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_ellipsoid(affine):
    shape = (160, 150, 40)
    centre = (affine @ [80, 75, 20, 1])[:3]
    # 32 mm and 20 mm across in the plane of the slices, 24 mm along their normal
    in_plane, normal = np.linalg.qr(affine[:3, :2])[0], np.cross(affine[:3, 0], affine[:3, 1])
    axes = np.column_stack([16 * in_plane[:, 0], 10 * in_plane[:, 1], 12 * normal / np.linalg.norm(normal)])
    mask = ellipsoid(shape, affine, centre, axes)
    ((lesion,), count) = measure_lesions(mask[None], np.full((1, *shape), 0.8), stack_of(affine, 40))
    assert count == 1
    assert lesion["volume_ml"] == pytest.approx(4 / 3 * np.pi * 16 * 10 * 12 / 1000, rel=0.02)
    assert lesion["longest_diameter_mm"] == pytest.approx(32, abs=1)
    assert lesion["perpendicular_diameter_mm"] == pytest.approx(20, abs=1)
    assert lesion["diameter_product_mm2"] == pytest.approx(640, rel=0.05)
    assert lesion["extent_z_mm"] == pytest.approx(24, abs=2)
    assert abs(lesion["diameter_slice"] - 20) <= 1
    np.testing.assert_allclose([lesion[f"centre_{axis}_mm"] for axis in "ras"], centre, atol=0.5)
    np.testing.assert_allclose([lesion[f"centre_{axis}"] for axis in "xyz"], [80, 75, 20], atol=0.5)
    inside = np.argwhere(mask)
    assert [lesion[name] for name in ("x0", "y0", "z0", "x1", "y1", "z1")] == [*inside.min(0), *inside.max(0)]
    assert (lesion["mean_probability"], lesion["pixels"]) == (0.8, mask.sum())


def test_lesions_are_ordered_by_volume_and_agree_with_scipy():
    mask = np.random.default_rng(0).random((12, 12, 6)) < 0.12
    numbers, count = ndimage.label(mask, np.ones((3, 3, 3)))
    lesions, found = measure_lesions(mask[None], mask[None].astype(float), stack_of(np.eye(4), 6))
    assert found == count > 5
    sizes = sorted(np.bincount(numbers.ravel())[1:], reverse=True)
    assert [lesion["pixels"] for lesion in lesions] == sizes
    assert [lesion["lesion"] for lesion in lesions] == list(range(1, count + 1))


def test_missing_slices():
    """Slices at 0, 5, 10, 20, 25 mm (one is missing), and at 60, 65 mm (seven are)."""
    stack = stack_of(np.diag([1, 1, 5.0, 1]), 7, slice_positions=[0, 5, 10, 20, 25, 60, 65.0])
    np.testing.assert_array_equal(stack.linked, [True, True, True, True, False, True])
    np.testing.assert_allclose(stack.thickness, [5, 5, 7.5, 7.5, 5, 5, 5])
    mask = np.zeros((10, 10, 7), bool)
    mask[:2, :5, :] = True
    first, second = measure_lesions(mask[None], mask[None].astype(float), stack)[0]
    assert (first["z0"], first["z1"], second["z0"], second["z1"]) == (0, 4, 5, 6)
    # From -2.5 to 27.5 mm, and from 57.5 to 67.5 mm, 10 mm² on each slice.
    assert (first["volume_ml"], second["volume_ml"]) == (0.3, 0.1)
    assert (first["extent_z_mm"], second["centre_s_mm"]) == (30, 62.5)
    np.testing.assert_allclose(lesion_extents(label_lesions(mask, stack.linked), stack), [0, 30, 10])


def test_single_slices_and_unknown_spacing():
    mask = np.zeros((1, 20, 20), bool)
    mask[0, 5:15, 5:9] = True
    (lesion,), _ = measure_lesions(mask, mask.astype(float), stack_of(np.diag([0.5, 0.5, 6, 1]), 1))
    assert "volume_ml" not in lesion
    assert lesion["longest_diameter_mm"] == pytest.approx(np.hypot(5, 2), abs=0.5)
    (bare,), _ = measure_lesions(mask, mask.astype(float), SliceStack.of({"spacing": np.full(3, np.nan)}, 1))
    assert bare["pixels"] == 40
    assert not [name for name in bare if name.endswith(("mm", "ml", "mm2"))]
    # A DICOM slice may give the size of its pixels and not its thickness.
    flat = SliceStack.of({"spacing": np.array([0.5, 0.5, np.nan])}, 1)
    (thin,), _ = measure_lesions(mask, mask.astype(float), flat)
    assert "longest_diameter_mm" in thin
    assert "extent_z_mm" not in thin


def test_classes_share_lesions():
    masks = np.zeros((2, 10, 10, 4), bool)
    masks[0, 1:5, 1:5, :2] = True
    masks[1, 5:7, 1:5, :2] = True  # beside the first class: one lesion
    masks[1, 8:, 8:, 3] = True
    probabilities = np.stack([masks[0] * 0.9, masks[1] * 0.6])
    names = ["glioma", "oedema"]
    lesions, count = measure_lesions(masks, probabilities, stack_of(np.diag([1, 1, 10.0, 1]), 4), names)
    assert count == 2
    assert [lesion["class"] for lesion in lesions] == names
    assert (lesions[0]["volume_ml"], lesions[0]["volume_ml_glioma"], lesions[0]["volume_ml_oedema"]) == (
        0.48,
        0.32,
        0.16,
    )
    assert lesions[0]["mean_probability"] == pytest.approx((32 * 0.9 + 16 * 0.6) / 48, abs=1e-4)
    assert all(set(lesion) <= set(lesion_columns(names)) for lesion in lesions)


def test_two_areas_on_a_slice_are_measured_apart():
    """A U that is joined on its last slice only: the diameter is that of one leg, or of the joint."""
    mask = np.zeros((40, 20, 2), bool)
    mask[2:6, 2:18, 0] = mask[30:34, 2:18, 0] = True
    mask[2:34, 2:4, 1] = True
    (lesion,), _ = measure_lesions(mask[None], mask[None].astype(float), stack_of(np.eye(4), 2))
    assert (lesion["longest_diameter_mm"], lesion["diameter_slice"]) == (pytest.approx(32, abs=1), 1)


def test_most_lesions_are_counted_and_not_measured():
    mask = np.zeros((64, 64, 1), bool)
    mask[::4, ::4] = True
    lesions, count = measure_lesions(mask[None], mask[None].astype(float), stack_of(np.eye(4), 1))
    assert (len(lesions), count) == (MOST_LESIONS, 256)


@pytest.mark.skipif(not (BRAIN / "brain1_label.nii.gz").exists(), reason="no real volume")
def test_tumour_of_a_real_volume():
    mask, meta = read_image(BRAIN / "brain1_label.nii.gz")
    stack = SliceStack.of(meta, mask.shape[2])
    lesions, count = measure_lesions(mask[None], (mask[None] > 0).astype(float), stack)
    spacing = nib.load(BRAIN / "brain1_label.nii.gz").header.get_zooms()
    # Two parts that touch nowhere, on 7 slices.
    assert (count, [lesion["slices"] for lesion in lesions]) == (2, [6, 2])
    assert sum(lesion["pixels"] for lesion in lesions) == 4137
    assert sum(lesion["volume_ml"] for lesion in lesions) == pytest.approx(4137 * np.prod(spacing) / 1000, abs=2e-3)
    largest = regionprops((mask[..., lesions[0]["diameter_slice"]] > 0).astype(int), spacing=spacing[:2])[0]
    assert lesions[0]["longest_diameter_mm"] == pytest.approx(largest.feret_diameter_max, abs=1)
