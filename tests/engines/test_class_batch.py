"""Batches of classes: as they are, or blended by known weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, list_data_collate

from monai_kd.engines import ClassBatch


def batch(size: int = 6, number: int = 3) -> dict[str, torch.Tensor]:
    """Images of one value each, a power of 4, so that any blend of two tells which two, and how much of each."""
    image = (4.0 ** torch.arange(size)).reshape(size, 1, 1, 1).expand(size, 3, 5, 4).clone()
    return {"image": image, "class": torch.arange(size) % number}


def test_off_gives_the_batch_itself():
    given = batch()
    before = torch.get_rng_state()
    image, target = ClassBatch(3)(given)
    assert torch.equal(image, given["image"])
    assert torch.equal(target, given["class"])
    assert target.dtype is torch.int64
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
@pytest.mark.parametrize("size", [1, 2, 6])
def test_image_and_class_are_blended_by_the_same_weights(alpha, size):
    torch.manual_seed(3)
    given = batch(size)
    image, target = ClassBatch(3, mixup=alpha)(given)
    assert image.shape == given["image"].shape
    assert target.shape == (size, 3)
    for number in range(size):
        # one weight for all channels and pixels of a slice
        value = float(image[number, 0, 0, 0])
        assert (image[number] == image[number, 0, 0, 0]).all()
        # λ own + (1 - λ) other, for some other slice: then the class must be the very same blend.
        own = float(given["image"][number, 0, 0, 0])
        partners = [
            (other, 1.0 if other == number else (value - 4.0**other) / (own - 4.0**other)) for other in range(size)
        ]
        one_hot = np.eye(3)[np.arange(size) % 3]
        expected = [
            weight * one_hot[number] + (1 - weight) * one_hot[other]
            for other, weight in partners
            if -1e-5 <= weight <= 1 + 1e-5
        ]
        assert min(np.abs(target[number].numpy() - each).max() for each in expected) < 1e-4
    torch.testing.assert_close(target.sum(dim=1), torch.ones(size))
    assert (target >= 0).all()


def test_the_batch_is_blended_with_a_permutation_of_itself():
    # Weights λ of the slice itself can be read off a class that each has alone; together they must be a permutation.
    size = 6
    torch.manual_seed(0)
    given = batch(size, number=size)
    image, target = ClassBatch(size, mixup=1.0)(given)
    others = [row.clone() for row in target]
    for number, row in enumerate(others):
        row[number] = 0
    partner = [int(row.argmax()) if row.sum() > 0 else number for number, row in enumerate(others)]
    assert sorted(partner) == list(range(size))
    assert len(set(target.diagonal().tolist())) > 1
    # image = target @ images, since each class is one image
    expected = target.double() @ (4.0 ** torch.arange(size)).double()
    torch.testing.assert_close(image[:, 0, 0, 0].double(), expected, rtol=1e-5, atol=1e-5)


def test_the_seed_of_torch_alone_decides():
    def blended(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(seed)
        return ClassBatch(3, mixup=0.4)(batch())

    first = blended(1)
    np.random.seed(77)
    np.random.rand(3)
    again, other = blended(1), blended(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])
    mixer = ClassBatch(3, mixup=0.4)
    torch.manual_seed(1)
    assert not torch.equal(mixer(batch())[1], mixer(batch())[1])


def test_batches_as_the_loader_makes_them():
    plain = batch()
    items = [{"image": MetaTensor(i), "class": int(n)} for i, n in zip(plain["image"], plain["class"], strict=True)]
    collated = list_data_collate(items)
    assert isinstance(collated["image"], MetaTensor)
    found = []
    for given in (plain, collated):
        torch.manual_seed(1)
        found.append(ClassBatch(3, mixup=0.4)(given))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_the_given_batch_stays():
    given = batch()
    kept = {key: value.clone() for key, value in given.items()}
    torch.manual_seed(0)
    ClassBatch(3, mixup=0.4)(given)
    assert all(torch.equal(given[key], value) for key, value in kept.items())


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_images_go_to_the_asked_layout(mixup):
    image, target = ClassBatch(3, mixup=mixup)(batch(), device="meta", memory_format=torch.channels_last)
    assert (image.device.type, target.device.type) == ("meta", "meta")
    assert image.is_contiguous(memory_format=torch.channels_last)


def test_images_that_are_on_the_device_are_blended_there():
    """The classes are still on the CPU, where they are checked."""
    given = batch()
    image, target = ClassBatch(3, mixup=0.4)({**given, "image": given["image"].to("meta")}, device="meta")
    assert (image.device.type, target.device.type) == ("meta", "meta")
    assert target.shape == (6, 3)


@pytest.mark.parametrize("mixup", [0.0, 0.4])
@pytest.mark.parametrize("wrong", [3, -1])
def test_other_classes_are_refused(mixup, wrong):
    given = batch()
    given["class"][2] = wrong
    with pytest.raises(ValueError, match=rf"classes must be 0 to 2, got \[.*{wrong}"):
        ClassBatch(3, mixup=mixup)(given)


def test_negative_mixup():
    with pytest.raises(ValueError, match=r"mixup must be 0 or more, got -0\.1"):
        ClassBatch(3, mixup=-0.1)
