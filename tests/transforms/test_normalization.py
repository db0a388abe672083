"""The normalisation of volumes: by closed forms, and nothing but that may be named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from monai_kd.transforms import NORMALIZATION_OF_VOLUMES, NormalizeByd, checked_normalization

WINDOW = {"_target_": "ScaleIntensityRange", "a_min": -100, "a_max": 300, "b_min": 0.0, "b_max": 1.0, "clip": True}
Z = {"_target_": "NormalizeIntensity", "subtrahend": 0.25, "divisor": 0.5}


def image() -> torch.Tensor:
    return torch.linspace(-1000, 1000, 2 * 4 * 4 * 4).reshape(2, 4, 4, 4)


def test_a_window_of_hounsfield_units():
    found = NormalizeByd("image", WINDOW)({"image": image(), "label": 3})
    torch.testing.assert_close(found["image"], ((image() + 100) / 400).clip(0, 1))
    assert found["label"] == 3


def test_several_one_after_the_other():
    found = NormalizeByd("image", [WINDOW, Z])({"image": image()})["image"]
    torch.testing.assert_close(found, (((image() + 100) / 400).clip(0, 1) - 0.25) / 0.5)


def test_unless_told_otherwise_each_channel_by_its_nonzero_values():
    given = image().numpy().copy()
    given[:, :2] = 0
    found = NormalizeByd("image", NORMALIZATION_OF_VOLUMES)({"image": torch.tensor(given)})["image"]
    for channel, own in zip(given, found, strict=True):
        inside = channel[channel != 0]
        expected = np.where(channel != 0, (channel - inside.mean()) / inside.std(), 0)
        np.testing.assert_allclose(own.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_names_are_shortened_so_that_they_can_be_compared():
    assert checked_normalization({**Z, "_target_": "monai.transforms.NormalizeIntensity"}) == [Z]
    assert checked_normalization([Z, WINDOW]) == [Z, WINDOW]
    assert checked_normalization([]) == []


@pytest.mark.parametrize(
    "definition",
    [
        {"_target_": "os.system", "command": "true"},
        {"_target_": "monai.transforms.intensity.array.NormalizeIntensity"},
        {"_target_": "mine.NormalizeIntensity"},
        {"_target_": "NormalizeIntensityd", "keys": "image"},
        {"_target_": "RandGaussianNoise"},
        {"_target_": "Lambda", "func": "print"},
        {"_target_": "LoadImage"},
        {"_target_": None},
        {"nonzero": True},
        "NormalizeIntensity",
        7,
    ],
)
def test_nothing_else_is_built(definition: Any):
    with pytest.raises(ValueError, match="give one of MONAI's NormalizeIntensity, ScaleIntensity, "):
        checked_normalization([Z, definition])


def test_keys_are_left_out():
    with pytest.raises(ValueError, match=r"'keys'.* It sets the values of an array: leave keys out\."):
        checked_normalization({**WINDOW, "keys": "image"})


@pytest.mark.parametrize("more", [{"a_min": 0}, {"nothing": 1}])
def test_arguments_that_do_not_fit(more):
    with pytest.raises(ValueError, match="normalization, ScaleIntensityRange, does not take"):
        checked_normalization({"_target_": "ScaleIntensityRange", **more})
