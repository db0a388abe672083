"""Errors of transforms, with the file and the cause."""

from __future__ import annotations

import pytest
import torch
from monai.transforms import Compose, LoadImaged, RandFlipd
from PIL import Image

from monai_kd.data import CheckedDataset, UnusableItems
from monai_kd.inference import SliceReader
from monai_kd.transforms import DeclaredMaskd, SameGridd

LOAD = Compose(
    [
        LoadImaged(["image", "label"], reader=SliceReader, constant=True, ensure_channel_first=True),
        DeclaredMaskd("label", values=255),
        SameGridd("label"),
    ]
)


def write(folder, count: int = 4) -> list[dict[str, str]]:
    for number in range(count):
        Image.effect_noise((8, 6), 60).save(folder / f"image{number}.png")
        Image.new("L", (8, 6), 255 * (number % 2)).save(folder / f"label{number}.png")
    return [{key: str(folder / f"{key}{number}.png") for key in ("image", "label")} for number in range(count)]


def spoil(items: list[dict[str, str]]) -> list[str]:
    """Four faults, and how each is to be reported."""
    content = (items[0]["image"], items[1]["image"])
    for path, length in zip(content, (40, 0), strict=True):
        with open(path, "rb+") as file:
            file.truncate(length)
    Image.new("L", (8, 6), 7).save(items[2]["label"])
    Image.new("L", (9, 6)).save(items[3]["label"])
    return [
        f"{items[0]['image']}: it can't be read as a picture, truncated or damaged? (",
        f"{items[1]['image']}: the file is empty",
        f"{items[2]['label']}: the mask holds 7, but",
        f"{items[3]['label']} has 9 × 6 pixels, and {items[3]['image']} has 8 × 6.",
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_all_files_that_cannot_be_used_are_named_at_once(tmp_path, workers):
    items = write(tmp_path, 6)
    wanted = spoil(items)
    with pytest.raises(UnusableItems) as caught:
        CheckedDataset(items, LOAD, progress=False, num_workers=workers)
    head, *lines = str(caught.value).splitlines()
    assert head == "4 of 6 items can't be used:"
    assert all(line.startswith(start) for line, start in zip(lines, wanted, strict=True))


def test_of_many_some_are_named(tmp_path):
    items = write(tmp_path)
    spoil(items)
    with pytest.raises(UnusableItems) as caught:
        CheckedDataset(items * 3, LOAD, progress=False)
    lines = str(caught.value).splitlines()
    assert (lines[0], len(lines), lines[-1]) == ("12 of 12 items can't be used:", 7, "… and 7 more")


def test_one_file_needs_no_heading(tmp_path):
    items = write(tmp_path)
    spoiled = spoil(items)
    with pytest.raises(UnusableItems) as caught:
        CheckedDataset(items[1:2], LOAD, progress=False)
    assert str(caught.value) == spoiled[1]


@pytest.mark.parametrize("number", range(4))
def test_without_a_cache_the_item_that_is_asked_for(tmp_path, number):
    items = write(tmp_path)
    wanted = spoil(items)
    dataset = CheckedDataset(items, LOAD, cache_rate=0.0, progress=False)
    with pytest.raises(UnusableItems) as caught:
        dataset[number]
    assert str(caught.value).startswith(wanted[number])


def test_in_a_worker_of_the_loader(tmp_path):
    items = write(tmp_path, 2)
    spoil(items + items)  # the last two faults are those of the first two items again
    loader = torch.utils.data.DataLoader(CheckedDataset(items, LOAD, cache_rate=0.0), num_workers=1)
    with pytest.raises(UnusableItems, match=r"UnusableItems: .*image0\.png: "):
        next(iter(loader))


def broken(_item):
    raise KeyError("pixels")


def test_faults_of_a_transform_name_the_item_too(tmp_path):
    # A bare function counts as random: it is run when an item is asked for; and of cached items, tried before.
    items, transform = write(tmp_path, 1), Compose([LOAD, broken])
    with pytest.raises(RuntimeError, match=r"image0\.png with .*label0\.png: KeyError: 'pixels'"):
        CheckedDataset(items, transform, cache_rate=0.0, progress=False)[0]
    with pytest.raises(ValueError, match=r"broken fails on .*image0\.png with .*label0\.png, .*: KeyError: 'pixels'"):
        CheckedDataset(items, transform, cache_rate=1.0, progress=False)


def test_good_items_are_those_of_monai(tmp_path):
    items = write(tmp_path)
    flip = Compose([*LOAD.transforms, RandFlipd(["image", "label"], prob=1)])
    for transform in (LOAD, flip):
        for item, found in zip(items, CheckedDataset(items, transform, progress=False), strict=True):
            assert torch.equal(found["image"], transform(dict(item))["image"])
