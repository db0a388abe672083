"""Two networks that tell slices with a tumour from others, compared on the same slices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.metrics import compute_roc_auc

from monai_kd.metrics import paired_presence
from monai_kd.metrics.operating_point import choose_operating_point


def slices(seed: int = 0, patients: int = 12, signal: float = 1.0) -> list[dict]:
    """Scores with ties; the truth and the patients are the same for every seed."""
    truth = np.random.default_rng(99)
    random = np.random.default_rng(seed)
    rows = []
    for number in range(90):
        ill = bool(truth.random() < 0.5)
        score = round(float(np.clip(random.normal(0.4 + 0.2 * signal * ill, 0.15), 0, 1)), 2)
        area = 120.0 * ill
        rows.append(
            {"image": str(number), "group": str(number % patients), "truth_area_mm2": area, "presence_max": score}
        )
    return rows


def test_values_are_those_of_each_network_alone():
    first, second = slices(0), slices(1, signal=2.0)
    found = paired_presence(first, second, resamples=50)
    truth = [row["truth_area_mm2"] > 0 for row in first]
    for which, rows in (("first", first), ("second", second)):
        scores = [row["presence_max"] for row in rows]
        area = compute_roc_auc(torch.tensor(scores), torch.tensor(truth).int())
        assert found["auc max"][which] == pytest.approx(float(area))
        for specificity in (0.85, 0.9, 0.95):
            point = choose_operating_point(scores, truth, specificity, "max", "")
            assert found[f"sensitivity at {specificity:g}, max"][which] == pytest.approx(point["sensitivity"])
        # By the curve: the most specific of all thresholds that mark 90 % of the slices with a tumour.
        free, ill = ([s for s, t in zip(scores, truth, strict=True) if t == kind] for kind in (False, True))
        enough = [t for t in scores if sum(score >= t for score in ill) >= 0.9 * len(ill)]
        best = max(sum(score < t for score in free) / len(free) for t in enough)
        assert found["specificity at sensitivity 0.9, max"][which] == pytest.approx(best)
    assert found["auc max"]["difference"] == pytest.approx(found["auc max"]["second"] - found["auc max"]["first"])
    low, high = found["auc max"]["interval_95"]
    assert 0 < low < found["auc max"]["difference"] < high


def test_intervals_are_of_resampled_patients():
    """By a second implementation: slices of the drawn patients, put together as often as they are drawn."""
    first, second = slices(0), slices(1)
    found = paired_presence(first, second, resamples=40, seed=5)["auc max"]["interval_95"]
    generator, differences = np.random.default_rng(5), []
    groups = list(dict.fromkeys(row["group"] for row in first))
    for _ in range(40):
        drawn = [groups[index] for index in generator.integers(len(groups), size=len(groups))]
        areas = []
        for rows in (first, second):
            chosen = [row for group in drawn for row in rows if row["group"] == group]
            scores = torch.tensor([row["presence_max"] for row in chosen])
            areas.append(
                float(compute_roc_auc(scores, torch.tensor([row["truth_area_mm2"] > 0 for row in chosen]).int()))
            )
        differences.append(areas[1] - areas[0])
    np.testing.assert_allclose(found, np.quantile(differences, [0.025, 0.975]), atol=1e-9)


def test_equal_networks_do_not_differ():
    for entry in paired_presence(slices(), slices(), resamples=30).values():
        assert (entry["difference"], entry["interval_95"]) == (0, [0, 0])


def test_the_order_of_the_slices_makes_no_difference():
    assert paired_presence(slices(0), slices(1)[::-1], 20) == paired_presence(slices(0), slices(1), 20)


@pytest.mark.parametrize("area", [0.0, 50.0])
def test_without_both_kinds_of_slices_there_is_nothing(area):
    rows = [{**row, "truth_area_mm2": area} for row in slices()]
    assert paired_presence(rows, rows) == {}


def test_scores_that_one_network_lacks_are_left_out():
    assert paired_presence(slices(), [{**row, "presence_max": None} for row in slices()]) == {}
