"""Random transforms that fail are named before a training, whatever their probability."""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy as np
import pytest
import torch
from monai.transforms import (
    Compose,
    OneOf,
    RandCropByPosNegLabeld,
    RandFlipd,
    RandGaussianNoised,
    Randomizable,
    RandRotated,
    RandSimulateLowResolutiond,
    RandZoomd,
    Resized,
    SomeOf,
    SpatialPadd,
    ToTensord,
)

from monai_kd.data import CheckedDataset
from monai_kd.data.random_trial import try_random

BOTH = ["image", "label"]


def item() -> dict[str, Any]:
    return {"image": torch.rand(3, 16, 16), "label": torch.zeros(1, 16, 16)}


@pytest.mark.parametrize(
    ("transform", "said"),
    [
        (RandZoomd(BOTH, prob=0.01, min_zoom=0.0, max_zoom=0.0), "augmentation: RandZoomd fails on slice.png, which"),
        (RandFlipd("imag", prob=0.01), "RandFlipd fails .*Key `imag` of transform `RandFlipd` was missing"),
        (
            RandZoomd("image", prob=0.01, min_zoom=2, max_zoom=2, keep_size=False),
            r"after RandZoomd, image and mask have the sizes \(32, 32\) and \(16, 16\)",
        ),
    ],
)
@pytest.mark.parametrize(
    "within",
    [
        lambda each: each,
        lambda each: Compose([RandGaussianNoised("image", prob=0.1), each]),
        lambda each: OneOf([RandFlipd(BOTH, prob=0.5), each, RandGaussianNoised("image", prob=0.1)], [1, 0.001, 1]),
        lambda each: SomeOf([each, RandFlipd(BOTH, prob=0.5)], num_transforms=1, weights=[0.001, 1]),
    ],
    ids=["alone", "Compose", "OneOf", "SomeOf"],
)
def test_what_fails_is_named(transform, said, within):
    transform = within(transform)
    with pytest.raises(ValueError, match=said):
        try_random([RandFlipd(BOTH, prob=0.5), transform], item(), "slice.png")


def test_a_mask_that_stays_behind_is_a_warning(caplog):
    try_random([RandRotated("image", range_x=1.0, prob=0.1)], item(), "slice.png")
    assert "RandRotated moves the image and not its mask, which then do NOT fit together" in caplog.text
    caplog.clear()
    fine = [RandRotated(BOTH, range_x=1.0, prob=0.1), RandGaussianNoised("image", prob=0.1)]
    try_random(fine, item(), "slice.png")
    # It is among MONAI's spatial transforms, and only blurs.
    blurs = RandSimulateLowResolutiond("image", prob=0.1, zoom_range=(0.5, 0.6), upsample_mode="bilinear")
    try_random([blurs], item(), "slice.png")
    # Of a classification there is no mask.
    try_random([RandRotated("image", range_x=1.0, prob=0.1)], {"image": item()["image"], "class": 1}, "slice.png")
    assert not caplog.text


def test_the_mask_may_follow_in_a_step_of_its_own(caplog):
    try_random([SpatialPadd("image", 24), SpatialPadd("label", 24), RandFlipd(BOTH, prob=0.5)], item(), "slice.png")
    try_random([Resized("image", (24, 24)), Resized("label", (24, 24))], item(), "slice.png")
    assert not caplog.text


def test_what_cannot_be_copied_is_not_tried():
    transform = Draws()
    transform.lock = threading.Lock()
    try_random([transform, RandFlipd("imag", prob=0.5)], item(), "slice.png")


class Draws(Randomizable):
    """Draws from all generators."""

    def __call__(self, item: Any) -> Any:
        random.random(), np.random.rand(), torch.rand(1), self.R.rand()
        return item


def test_nothing_is_drawn_from_the_generators_of_the_run():
    transform, tried = Draws(), item()
    transform.set_random_state(1)
    first = [random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), transform.R.rand()]
    transform.set_random_state(1)
    try_random([transform], tried, "slice.png")
    last = [random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), transform.R.rand()]
    assert first == last


def test_a_data_set_tries_them_when_it_is_made():
    items = [item(), item()]
    transform = Compose([ToTensord(BOTH), RandFlipd("imag", prob=0.01)])
    with pytest.raises(ValueError, match="augmentation: RandFlipd fails"):
        CheckedDataset(items, transform, progress=False, num_workers=1)
    patches = RandCropByPosNegLabeld(BOTH, label_key="label", spatial_size=8, num_samples=2)
    with pytest.raises(ValueError, match="augmentation: RandFlipd fails"):
        CheckedDataset(items, Compose([ToTensord(BOTH), patches, RandFlipd("imag")]), progress=False, num_workers=1)
    # What is not cached is not read before it is needed.
    CheckedDataset(items, transform, progress=False, num_workers=1, cache_rate=0.0)
