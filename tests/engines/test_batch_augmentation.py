"""Batches that are augmented on the device: image and mask together, then as the network takes them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.engines import default_prepare_batch
from torch import nn

from monai_kd.engines import BatchAugmentation, ClassBatch, DistillationTrainer
from monai_kd.losses import DiceCE, DistillationLoss
from monai_kd.transforms import NetworkInputd

kornia = pytest.importorskip("kornia.augmentation")

SIZE = 64
SCALE = {"channels": 3, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.5]}
GEOMETRIC = {
    "flip": lambda: kornia.RandomHorizontalFlip(p=1.0),
    "rotation": lambda: kornia.RandomRotation(40.0, p=1.0),
    "affine": lambda: kornia.RandomAffine(30, translate=(0.2, 0.2), scale=(0.7, 1.4), p=1.0),
    "elastic": lambda: kornia.RandomElasticTransform(p=1.0),
    "sequence": lambda: kornia.ImageSequential(kornia.RandomRotation(40.0, p=1.0), kornia.RandomVerticalFlip(p=1.0)),
}


def discs(count: int = 6, value: float = 1.0) -> dict[str, Any]:
    """Slices with one bright disc each, which is the mask, off the centre."""
    rows, columns = torch.meshgrid(torch.arange(float(SIZE)), torch.arange(float(SIZE)), indexing="ij")
    disc = ((rows - 24).square() + (columns - 38).square() < 100).float().expand(count, 1, SIZE, SIZE)
    return {"image": 0.1 + 0.8 * disc, "label": value * disc, "class": torch.arange(count) % 3}


def augmented(modules: list[nn.Module], batch: dict[str, Any], seed: int = 0, **more: Any) -> tuple[Any, Any]:
    augment = BatchAugmentation(modules, SIZE, **more)
    torch.manual_seed(seed)
    return augment(batch)


@pytest.mark.parametrize("kind", GEOMETRIC)
@pytest.mark.parametrize("value", [1.0, 3.0])
def test_the_mask_moves_with_the_image(kind, value):
    given = discs(value=value)
    image, label = augmented([GEOMETRIC[kind]()], given, channels=1)
    assert image.shape == label.shape == (6, 1, SIZE, SIZE)
    assert image.dtype == label.dtype == torch.float32
    # Class indices stay what they are, and there is nothing in between.
    assert set(label.unique().tolist()) == {0.0, value}
    assert not torch.equal(label, given["label"])
    bright = image > 0.5
    overlap = 2 * (bright & (label > 0)).sum((1, 2, 3)) / (bright.sum((1, 2, 3)) + (label > 0).sum((1, 2, 3)))
    assert (overlap > 0.93).all()


def test_what_moves_in_is_background():
    image, label = augmented([kornia.RandomAffine(0, scale=(0.5, 0.5), p=1.0)], discs(), channels=1)
    assert image[:, :, :12].abs().max() == 0
    assert label[:, :, :12].abs().max() == 0
    torch.testing.assert_close(image[:, :, 20, 20], torch.full((6, 1), 0.1))


@pytest.mark.parametrize("kind", [kind for kind in GEOMETRIC if kind != "flip"])
def test_each_item_has_its_own_parameters(kind):
    image, _ = augmented([GEOMETRIC[kind]()], discs())
    assert not any(torch.equal(image[a], image[b]) for a in range(6) for b in range(a))


def test_some_items_alone_are_augmented_where_the_probability_says_so():
    given = discs(200)
    image, label = augmented([kornia.RandomHorizontalFlip(p=0.25)], given, channels=1)
    flipped = [not torch.equal(new, old) for new, old in zip(image, given["image"], strict=True)]
    assert 30 <= sum(flipped) <= 70
    assert flipped == [not torch.equal(new, old) for new, old in zip(label, given["label"], strict=True)]


def test_without_a_chance_the_batch_is_that_of_items():
    given = {**discs(), "image": torch.rand(6, 1, SIZE, SIZE)}
    modules = [kornia.RandomAffine(30, p=0.0), kornia.RandomGaussianNoise(p=0.0), kornia.RandomGamma(p=0.0)]
    image, label = augmented(modules, given, **SCALE)
    items = [NetworkInputd("image", *SCALE.values())({"image": each})["image"] for each in given["image"]]
    assert torch.equal(image, torch.stack(items))
    assert torch.equal(label, given["label"])


def test_it_is_normalised_after_the_augmentation():
    modules = [kornia.RandomAffine(30, p=1.0), kornia.RandomGaussianNoise(std=0.1, p=1.0)]
    grey, _ = augmented(modules, discs(), channels=1)
    image, _ = augmented(modules, discs(), **SCALE)
    mean, std = (torch.tensor(SCALE[name])[:, None, None] for name in ("mean", "std"))
    torch.testing.assert_close(image, (grey - mean) / std)
    # The same noise in all channels.
    assert image.shape[1] == 3


def test_the_seed_of_torch_decides():
    modules = [make() for make in GEOMETRIC.values()] + [kornia.RandomGaussianNoise(p=0.5)]
    first, again, other = (augmented(modules, discs(), seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_building_draws_nothing_and_leaves_the_modules():
    module = kornia.RandomRotation(40.0, p=1.0)
    before, state = repr(vars(module)), torch.get_rng_state()
    augment = BatchAugmentation([module], SIZE)
    assert torch.equal(torch.get_rng_state(), state)
    augment(discs())
    assert repr(vars(module)) == before


def test_the_given_batch_stays():
    given = discs()
    kept = {key: value.clone() for key, value in given.items()}
    augmented([kornia.RandomAffine(30, p=1.0)], given)
    assert all(torch.equal(given[key], value) for key, value in kept.items())


def test_none_gives_the_batch_as_it_is():
    given = {"image": torch.rand(2, 3, 8, 8), "label": torch.zeros(2, 1, 8, 8)}
    image, label = BatchAugmentation(channels=5)(given)
    assert image is given["image"]
    assert label is given["label"]


def test_batches_with_metadata_and_another_layout():
    given = {**discs(), "image": MetaTensor(discs()["image"])}
    augment = BatchAugmentation([kornia.RandomAffine(30, p=1.0)], SIZE)
    image, label = augment(given, torch.device("cpu"), True, memory_format=torch.channels_last)
    assert type(image) is type(label) is torch.Tensor
    assert image.is_contiguous(memory_format=torch.channels_last)


def test_classes_are_mixed_after_the_augmentation():
    """Their masks are paths."""
    given = {**discs(), "label": ["a.png"] * 6}
    flip = kornia.RandomHorizontalFlip(p=1.0)
    plain, target = augmented([flip], given, keys="image", prepare_batch=ClassBatch(3))
    assert torch.equal(target, given["class"])
    assert torch.equal(plain[:, :1], given["image"].flip(-1))
    mixed, target = augmented([flip], given, keys="image", prepare_batch=ClassBatch(3, mixup=0.4))
    torch.testing.assert_close(mixed, plain)
    assert target.shape == (6, 3)


class Seen(kornia.IntensityAugmentationBase2D):
    """Notes what it is given."""

    def __init__(self, notes: list[tuple[torch.dtype, bool]]) -> None:
        super().__init__(p=1.0)
        self.notes = notes

    def __deepcopy__(self, memo: dict) -> Seen:
        return Seen(self.notes)

    def apply_transform(self, input, params, flags, transform=None):
        self.notes.append((input.dtype, torch.is_autocast_enabled("cpu")))
        return input


def test_mixed_precision_begins_behind_it():
    notes: list[tuple[torch.dtype, bool]] = []
    network = nn.Conv2d(3, 1, 3, padding=1)
    batches = [discs(2)]
    trainer = DistillationTrainer(
        **{"device": "cpu", "max_epochs": 1, "train_data_loader": batches, "amp": True, "network": network},
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        loss_function=DistillationLoss({"dice": DiceCE(sigmoid=True)}, {"dice": 1.0}),
        prepare_batch=BatchAugmentation([Seen(notes)], SIZE),
    )
    seen = []
    network.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    notes.clear()
    trainer.run()
    assert notes == [(torch.float32, False)]
    assert seen == [(torch.float32, torch.bfloat16)]


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (nn.Identity(), "entry 1, Identity, is no augmentation of kornia"),
        ("noise", "entry 1, str, is no augmentation of kornia"),
        (kornia.RandomAffine3D(10.0), "entry 1, RandomAffine3D, is no augmentation of kornia for batches of slices"),
        (kornia.RandomMixUpV2(), "entry 1, RandomMixUpV2, is no augmentation"),
        (kornia.PatchSequential(kornia.RandomAffine(10), patchwise_apply=False), "entry 1, PatchSequential, is no"),
        (kornia.Resize((32, 32)), r"entry 1, Resize, changes the size of slices, from \(64, 64\) to \(32, 32\)"),
        (kornia.RandomCrop((48, 48), p=0.5), r"entry 1, RandomCrop, changes .* to \(48, 48\)"),
        (
            kornia.RandomFisheye(*(torch.tensor([-0.1, 0.1]),) * 2, torch.tensor([0.9, 1.1]), p=1.0),
            "entry 1, RandomFisheye, fails on slices with masks: NotImplementedError",
        ),
        (kornia.RandomHue(p=1.0), "entry 1, RandomHue, fails on slices with masks"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_it_cannot_do_is_said_at_once(module, said):
    with pytest.raises(ValueError, match=f"batch_augmentation: {said}"):
        BatchAugmentation([kornia.RandomAffine(10), module], SIZE)


def test_a_size_that_changes_later():
    # A crop of the size that it was tried with.
    augment = BatchAugmentation([kornia.RandomCrop((32, 32))], 32)
    with pytest.raises(ValueError, match=r"batch_augmentation changes the size of slices, from \(64, 64\)"):
        augment(discs())


@pytest.mark.parametrize("shape", [(2, 3, SIZE, SIZE), (2, 1, SIZE, SIZE, SIZE)])
def test_images_of_a_preprocessing_of_ones_own(shape):
    augment = BatchAugmentation([kornia.RandomAffine(10)], SIZE)
    with pytest.raises(ValueError, match=r"before their channel is repeated .* network_input=not @batch_augmentation"):
        augment({"image": torch.zeros(shape), "label": torch.zeros(shape)})


def test_without_kornia(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "kornia" else find(name, *more)
    )
    with pytest.raises(ImportError, match=r"^batch_augmentation needs kornia: pip install 'monai_kd\[kornia\]'\.$"):
        BatchAugmentation([kornia.RandomAffine(10)], SIZE)
    assert BatchAugmentation().prepare_batch is default_prepare_batch


def test_it_is_imported_where_it_is_used_alone():
    code = "import sys, monai_kd.bundle, monai_kd.engines; print('kornia' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
