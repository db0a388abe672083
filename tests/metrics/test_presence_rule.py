"""The rule by which a slice shows a tumour."""

import numpy as np
import pytest
import torch

from monai_kd.metrics import PresenceRule, presence_score

POINT = {"score": "max", "threshold": 0.7, "specificity": 0.95, "sensitivity": 0.9, "measured_on": "fold 0"}


@pytest.mark.parametrize(
    ("operating_point", "threshold", "expected"),
    [
        (None, None, ("top_k_mean", None)),
        (POINT, None, ("max", 0.7)),
        (POINT, 0.2, ("max", 0.2)),
        (POINT, 0, ("max", 0)),
        (None, 0.4, ("top_k_mean", 0.4)),
    ],
)
def test_an_own_threshold_comes_before_that_of_the_operating_point(operating_point, threshold, expected):
    rule = PresenceRule.of(operating_point, threshold)
    assert (rule.score, rule.threshold) == expected


@pytest.mark.parametrize("shape", [(1, 20, 30), (3, 20, 30), (1, 20, 30, 4), (2, 20, 30, 4)])
@pytest.mark.parametrize("score", ["max", "top_k_mean"])
def test_scores_are_those_of_each_slice(shape, score):
    probability = torch.rand(shape, generator=torch.Generator().manual_seed(0)) ** 4
    scores = PresenceRule(score, 0.5).scores(probability)
    slices = probability.reshape(*shape[:3], -1).unbind(-1)
    np.testing.assert_allclose(scores, [presence_score(each, score) for each in slices])
    np.testing.assert_array_equal(PresenceRule(score, scores[0]).passed(scores), scores >= scores[0])
    assert PresenceRule(score).passed(scores).all()


@pytest.mark.parametrize(
    ("operating_point", "threshold", "message"),
    [
        ({"score": "max"}, None, "must have score and threshold"),
        ([0.5], None, "must have score and threshold"),
        ({**POINT, "score": "$exit()"}, None, "score must be one of max, top_k_mean"),
        ({**POINT, "threshold": 1.5}, None, "threshold must be a number from 0 to 1, got 1.5"),
        ({**POINT, "threshold": True}, None, "threshold must be a number"),
        ({**POINT, "threshold": float("nan")}, None, "threshold must be a number"),
        (POINT, -0.1, "presence_threshold must be a number from 0 to 1"),
    ],
)
def test_what_is_no_rule(operating_point, threshold, message):
    with pytest.raises(ValueError, match=message):
        PresenceRule.of(operating_point, threshold)
