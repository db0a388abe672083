"""Augmentation of batches: image and mask move together, each item by its own parameters, and the rest stays."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import RandFlip
from torch import nn

from monai_kd.engines import ClassBatch
from monai_kd.transforms import AugmentBatch, NetworkInputd, batch_augmentation

augmentation = pytest.importorskip("kornia.augmentation")
MEAN, STD = [0.1, 0.2, 0.3], [1.0, 2.0, 4.0]


def batch(count: int = 6, size: int = 32, classes: int = 1) -> dict[str, torch.Tensor]:
    """Black images with a bright square at different places, and their masks, of several classes."""
    image = torch.zeros(count, 1, size, size)
    for number in range(count):
        row, column = 8 + number % 4, 10 + number % 3
        image[number, 0, row : row + 9, column : column + 7] = 0.9
    kinds = 1 + torch.arange(count).reshape(-1, 1, 1, 1) % classes
    return {"image": image, "label": (image > 0.5) * kinds.float()}


def grey(image: torch.Tensor) -> torch.Tensor:
    """The first channel before it was normalised."""
    return image[:, :1] * STD[0] + MEAN[0]


GEOMETRY = [
    lambda: augmentation.RandomAffine(30.0, translate=(0.1, 0.1), scale=(0.8, 1.3), p=1.0),
    lambda: augmentation.RandomRotation(90.0, p=1.0),
    lambda: augmentation.RandomHorizontalFlip(p=0.5),
    lambda: augmentation.RandomElasticTransform((15, 15), (4.0, 4.0), (4.0, 4.0), p=1.0),
]


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("make", GEOMETRY)
def test_a_mask_moves_with_its_image(make, classes):
    torch.manual_seed(0)
    given = batch(classes=classes)
    image, label = AugmentBatch([make()], 3, MEAN, STD)(given)
    assert (image.shape, label.shape) == ((6, 3, 32, 32), (6, 1, 32, 32))
    assert not torch.equal(label, given["label"])
    inside, outside = grey(image) > 0.7, grey(image) < 0.2
    assert inside.sum() > 100
    assert (label[inside] > 0).float().mean() > 0.97
    assert (label[outside] > 0).float().mean() < 0.01
    # Classes stay what they are, and nothing lies between two of them.
    for number in range(len(label)):
        assert set(label[number].unique().tolist()) == {0.0, float(1 + number % classes)}


def test_each_item_has_parameters_of_its_own():
    torch.manual_seed(0)
    same = {name: value[:1].repeat(8, 1, 1, 1) for name, value in batch().items()}
    image, label = AugmentBatch([augmentation.RandomAffine(40.0, (0.2, 0.2), p=1.0)], 3, MEAN, STD)(same)
    assert len({each.numpy().tobytes() for each in image}) == len({each.numpy().tobytes() for each in label}) == 8


def test_what_is_not_drawn_stays_to_the_bit():
    """With probability 0, the network gets what it gets without any augmentation."""
    given = batch()
    image, label = AugmentBatch([make() for make in (lambda: augmentation.RandomAffine(30.0, p=0.0),)], 3, MEAN, STD)(
        given
    )
    step = NetworkInputd("image", 3, MEAN, STD)
    expected = torch.stack([step({"image": each})["image"] for each in given["image"]])
    assert torch.equal(image, expected)
    assert torch.equal(label, given["label"])


def test_a_flip_is_that_of_monai():
    given = batch()
    flipped = torch.stack([RandFlip(prob=1.0, spatial_axis=1)(each) for each in given["image"]])
    image, label = AugmentBatch([augmentation.RandomHorizontalFlip(p=1.0)], 1)(given)
    assert torch.equal(image, flipped)
    assert torch.equal(label, (flipped > 0.5).float())


def test_grey_values_of_the_image_alone_change():
    given = batch()
    torch.manual_seed(1)
    image, label = AugmentBatch([augmentation.RandomContrast((0.5, 0.5), p=1.0)], 1)(given)
    assert torch.allclose(image, given["image"] / 2)
    assert torch.equal(label, given["label"])


def test_the_seed_fixes_it():
    augment = AugmentBatch(
        [augmentation.RandomAffine(30.0, p=0.5), augmentation.RandomGaussianNoise(std=0.1, p=0.5)], 3, MEAN, STD
    )
    found = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        found.append(augment(batch())[0])
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_without_transforms_batches_are_as_they_come(monkeypatch):
    monkeypatch.setattr(batch_augmentation, "KORNIA", "no_such_module")
    given = {"image": torch.rand(2, 3, 4, 4), "label": torch.rand(2, 1, 4, 4)}
    image, label = AugmentBatch([], 3, MEAN, STD)(given, "cpu", False, memory_format=torch.channels_last)
    assert torch.equal(image, given["image"])
    assert torch.equal(label, given["label"])
    assert image.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("mixup", [0.0, 0.4])
def test_classes_keep_their_image(mixup):
    given = {"image": batch()["image"], "class": torch.arange(6) % 3}
    torch.manual_seed(0)
    augment = AugmentBatch([augmentation.RandomAffine(30.0, p=1.0)], 3, MEAN, STD, ClassBatch(3, mixup))
    image, target = augment(given, "cpu", False, memory_format=torch.channels_last)
    assert image.shape == (6, 3, 32, 32)
    assert image.is_contiguous(memory_format=torch.channels_last)
    assert target.shape == ((6, 3) if mixup else (6,))
    assert mixup or torch.equal(target, given["class"])


def test_the_given_batch_is_not_changed():
    given, expected = batch(), batch()
    AugmentBatch([augmentation.RandomAffine(30.0, p=1.0), augmentation.RandomGaussianNoise(p=1.0)])(given)
    assert all(torch.equal(given[name], expected[name]) for name in expected)


def test_no_gradient_and_no_half_precision():
    given = batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image, _ = AugmentBatch([augmentation.RandomGaussianBlur((5, 5), (1.0, 1.0), p=1.0)], 3, MEAN, STD)(given)
    assert (image.dtype, image.requires_grad) == (torch.float32, False)


@pytest.mark.parametrize(
    ("transforms", "images", "message"),
    [
        ([nn.Identity()], (2, 1, 32, 32), "Identity is no augmentation of images by kornia"),
        ([RandFlip()], (2, 1, 32, 32), "RandFlip is no augmentation of images by kornia; MONAI's transforms belong in"),
        (["RandomCrop"], (2, 1, 32, 32), "size"),
        (["RandomAffine"], (2, 3, 32, 32), r"one channel .* got \(2, 3, 32, 32\).*for_batches=@batch_augmentation"),
        (["RandomAffine"], (2, 1, 32, 32, 32), "patches of volumes are augmented one by one"),
    ],
)
def test_what_can_not_work_is_refused(transforms, images, message):
    made = {
        "RandomCrop": lambda: augmentation.RandomCrop((16, 16), p=1.0),
        "RandomAffine": lambda: augmentation.RandomAffine(30.0),
    }
    given = {"image": torch.rand(images), "label": torch.zeros(images)}
    with pytest.raises(ValueError, match="batch_augmentation: .*" + message):
        AugmentBatch([made[each]() if isinstance(each, str) else each for each in transforms], 3, MEAN, STD)(given)


def test_kornia_is_asked_for_by_name(monkeypatch):
    monkeypatch.setattr(batch_augmentation, "KORNIA", "no_such_module")
    with pytest.raises(ImportError, match=r"batch_augmentation needs no_such_module: pip install 'monai_kd\[no_such"):
        AugmentBatch([augmentation.RandomAffine(30.0)])
