"""Random views that repeat: the same in each process and order, and different ones of different items."""

from __future__ import annotations

import pytest
import torch
from monai.data import DataLoader
from monai.transforms import Compose, OneOf, RandFlipd, RandGaussianNoised, RandRotated, RandTorchVisiond
from torchvision.transforms import RandomErasing

from monai_kd.data import CheckedDataset
from monai_kd.data.views import Views
from monai_kd.transforms import NetworkInputd, RandRemoveTumourd


def transform(*more) -> Compose:
    noise = RandGaussianNoised("image", prob=1.0, std=1.0)
    turned = OneOf([RandFlipd("image", prob=1.0, spatial_axis=0), RandRotated("image", range_x=1.0, prob=1.0)])
    return Compose([NetworkInputd("image", 3), noise, turned, *more])


def dataset(views: int | None, cache_rate: float = 1.0) -> CheckedDataset:
    # All items are the same image, so that only the random numbers tell them apart.
    items = [{"image": torch.linspace(0, 1, 64).reshape(1, 8, 8)} for _ in range(4)]
    return CheckedDataset(items, transform(), views=views, cache_rate=cache_rate, progress=False)


def epoch(data: CheckedDataset, number: int, seed: int = 7, order=range(4)) -> list[torch.Tensor]:
    data.views.begin(seed, number)
    found = {index: data[index]["image"] for index in order}
    return [found[index] for index in range(4)]


def test_views_come_again_and_no_two_are_alike():
    data = dataset(3)
    epochs = [torch.stack(epoch(data, number)) for number in range(1, 8)]
    for number, found in enumerate(epochs):
        assert torch.equal(found, epochs[number % 3])
    different = torch.cat([*epochs[:3], torch.stack(epoch(data, 1, seed=8))])
    assert len(torch.unique(different.flatten(1), dim=0)) == 16


@pytest.mark.parametrize("cache_rate", [0.0, 1.0])
def test_views_depend_on_no_order_and_no_process(cache_rate):
    expected = torch.stack(epoch(dataset(3), 2))
    data = dataset(3, cache_rate)
    assert torch.equal(torch.stack(epoch(data, 5, order=[2, 0, 3, 1])), expected)
    data.views.begin(7, 2)
    loader = DataLoader(data, batch_size=2, num_workers=2)
    assert torch.equal(torch.cat([batch["image"] for batch in loader]), expected)


def test_without_views_every_access_is_new():
    data = dataset(None)
    assert data.views is None
    assert not torch.equal(data[0]["image"], data[0]["image"])


def test_negative_indices_are_the_items_that_they_are():
    data = dataset(2)
    assert torch.equal(data[-1]["image"], data[3]["image"])


@pytest.mark.parametrize(
    ("drawing", "name"),
    [
        (lambda item: item, "function"),
        (RandTorchVisiond("image", "RandomErasing"), "RandTorchVisiond"),
        (RandomErasing(), "RandomErasing"),
    ],
)
def test_random_numbers_of_others_are_refused(drawing, name):
    with pytest.raises(ValueError, match=f"views: {name} may draw random numbers that are not those of MONAI"):
        Views(transform(drawing), 2)


def test_own_random_transforms_are_taken():
    Views(transform(RandRemoveTumourd(("image", "label"), 0.3)), 2)


def test_at_least_one_view():
    with pytest.raises(ValueError, match="views must be a whole number from 1, got 0"):
        Views(transform(), 0)
