"""Values of a config that are refused before anything is built from them."""

from __future__ import annotations

import pytest

from monai_kd.config import check_settings

SWITCHES = ["amp", "resume", "freeze", "teacher_freeze", "calibrate", "gradcam", "upright", "overlays"]
WEIGHTS = [f"{term}_weight" for term in ("supervised", "logit", "feature", "attention", "edge")]
FEATURES = [4, 4, 8, 8, 8, 4]


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", ["no", "off", "False", 0, 1, None])
def test_switches(name, value):
    with pytest.raises(ValueError, match=f"{name} must be True or False, got {value!r}"):
        check_settings({name: value})
    check_settings({name: True})
    check_settings({name: False})


@pytest.mark.parametrize("name", ["alpha", "basic_alpha", "label_smoothing", "flip_probability"])
@pytest.mark.parametrize("value", [2, -0.1, 1.01, True, "0.5", None, float("nan")])
def test_shares(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a number from 0 to 1, got "):
        check_settings({name: value})
    for good in (0, 0.3, 1):
        check_settings({name: good})


@pytest.mark.parametrize("name", ["weight_decay", "mixup", "basic_beta", "smallest_area_mm2", *WEIGHTS])
@pytest.mark.parametrize("value", [-1, -0.1, True, "much", None, float("nan"), float("inf")])
def test_amounts(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a number from 0, got "):
        check_settings({name: value})
    for good in (0, 0.3, 17):
        check_settings({name: good})


@pytest.mark.parametrize("name", ["learning_rate", "temperature"])
@pytest.mark.parametrize("value", [0, -1, True, "1e-3", float("inf")])
def test_positive_numbers(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a positive number, got "):
        check_settings({name: value})


@pytest.mark.parametrize("value", [300, 33, 32])
def test_a_classifier_takes_any_image_size(value):
    check_settings({"image_size": value})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 300, "features": FEATURES}, "image_size must be a multiple of 16, from 32, got 300"),
        ({"image_size": 16, "features": FEATURES}, "image_size must be a multiple of 16, from 32, got 16"),
        ({"image_size": 31}, "image_size must be a whole number from 32, got 31"),
        ({"image_size": 64.0}, "image_size must be a whole number from 32, got 64.0"),
    ],
)
def test_image_sizes(settings, message):
    with pytest.raises(ValueError, match=message):
        check_settings(settings)
