"""Slices below the operating point, and marks that are too thin."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_kd.inference import DropSmallAreasd, DropThinMarksd, JudgeInputd, JudgePresenced, finding_of, measure
from monai_kd.inference.measures import told_absence

POINT = {"score": "max", "threshold": 0.7}


def volume(spacing=(0.5, 0.8, 1.0), **meta) -> MetaTensor:
    """Marks on slices 0 to 3 in one corner, and on slices 5 and 6 in another."""
    mask = torch.zeros(1, 16, 16, 8, dtype=torch.uint8)
    mask[:, 2:6, 2:6, 0:4] = 1
    mask[:, 9:12, 9:12, 5:7] = 1
    return MetaTensor(mask, meta={"spacing": np.array(spacing), **meta})


def test_only_slices_that_pass_keep_their_mask():
    mask = volume()
    probability = MetaTensor(torch.as_tensor(mask).float() * torch.linspace(0.56, 0.91, 8))
    out = JudgePresenced("pred", operating_point=POINT)({"pred": mask, "probability": probability})
    passed = np.linspace(0.56, 0.91, 8) >= 0.7
    np.testing.assert_array_equal(out["pred"], np.asarray(mask) * passed)
    # The highest slice has no mark: the score is that of the highest mark, on slice 6.
    assert out["examination"] == {"presence_score": 0.86, "presence_threshold": 0.7}
    assert int(mask.sum()) == 4 * 16 + 2 * 9
    assert isinstance(out["pred"], MetaTensor)
    assert out["pred"].dtype == torch.uint8


@pytest.mark.parametrize("channels", [1, 3])  # indices, or overlapping masks
def test_several_classes_are_judged_by_the_highest(channels):
    mask = MetaTensor(torch.ones(channels, 8, 8), meta={"spacing": np.ones(3)})
    probability = torch.zeros(3 + (channels == 1), 8, 8)
    probability[-1, 0, 0], probability[0] = 0.8, probability[0] if channels == 3 else 0.99  # of the background
    for threshold, kept in ((0.75, 1), (0.85, 0)):
        out = JudgePresenced("pred", 3, POINT, threshold)({"pred": mask, "probability": probability})
        assert float(torch.as_tensor(out["pred"]).mean()) == kept
        assert out["examination"]["presence_score"] == 0.8


def test_without_an_operating_point_the_score_decides_nothing():
    mask = volume()
    out = JudgePresenced("pred")({"pred": mask, "probability": torch.as_tensor(mask).float() * 0.1})
    assert out["pred"] is mask
    assert out["examination"] == {"presence_score": 0.1}


@pytest.mark.parametrize(
    ("smallest", "thickness", "kept", "dropped"),
    [
        (0, 1.0, 4 * 16 + 2 * 9, None),
        (2, 1.0, 4 * 16 + 2 * 9, 0),
        (2.1, 1.0, 4 * 16, 1),
        (3, 1.0, 4 * 16, 1),
        (3, 1.5, 4 * 16 + 2 * 9, 0),
        (3, 6.5, 4 * 16 + 2 * 9, 0),
        (4.1, 1.0, 0, 2),
    ],
)
def test_thin_marks_are_dropped(smallest, thickness, kept, dropped):
    mask = volume((0.5, 0.5, thickness))
    out = DropThinMarksd("pred", smallest)({"pred": mask})
    assert int(out["pred"].sum()) == kept
    assert out.get("examination", {}).get("dropped_marks") == dropped
    assert int(mask.sum()) == 4 * 16 + 2 * 9


@pytest.mark.parametrize("value", [True, -1, float("inf"), "3", None])
def test_sizes_are_numbers(value):
    with pytest.raises(ValueError, match="smallest_extent_mm must be a number from 0"):
        DropThinMarksd("pred", value)
    with pytest.raises(ValueError, match="smallest_area_mm2 must be a number from 0"):
        DropSmallAreasd("pred", value)


def test_positions_decide_how_far_a_mark_reaches():
    # Between slices 5 and 6 one is missing: 3 mm, and half a millimetre beyond either.
    positions = np.array([0, 1, 2, 3, 4, 5, 7, 8.0])
    out = DropThinMarksd("pred", 3)({"pred": volume(slice_positions=positions)})
    assert int(out["pred"].sum()) == 4 * 16 + 2 * 9
    # Three are missing: two marks, 1 mm each.
    out = DropThinMarksd("pred", 1.5)({"pred": volume(slice_positions=np.array([0, 1, 2, 3, 4, 5, 9, 10.0]))})
    assert int(out["pred"].sum()) == 4 * 16
    assert out["examination"] == {"dropped_marks": 2}


@pytest.mark.parametrize("channels", [1, 2])
def test_classes_that_touch_are_one_mark(channels):
    mask = torch.zeros(channels, 8, 8, 4)
    for number in range(4):
        mask[number % channels, 2:5, 2:5, number] = 1 if channels == 2 else 1 + number % 2
    data = {"pred": MetaTensor(mask, meta={"spacing": np.ones(3)})}
    assert int((DropThinMarksd("pred", 4)(data)["pred"] > 0).sum()) == 4 * 9
    assert int((DropThinMarksd("pred", 4.5)(data)["pred"] > 0).sum()) == 0


def test_single_slices_are_never_thin():
    for shape in ((1, 8, 8), (1, 8, 8, 1)):
        data = {"pred": MetaTensor(torch.ones(shape), meta={"spacing": np.array([1, 1, np.nan])})}
        assert DropThinMarksd("pred", 100)(data)["pred"].all()


@pytest.mark.parametrize("value", [-1, "3", float("inf"), None])
def test_a_length_is_a_number(value):
    with pytest.raises(ValueError, match="smallest_extent_mm must be a number from 0"):
        DropThinMarksd("pred", value)


def test_area_and_volume_of_sheared_pixels_are_those_of_the_lesion():
    affine = np.diag([1.0, 0.5, 4.0, 1.0])
    affine[0, 1] = 0.3
    mask = torch.zeros(1, 8, 8, 3)
    mask[0, 2:6, 2:6, :2] = 1
    meta = {"spacing": np.linalg.norm(affine[:3, :3], axis=0), "original_affine": affine}
    finding = finding_of({"pred": MetaTensor(mask, meta=meta), "probability": mask * 0.8}, ["tumour"])
    assert finding.found["area_mm2"] == pytest.approx(16 * 0.5)
    assert finding.found["volume_mm3"] == pytest.approx(32 * 0.5 * 4)
    assert finding.lesions[0]["volume_ml"] == pytest.approx(finding.found["volume_mm3"] / 1000)


def test_a_finding_holds_what_the_rules_said_and_the_lesions():
    mask = volume()
    output = {"pred": mask, "probability": torch.as_tensor(mask).float() * 0.8}
    output = DropThinMarksd("pred", 3)(JudgePresenced("pred", 1, POINT)(output))
    finding = finding_of(output, ["tumour"], ["the header names a T2-weighted sequence", "it is small"])
    assert finding.found.items() >= measure(finding.masks[0], finding.probabilities[0], np.array([0.5, 0.8, 1])).items()
    assert (
        finding.found.items()
        >= {
            **{"presence_score": 0.8, "presence_threshold": 0.7, "dropped_marks": 1, "lesion_count": 1},
            "warning": "the header names a T2-weighted sequence; it is small",
        }.items()
    )
    assert [lesion["volume_ml"] for lesion in finding.lesions] == [round(4 * 16 * 0.4 / 1000, 3)]


def test_the_volume_of_uneven_slices_follows_their_positions():
    output = {
        "pred": volume(slice_positions=np.array([0, 1, 3, 4, 5, 6, 7, 8.0])),
        "probability": torch.ones(1, 16, 16, 8),
    }
    finding = finding_of(output, ["tumour"])
    assert finding.found["volume_mm3"] == pytest.approx((16 * 5 + 9 * 2) * 0.4, abs=0.05)
    assert sum(lesion["volume_ml"] for lesion in finding.lesions) == pytest.approx(0.0392, abs=1e-3)


def head(slices: int) -> torch.Tensor:
    x, y = np.mgrid[:32, :32]
    disc = ((x - 16) ** 2 + (y - 16) ** 2 < 11**2).astype(np.float32)
    return torch.as_tensor(np.repeat(disc[None, ..., None], slices, axis=-1))


def test_unfit_images_are_not_judged():
    mask = MetaTensor(torch.ones(1, 32, 32, 2), meta={"spacing": np.ones(3), "unfit": np.ones(1)})
    data = {"pred": mask, "image": head(2), "probability": torch.ones(1, 32, 32, 2)}
    finding = finding_of(JudgeInputd("pred")(data), ["tumour"], ["the header names a FLAIR sequence"])
    assert (finding.found["tumour"], finding.found["lesion_count"]) == ("not judged", 0)
    assert finding.found["warning"] == "the header names a FLAIR sequence"
    assert told_absence(finding.found) == "not judged: the header names a FLAIR sequence"
    kept = finding_of(JudgeInputd("pred", judge_unfit=True)(data), ["tumour"], ["the header names a FLAIR sequence"])
    assert (kept.found["tumour"], kept.found["lesion_count"]) == ("yes", 1)
    assert kept.found["warning"] == "the header names a FLAIR sequence"
    assert mask.all()


@pytest.mark.parametrize(
    ("odd", "warned"), [((), False), ((4, 5), False), (range(3, 9), True), ((0, 1, 2, 3, 9, 10, 11), False)]
)
def test_most_slices_in_the_middle_decide_on_the_shape(odd, warned):
    image = head(12)
    for number in odd:
        image[..., number] = torch.arange(32)[None, :, None] // 4 % 2
    mask = MetaTensor(torch.ones(1, 32, 32, 12), meta={"spacing": np.ones(3)})
    out = JudgeInputd("pred")({"pred": mask, "image": image, "probability": torch.ones(1, 32, 32, 12)})
    assert ("warnings" in out.get("examination", {})) == warned
    finding = finding_of(out, ["tumour"])
    assert finding.found["tumour"] == "yes"
    assert ("shape of a whole head" in finding.found.get("warning", "")) == warned
