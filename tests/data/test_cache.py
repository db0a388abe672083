"""The cache of prepared slices: the same bits, smaller, and there again in the next run."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import threading
from importlib.metadata import version
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import DataLoader, MetaTensor, ThreadDataLoader, get_track_meta
from monai.transforms import (
    Compose,
    Lambdad,
    LoadImaged,
    NormalizeIntensityd,
    OneOf,
    RandFlipd,
    RandRotated,
    RandZoomd,
    RepeatChanneld,
)
from PIL import Image

from monai_kd.data import CheckedDataset, SliceDataset, described
from monai_kd.data.indexed import packed, unpacked
from monai_kd.io.plain import plain_tensor
from monai_kd.transforms import NetworkInputd, slice_preprocessing

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture
def items(tmp_path):
    found = []
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 200, (40, 36)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"i{number}.png")
        Image.fromarray((pixels > 150).astype(np.uint8) * 255).save(tmp_path / f"l{number}.png")
        paths = {"image": str(tmp_path / f"i{number}.png"), "label": str(tmp_path / f"l{number}.png")}
        found.append({**paths, "class": number % 3, "source": f"{number}.mat", "fold": 0})
    return found


def steps(size: int = 32, flip: bool = True, **more) -> Compose:
    random = [RandFlipd(["image", "label"], prob=0.5, spatial_axis=0)] if flip else []
    return slice_preprocessing(
        size, label=True, mask_value=255, single_slices=True, track_meta=False, random=random, **more
    )


def drawn(dataset) -> list[dict]:
    dataset.transform.set_random_state(seed=3)
    return [dataset[index] for index in range(len(dataset))]


def equal(found: dict, expected: dict) -> bool:
    same = {
        name: torch.equal(found[name], v) if torch.is_tensor(v) else found[name] == v for name, v in expected.items()
    }
    return found.keys() == expected.keys() and all(same.values())


def test_the_key_on_disk_holds_what_reads_and_prepares(monkeypatch):
    before = described.transforms_key([steps()])
    names = {file.name for file in described._sources()}
    assert {"values.py", "limits.py", "source.py", "spacing.py", "network_input.py", "resampling.py"} <= names
    monkeypatch.setattr(described, "version", lambda name: "0.1" if name == "nibabel" else version(name))
    assert described.transforms_key([steps()]) != before


@pytest.mark.parametrize("flip", [True, False])
def test_every_cache_gives_what_is_read_without_one(items, tmp_path, flip):
    plain = drawn(CheckedDataset(items, steps(flip=flip), cache_rate=0.0, progress=False))
    for folder in (None, tmp_path / "cache", tmp_path / "cache"):
        dataset = CheckedDataset(items, steps(flip=flip), progress=False, cache_dir=folder)
        for _ in range(2):  # what one access returns is not what the next one changes
            found = drawn(dataset)
            assert all(equal(*pair) for pair in zip(found, plain, strict=True))
            for item in found:
                item["image"].zero_()
        assert equal(drawn(dataset)[-1], plain[-1])
        assert torch.equal(dataset[-1]["label"].sum(), plain[-1]["label"].sum())


def test_the_next_run_reads_no_image(items, tmp_path, monkeypatch):
    first = drawn(CheckedDataset(items, steps(), progress=False, cache_dir=tmp_path / "cache"))
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 1
    monkeypatch.setattr(LoadImaged, "__call__", lambda self, data: 1 / 0)
    again = CheckedDataset(items, steps(), progress=False, cache_dir=tmp_path / "cache")
    assert all(equal(*pair) for pair in zip(drawn(again), first, strict=True))
    copied = pickle.loads(pickle.dumps(again))  # for workers that are spawned
    assert all(equal(*pair) for pair in zip(drawn(copied), first, strict=True))


def touched(items, tmp_path):
    os.utime(items[0]["image"], (1, 1))
    return items, steps()


def repainted(items, tmp_path):
    Image.new("L", (36, 40), 0).save(items[0]["label"])
    return items, steps()


def another_class(items, tmp_path):
    return [{**items[0], "class": 2}, *items[1:]], steps(multiclass=True)


@pytest.mark.parametrize(
    ("change", "read"),
    [
        (lambda items, _tmp: (items, steps()), 0),
        (lambda items, _tmp: (items, steps(flip=False)), 0),  # flips come after the cache
        (lambda items, _tmp: (items, steps(mean=[0.0] * 3, std=[1.0] * 3)), 0),  # and so does the normalisation
        (lambda items, _tmp: (list(reversed(items)), steps()), 0),
        (lambda items, _tmp: (items, steps(size=48)), 5),
        (lambda items, _tmp: (items, steps(upright=False)), 5),
        (touched, 1),
        (repainted, 1),
        (another_class, 5),
    ],
)
def test_what_has_changed_is_read_again(items, tmp_path, monkeypatch, change, read):
    CheckedDataset(items, steps(), progress=False, cache_dir=tmp_path / "cache")
    given_items, transform = change(copy.deepcopy(items), tmp_path)
    seen, call = [], LoadImaged.__call__
    monkeypatch.setattr(LoadImaged, "__call__", lambda self, data: seen.append(1) or call(self, data))
    dataset = CheckedDataset(given_items, transform, progress=False, cache_dir=tmp_path / "cache")
    assert len(seen) == read
    plain = CheckedDataset(given_items, transform, progress=False, cache_rate=0.0)
    assert all(equal(*pair) for pair in zip(drawn(dataset), drawn(plain), strict=True))


def test_slices_of_a_volume_keep_their_numbers(tmp_path):
    import nibabel as nib

    volume = np.random.default_rng(0).integers(0, 500, (20, 24, 3)).astype(np.int16)
    nib.Nifti1Image(volume, np.diag([-1.0, -1, 5, 1])).to_filename(tmp_path / "v.nii.gz")
    transform = slice_preprocessing(32, single_slices=True, track_meta=False)
    for _ in range(2):
        dataset = SliceDataset(
            [{"image": str(tmp_path / "v.nii.gz")}], transform, progress=False, cache_dir=tmp_path / "c"
        )
        plain = SliceDataset([{"image": str(tmp_path / "v.nii.gz")}], transform, progress=False, cache_rate=0.0)
        assert len(dataset) == 3
        assert all(equal(dataset[index], plain[index]) for index in range(3))
        assert "slice" not in dataset[0]


def test_a_folder_that_cannot_be_made_is_a_warning(items, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    dataset = CheckedDataset(items, steps(), progress=False, cache_dir=tmp_path / "file" / "cache")
    assert "prepared slices are not kept for the next run" in caplog.text
    assert len(dataset[0]["image"]) == 3


def test_a_transform_without_a_description_is_a_warning(items, tmp_path, caplog):
    transform = Compose([Lambdad("fold", lambda fold: fold + 1), steps()])
    dataset = CheckedDataset(items, transform, progress=False, cache_dir=tmp_path / "cache")
    assert "can't be described" in caplog.text
    assert dataset[0]["fold"] == 1
    assert not (tmp_path / "cache").exists()


def test_size_of_a_slice(tmp_path, caplog):
    """0.2 MB at 256 × 256, of a slice of 512 × 512 pixels with 12 bits."""
    y, x = np.mgrid[:512, :512]
    pixels = 1500 * np.exp(-((x - 250) ** 2 + (y - 260) ** 2) / 2e4)
    pixels += np.random.default_rng(0).normal(0, 25, pixels.shape) * (pixels > 60)
    Image.fromarray(pixels.clip(0, 4095).astype(np.uint16)).save(tmp_path / "i.png")
    Image.fromarray(((x - 200) ** 2 + (y - 220) ** 2 < 900).astype(np.uint8)).save(tmp_path / "l.png")
    with caplog.at_level(logging.INFO):
        CheckedDataset(
            [{"image": str(tmp_path / "i.png"), "label": str(tmp_path / "l.png")}],
            slice_preprocessing(256, label=True, mask_value=1, single_slices=True, track_meta=False),
            progress=False,
            cache_dir=tmp_path / "cache",
        )
    (file,) = (tmp_path / "cache").rglob("*.safetensors")
    assert file.stat().st_size < 200_000
    assert "1 more prepared slices are kept in" in caplog.text


@pytest.mark.parametrize("channels", [1, 3])
def test_network_input_has_the_bits_of_monai(channels):
    image = torch.rand(1, 17, 23, generator=torch.Generator().manual_seed(0))
    mean, std = MEAN[:channels], STD[:channels]
    of_monai = Compose([RepeatChanneld("image", channels), NormalizeIntensityd("image", mean, std, channel_wise=True)])
    found = NetworkInputd("image", channels, mean, std)({"image": image})["image"]
    assert torch.equal(found, torch.as_tensor(of_monai({"image": image.clone()})["image"]))
    assert torch.equal(NetworkInputd("image", channels)({"image": image})["image"], image.repeat(channels, 1, 1))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([0.0, -0.0, float("nan"), float("inf")] * 9),
        torch.zeros(1, 5, 7),
        torch.arange(300.0).repeat(9).reshape(2, 50, 27),
        torch.arange(70_000.0),  # more values than an index has
        torch.tensor(3.0),
        torch.zeros(0, 3),
        torch.arange(20, dtype=torch.uint8).repeat(20),
        torch.ones(4, 4, dtype=torch.int16),
        torch.ones(4, 4, dtype=torch.float64),
        torch.ones(4, 4, dtype=torch.bool),
    ],
    ids=str,
)
def test_packing_keeps_every_bit(tensor):
    found = unpacked(packed(tensor))
    assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
    assert found.numpy().tobytes() == tensor.numpy().tobytes()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1.0, -2.5, 1e-30]), min_size=1, max_size=200), st.booleans())
def test_packing_keeps_every_bit_of_few_values(values, few):
    tensor = torch.tensor(values if not few else [values[0]] * len(values))
    assert torch.equal(unpacked(packed(tensor)), tensor)


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_geometry_is_not_tracked_once_it_is_dropped(items, rate):
    """MONAI's random transforms would make new geometry for what has none; the values are the same."""
    random = [RandRotated(["image", "label"], 0.5, prob=1.0), RandZoomd(["image", "label"], prob=1.0)]
    transform = steps(augment=random)
    transform.set_random_state(seed=3)
    tracked = [transform(item) for item in items]
    dataset = CheckedDataset(items, steps(augment=random), cache_rate=rate, progress=False)
    for one, other in zip(tracked, drawn(dataset), strict=True):
        assert isinstance(one["image"], MetaTensor)
        assert not isinstance(other["image"], MetaTensor)
        assert all(torch.equal(plain_tensor(one[key]), other[key]) for key in ("image", "label"))
    assert get_track_meta()
    (batch,) = DataLoader(dataset, batch_size=len(items), num_workers=1)
    assert batch["image"].shape == (len(items), 3, 32, 32)


def test_what_other_threads_read_keeps_its_geometry(items):
    """MONAI's switch is one for the process: a thread that turned it off could leave it off for the others."""
    dataset = CheckedDataset(items, steps(), progress=False)
    for workers in (0, 2):
        list(ThreadDataLoader(dataset, batch_size=2, num_workers=workers, use_thread_workers=workers > 0))
        assert get_track_meta()
    found = []
    thread = threading.Thread(target=lambda: found.append(dataset[0]))
    with mock.patch("monai_kd.data.checked.set_track_meta") as switch:
        thread.start()
        thread.join()
        switch.assert_not_called()
        torch.testing.assert_close(plain_tensor(dataset[0]["label"]).shape, found[0]["label"].shape)
        switch.assert_called()


def test_a_transform_that_chooses_others_is_not_divided(items):
    whole = OneOf([steps(flip=False)])
    dataset = CheckedDataset(items, whole, cache_rate=0.0, progress=False)
    assert dataset[0]["image"].shape == (3, 32, 32)
