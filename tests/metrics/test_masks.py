"""Mask metrics against closed forms and against a second implementation by distance transforms."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy import ndimage

from monai_kd.metrics import MASK_METRICS, VOLUME_METRICS, class_columns, mask_metrics, masks_metrics


def square(low: tuple[int, int], high: tuple[int, int], size: tuple[int, int] = (32, 24)) -> torch.Tensor:
    mask = torch.zeros(size)
    mask[low[0] : high[0], low[1] : high[1]] = 1
    return mask


def blobs(seed: int, size: tuple[int, int] = (40, 33)) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=size)
    return ndimage.gaussian_filter(noise, 3) > 0.05


def reference(prediction: np.ndarray, truth: np.ndarray, spacing: tuple[float, float]) -> dict[str, float]:
    def surface(mask):
        return mask & ~ndimage.binary_erosion(mask)

    to_truth = ndimage.distance_transform_edt(~surface(truth), sampling=spacing)[surface(prediction)]
    to_prediction = ndimage.distance_transform_edt(~surface(prediction), sampling=spacing)[surface(truth)]
    both, found, wanted = (prediction & truth).sum(), prediction.sum(), truth.sum()
    return {
        "dice": 2 * both / (found + wanted),
        "iou": both / (prediction | truth).sum(),
        "sensitivity": both / wanted,
        "precision": both / found,
        "hd95_mm": max(np.percentile(to_truth, 95), np.percentile(to_prediction, 95)),
        "surface_distance_mm": np.concatenate([to_truth, to_prediction]).mean(),
        "truth_area_mm2": wanted * spacing[0] * spacing[1],
        "predicted_area_mm2": found * spacing[0] * spacing[1],
    }


def test_shifted_squares():
    # 8 × 8 pixels each, shifted by 2 along the first axis: 6 × 8 in common. The two rows that are farthest from the
    # other square are more than 5 % of its 28 surface pixels, so that the 95th percentile is the shift.
    metrics = mask_metrics(square((10, 6), (18, 14)), square((12, 6), (20, 14)), (0.5, 2.0))
    assert list(metrics) == list(MASK_METRICS)
    assert metrics["dice"] == pytest.approx(48 / 64)
    assert metrics["iou"] == pytest.approx(48 / 80)
    assert metrics["sensitivity"] == metrics["precision"] == pytest.approx(48 / 64)
    assert metrics["hd95_mm"] == pytest.approx(2 * 0.5)
    assert metrics["truth_area_mm2"] == metrics["predicted_area_mm2"] == pytest.approx(64.0)


@pytest.mark.parametrize(("axis", "expected"), [(0, 10 * 0.5), (1, 10 * 2.0)])
def test_distance_is_in_mm_along_each_axis(axis, expected):
    one, other = torch.zeros(32, 24), torch.zeros(32, 24)
    one[5, 5] = 1
    other[(15, 5) if axis == 0 else (5, 15)] = 1
    metrics = mask_metrics(one, other, (0.5, 2.0))
    assert metrics["hd95_mm"] == metrics["surface_distance_mm"] == pytest.approx(expected)
    assert metrics["dice"] == metrics["iou"] == metrics["sensitivity"] == metrics["precision"] == 0


def test_perfect_prediction():
    mask = square((3, 4), (9, 11))
    metrics = mask_metrics(mask, mask, (0.49, 0.49))
    assert [metrics[name] for name in ("dice", "iou", "sensitivity", "precision")] == [1, 1, 1, 1]
    assert metrics["hd95_mm"] == metrics["surface_distance_mm"] == 0


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.49, 0.49), (0.4, 1.7)])
@pytest.mark.parametrize("seed", range(4))
def test_equals_distance_transforms(seed, spacing):
    # masks of several parts, with holes, and touching the border of the image
    prediction, truth = blobs(seed), blobs(seed + 100)
    metrics = mask_metrics(torch.from_numpy(prediction), torch.from_numpy(truth), spacing)
    assert metrics == pytest.approx(reference(prediction, truth, spacing), rel=1e-5)


def test_masks_may_have_any_number_type_and_value():
    prediction, truth = blobs(0), blobs(1)
    plain = mask_metrics(torch.from_numpy(prediction), torch.from_numpy(truth), (1, 1))
    other = mask_metrics(MetaTensor(255 * prediction.astype(np.uint8)), torch.from_numpy(truth).double(), (1, 1))
    assert plain == other


NOTHING = torch.zeros(8, 8)
SOMETHING = square((2, 2), (5, 5), (8, 8))


@pytest.mark.parametrize(
    ("prediction", "truth", "undefined", "zero"),
    [
        pytest.param(
            *(NOTHING, SOMETHING, {"precision", "hd95_mm", "surface_distance_mm"}, {"dice", "iou", "sensitivity"}),
            id="missed tumour",
        ),
        pytest.param(
            *(SOMETHING, NOTHING, {"sensitivity", "hd95_mm", "surface_distance_mm"}, {"dice", "iou", "precision"}),
            id="no tumour there",
        ),
        pytest.param(
            *(NOTHING, NOTHING, set(MASK_METRICS) - {"truth_area_mm2", "predicted_area_mm2"}, set()), id="both empty"
        ),
    ],
)
def test_undefined_is_none_never_nan(prediction, truth, undefined, zero, recwarn):
    metrics = mask_metrics(prediction, truth, (1, 1))
    assert {name for name, value in metrics.items() if value is None} == undefined
    assert all(metrics[name] == 0 for name in zero)
    assert all(np.isfinite(value) for value in metrics.values() if value is not None)
    assert not [warning for warning in recwarn if "all 0" in str(warning.message)]


@pytest.mark.parametrize("spacing", [(1,), (1, 1, 6), (1, 0), (1, float("nan")), (-1, 1)])
def test_bad_spacing(spacing):
    with pytest.raises(ValueError, match="spacing must be 2 positive numbers"):
        mask_metrics(SOMETHING, SOMETHING, spacing)


def test_blocks_in_a_volume():
    """Two cubes of 4 voxels, one moved along the axis of thick slices: all in closed form."""
    truth, prediction = torch.zeros(12, 12, 12), torch.zeros(12, 12, 12)
    truth[4:8, 4:8, 4:8] = 1
    prediction[4:8, 4:8, 6:10] = 1
    found = mask_metrics(prediction, truth, (0.5, 0.5, 3.0))
    assert list(found) == list(VOLUME_METRICS)
    overlap = [found[name] for name in ("dice", "iou", "sensitivity", "precision")]
    assert overlap == pytest.approx([0.5, 1 / 3, 0.5, 0.5])
    # 64 voxels of 0.75 mm³.
    assert found["truth_volume_ml"] == found["predicted_volume_ml"] == pytest.approx(0.048)
    # The surface is 56 voxels; the 4 × 4 of the end are two slices of 3 mm from the other, those of the next slice one.
    assert found["hd95_mm"] == pytest.approx(6.0)
    both = masks_metrics(torch.stack([prediction, truth]), torch.stack([truth, truth]), (0.5, 0.5, 3.0), ["a", "b"])
    assert (both["dice"], both["dice_a"], both["dice_b"]) == (0.75, 0.5, 1.0)
    assert both["truth_volume_ml"] == pytest.approx(0.048)
    assert both["predicted_volume_ml"] == pytest.approx(0.072)


@pytest.mark.parametrize("lengths", [(1, 1), (1, 1, 0)])
def test_bad_spacing_of_a_volume(lengths):
    with pytest.raises(ValueError, match="spacing must be 3 positive numbers"):
        mask_metrics(torch.zeros(4, 4, 4), torch.zeros(4, 4, 4), lengths)


@pytest.mark.parametrize("shape", [(8, 7), (1, 8, 8), (8,), (1, 1, 8, 8)])
def test_bad_shapes(shape):
    with pytest.raises(ValueError, match=r"\(H, W\)"):
        mask_metrics(torch.zeros(shape), SOMETHING, (1, 1))


def test_several_classes_are_each_by_itself_and_their_mean():
    random = np.random.default_rng(3)
    names = ["a", "b", "never", "only predicted"]
    predicted, true = random.integers(0, 3, (2, 24, 20))
    found = np.stack([predicted == 1, predicted == 2, predicted == 9, np.eye(24, 20) == 1])
    wanted = np.stack([true == 1, true == 2, true == 9, true == 9])
    metrics = masks_metrics(torch.as_tensor(found), torch.as_tensor(wanted), (0.5, 2.0), names)
    assert list(metrics) == [*MASK_METRICS, *(f"{metric}_{name}" for name in names for metric in MASK_METRICS)]
    dices = [2 * (p & t).sum() / (p.sum() + t.sum()) for p, t in zip(found[[0, 1, 3]], wanted[[0, 1, 3]], strict=True)]
    assert [metrics[f"dice_{name}"] for name in names if name != "never"] == pytest.approx(dices)
    assert metrics["dice_never"] is None
    # over the classes: the mean of those that define it; of areas the union
    assert metrics["dice"] == pytest.approx(np.mean(dices))
    assert metrics["sensitivity"] == pytest.approx(
        np.mean([(p & t).sum() / t.sum() for p, t in zip(found[:2], wanted[:2], strict=True)])
    )
    assert metrics["truth_area_mm2"] == wanted.any(axis=0).sum()
    assert metrics["predicted_area_mm2"] == found.any(axis=0).sum()
    for number, name in enumerate(names):
        alone = mask_metrics(torch.as_tensor(found[number]), torch.as_tensor(wanted[number]), (0.5, 2.0))
        assert {metric: metrics[f"{metric}_{name}"] for metric in MASK_METRICS} == alone


def test_one_class_has_the_columns_of_one():
    masks = torch.eye(8)[None]
    assert masks_metrics(masks, masks, (1, 1), ["tumour"]) == mask_metrics(masks[0], masks[0], (1, 1))
    assert class_columns(["tumour"]) == {}
    with pytest.raises(ValueError, match=r"a mask for each of a, b, got \(1, 8, 8\)"):
        masks_metrics(masks, masks, (1, 1), ["a", "b"])
