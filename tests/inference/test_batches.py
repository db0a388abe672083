"""Slices of several files that go through the network together."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from slices import Brightness, grey, pattern

from monai_kd.config import install_short_errors
from monai_kd.inference import batches
from monai_kd.inference.batches import FilesTogether, read_ahead, slices_together
from monai_kd.inference.evaluator import FileEvaluator


def item(name: str, *shape: int) -> dict:
    return {"image": torch.full((1, 3, *shape), float(len(name))), "file": [name]} if shape else {"file": [name]}


def names(group: list[dict]) -> str:
    return "".join(each["file"][0] for each in group)


@pytest.mark.parametrize(
    ("items", "most", "groups"),
    [
        # slices of one size
        ([item("a", 8, 8), item("b", 8, 8), item("c", 8, 8)], 2, ["ab", "c"]),
        # one at a time
        ([item("a", 8, 8), item("b", 8, 8)], 1, ["a", "b"]),
        # two sizes, and back
        ([item("a", 8, 8), item("b", 8, 8), item("c", 9, 8), item("d", 8, 8)], 4, ["ab", "c", "d"]),
        # a volume stays alone, where it is
        ([item("a", 8, 8), item("v", 8, 8, 5), item("b", 8, 8)], 4, ["a", "v", "b"]),
        ([item("v", 8, 8, 5), item("w", 8, 8, 5)], 4, ["v", "w"]),
        # a volume of one slice is a slice
        ([item("a", 8, 8, 1), item("b", 8, 8, 1)], 4, ["ab"]),
        # files that could not be read
        ([item("x"), item("a", 8, 8), item("y"), item("b", 8, 8), item("z")], 9, ["xaybz"]),
        ([item("x"), item("v", 8, 8, 5), item("y")], 9, ["x", "v", "y"]),
        ([], 4, []),
    ],
)
def test_what_goes_together(items, most, groups):
    assert [names(group) for group in slices_together(items, most)] == groups
    assert [names(group) for group in read_ahead(slices_together(items, most))] == groups
    loader = FilesTogether(items, lambda images: images.mean(dim=(1, 2, 3), keepdim=True), most)
    flat = list(loader)
    assert names(flat) == "".join(groups)
    together = {name for group in groups if sum(part in "abcd" for part in group) > 1 for name in group}
    assert {each["file"][0] for each in flat if "predicted" in each} == together - set("xyzv")


def test_a_large_slice_is_alone(monkeypatch):
    monkeypatch.setattr(batches, "LARGE", 63)
    source = type("Source", (), {"pixels": np.zeros((8, 8))})()
    items = [{**item(name, 4, 4), "source": source} for name in "ab"]
    assert [names(group) for group in slices_together(items, 4)] == ["a", "b"]


def test_the_next_slices_are_read_while_these_are_processed():
    read = threading.Event()

    def items():
        for name in "abcd":
            if name == "d":
                read.set()
            yield item(name, 8, 8)

    groups = read_ahead(slices_together(items(), 2))
    next(groups)
    assert read.wait(10)
    assert [names(group) for group in groups] == ["cd"]


def test_a_volume_is_processed_before_the_next_file_is_read():
    read = []

    def items():
        for name, shape in (("a", (8, 8)), ("v", (8, 8, 5)), ("b", (8, 8))):
            read.append(name)
            yield item(name, *shape)

    groups = read_ahead(slices_together(items(), 2))
    assert names(next(groups)) == "a"
    assert names(next(groups)) == "v"
    assert read == ["a", "v"]
    assert [names(group) for group in groups] == ["b"]


def test_an_error_of_reading_is_raised():
    def items():
        yield item("a", 8, 8)
        raise OSError("no such device")

    groups = read_ahead(slices_together(items(), 1))
    next(groups)
    with pytest.raises(OSError, match="no such device"):
        list(groups)


def test_evaluators_share_one_filter_of_their_log(monkeypatch):
    monkeypatch.setattr("sys.excepthook", sys.__excepthook__)
    for _ in range(2):
        install_short_errors()
        assert len(FileEvaluator("cpu", [], torch.nn.Identity()).logger.filters) == 1


def test_a_file_that_fails_with_others_fails_alone(tmp_path, segment, monkeypatch, caplog):
    """Too little memory for several slices is enough for each but one."""
    for name in "abc":
        Image.fromarray(grey(pattern()).astype(np.uint8)).save(tmp_path / f"{name}.png")
    calls = []

    def little_memory(self, image):
        calls.append(len(image))
        if len(calls) in (1, 3):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, image)

    original = Brightness.forward
    monkeypatch.setattr(Brightness, "forward", little_memory)
    rows = segment(tmp_path, batch_size=16)
    assert calls == [3, 1, 1, 1]
    assert [rows[f"{name}.png"]["status"] for name in "abc"] == ["ok", "failed", "ok"]
    assert "3 slices together failed" in caplog.text
