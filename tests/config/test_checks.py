"""Values of a config that are refused before anything is built from them."""

from __future__ import annotations

import pytest
from monai.bundle import ConfigParser

from monai_kd.config import check_overrides, check_settings

SWITCHES = ["amp", "resume", "freeze", "calibrate", "gradcam", "upright", "overlays", "batch_dice"]
FEATURES = [4, 4, 8, 8, 8, 4]
UNET = {"network_def": {"_target_": "BasicUNet", "features": FEATURES}}
HYBRID = {"network_def": {"_target_": "monai_kd.networks.HybridUNet", "features": FEATURES}}
OTHER = {"network_def": {"_target_": "DynUNet", "filters": [4, 8]}}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("term#kernel_size", None),
        ("term::kernel_size", None),
        ("loss#alpha", None),
        ("term#kernel", "no such id, and no object that takes it as an argument: set it in a file that is laid over"),
        ("settings#kernel_size", "no such id, and no object"),
        ("gone#kernel_size", "no such id, and no object"),
        ("nowhere#x", "no such id, and no object"),
        ("terms", "no such id[.]"),
    ],
)
def test_arguments_that_an_object_takes_and_the_config_lacks(name, said):
    content = {
        "term": {"_target_": "monai_kd.losses.BoundaryKL", "_mode_": "callable", "activation": "sigmoid"},
        "loss": {"_target_": "FocalLoss"},
        "settings": {"a": 1},
        "gone": {"_target_": "no_package.Loss"},
    }
    if said is None:
        check_overrides({name: 7}, ConfigParser(content), "train.json")
        return
    with pytest.raises(ValueError, match=f"unknown override: --{name}.* {said}"):
        check_overrides({name: 7}, ConfigParser(content), "train.json")


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("value", ["no", "off", "False", 0, 1, None])
def test_switches(name, value):
    with pytest.raises(ValueError, match=f"{name} must be True or False, got {value!r}"):
        check_settings({name: value})
    check_settings({name: True})
    check_settings({name: False})


@pytest.mark.parametrize(
    "name", ["alpha", "label_smoothing", "flip_probability", "negative_probability", "negative_share"]
)
@pytest.mark.parametrize("value", [2, -0.1, 1.01, True, "0.5", None, float("nan")])
def test_shares(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a number from 0 to 1, got "):
        check_settings({name: value})
    for good in (0, 0.3, 1):
        check_settings({name: good})


@pytest.mark.parametrize("name", ["weight_decay", "mixup", "smallest_area_mm2"])
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


@pytest.mark.parametrize("name", ["std", "spacing"])
@pytest.mark.parametrize("value", [[0, 0, 0], [1, 1, -1], [1, True], "1", 1.0, [float("nan")]])
def test_scales(name, value):
    with pytest.raises(ValueError, match=f"{name} must be None or a list of positive numbers"):
        check_settings({name: value})
    for good in (None, [0.5], [1, 1, 2.5]):
        check_settings({name: good})


@pytest.mark.parametrize(("name", "good"), [("projection_side", "student"), ("activation", "softmax")])
def test_choices(name, good):
    with pytest.raises(ValueError, match=f"{name} must be '[a-z]+' or '[a-z]+', got 'both'"):
        check_settings({name: "both"})
    check_settings({name: good})


@pytest.mark.parametrize("network", [{}, OTHER, {"network_def": None}])
@pytest.mark.parametrize("value", [300, 33, 32])
def test_a_classifier_and_a_network_of_another_kind_take_any_image_size(value, network):
    check_settings({"image_size": value, **network})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 300, **UNET}, "image_size must be a multiple of 16, from 32, got 300"),
        ({"image_size": 16, **HYBRID}, "image_size must be a multiple of 16, from 32, got 16"),
        ({"image_size": 31}, "image_size must be a whole number from 32, got 31"),
        ({"image_size": 64.0}, "image_size must be a whole number from 32, got 64.0"),
    ],
)
def test_image_sizes(settings, message):
    with pytest.raises(ValueError, match=message):
        check_settings(settings)


@pytest.mark.parametrize("network", [UNET, HYBRID])
@pytest.mark.parametrize(
    "features", [FEATURES[:5], [*FEATURES, 4], [4, 4, 8, 8, 8, 0], [4, 4, 8, 8, 8, True], 32, "wide"]
)
def test_features_of_a_unet(network, features):
    wrong = {"network_def": {**network["network_def"], "features": features}}
    with pytest.raises(ValueError, match="features must be six whole numbers: four encoder levels"):
        check_settings(wrong)
    check_settings({"image_size": 48, **network})


@pytest.mark.parametrize("name", ["negative_probability", "negatives_dir", "negative_share", "specificity"])
def test_negatives_are_slices(name):
    with pytest.raises(ValueError, match=f"{name} is for networks of slices"):
        check_settings({name: 0.5, "image_size": [32, 32, 32]})
    check_settings({name: 0, "image_size": [32, 32, 32]})
    check_settings({name: 0.5, "image_size": 32})


def test_specificity_may_be_none():
    check_settings({"specificity": None})
    with pytest.raises(ValueError, match="specificity must be None or a number from 0 to 1, got 95"):
        check_settings({"specificity": 95})


def test_an_epoch_must_be_validated():
    check_settings({"epochs": 4, "val_interval": 4})
    with pytest.raises(ValueError, match="val_interval is 2 and epochs is 1: no epoch would be validated"):
        check_settings({"epochs": 1, "val_interval": 2})


@pytest.mark.parametrize("value", [0.5, "0.5", [float("nan")], ["a"]])
def test_means(value):
    with pytest.raises(ValueError, match="mean must be None or a list of numbers, one for each channel, got "):
        check_settings({"mean": value})
    check_settings({"mean": None})
    check_settings({"mean": [0.1, -2]})


@pytest.mark.parametrize(("multiclass", "activation"), [(True, "sigmoid"), (False, "softmax")])
def test_activation_of_exclusive_classes(multiclass, activation):
    with pytest.raises(ValueError, match=f"activation is '{activation}', and multiclass is {multiclass}: "):
        check_settings({"multiclass": multiclass, "activation": activation})
    check_settings({"multiclass": not multiclass, "activation": activation})


def test_slices_have_two_axes():
    with pytest.raises(ValueError, match=r"spatial_dims is 3, .* of slices: lay volumes\.json over train"):
        check_settings({"image_size": 64, "spatial_dims": 3})
    check_settings({"image_size": 64, "spatial_dims": 2})
    check_settings({"image_size": [64, 64, 64], "spatial_dims": 3})
