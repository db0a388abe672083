"""How often each input is opened between the reader and the last output."""

from __future__ import annotations

import builtins
import io
import os
import weakref
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image
from slices import grey, pattern, write_dicom, write_mat

from monai_kd.inference import BundlePredictor, InputFiles, read_source
from monai_kd.inference.examine import examine
from monai_kd.inference.masks import mask_suffix, write_mask
from monai_kd.io.readers import SliceReader

FRAME = {"FrameOfReferenceUID": "1.2.3.4"}
ALONE = ("flat.nii.gz", "volume.nii", "picture.png", "figshare.mat")
SLICES = ("single.dcm", "series/0.dcm", "series/1.dcm", "series/2.dcm")


@pytest.fixture
def inputs(tmp_path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    image = grey(pattern())
    nib.save(nib.Nifti1Image(image.T, np.diag([-0.5, -0.6, 6.0, 1.0])), folder / "flat.nii.gz")
    nib.save(nib.Nifti1Image(np.stack([image.T] * 3, axis=-1), np.eye(4)), folder / "volume.nii")
    Image.fromarray((image / 8).astype(np.uint8)).save(folder / "picture.png")
    write_mat(folder / "figshare.mat", image)
    write_dicom(folder / "single.dcm", image, series="1.2.4", **FRAME)
    for number in range(3):
        write_dicom(folder / "series" / f"{number}.dcm", image, position=(0, 0, 2.0 * number), **FRAME)
    return folder


class Openings:
    """Counts the openings of files below a folder, by their relative path, and readings of pixels from DICOM."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.count, self.dicom_pixels = folder, Counter[str](), Counter[str]()
        opened, dcmread = builtins.open, pydicom.dcmread

        def count(file, *args, **kwargs):
            self.add(self.count, file)
            return opened(file, *args, **kwargs)

        def count_pixels(stream, *args, stop_before_pixels=False, **kwargs):
            if not stop_before_pixels:
                self.add(self.dicom_pixels, getattr(stream, "name", stream))
            return dcmread(stream, *args, stop_before_pixels=stop_before_pixels, **kwargs)

        for module in (builtins, io):
            monkeypatch.setattr(module, "open", count)
        monkeypatch.setattr(pydicom, "dcmread", count_pixels)
        monkeypatch.setattr("data_prep.child.call", lambda function, argument: function(argument))

    def add(self, counter: Counter[str], file: object) -> None:
        path = None if isinstance(file, int) else Path(os.fsdecode(file))
        if path is not None and path.is_relative_to(self.folder):
            counter[path.relative_to(self.folder).as_posix()] += 1

    def check(self) -> None:
        # To know which files of a folder are one series, their headers are read before.
        assert self.count == {**dict.fromkeys(ALONE, 1), **dict.fromkeys(SLICES, 2)}
        assert self.dicom_pixels == dict.fromkeys(SLICES, 1)


def test_inferring_with_all_outputs(inputs, segment, monkeypatch):
    openings = Openings(inputs, monkeypatch)
    rows = segment(inputs, overlays=True, dicom_seg=True)
    openings.check()
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert all(row["mask"] and row["overlay"] for row in rows.values())
    assert {name for name, row in rows.items() if row["dicom_seg"]} == {"single.dcm", "series"}


def test_report(inputs, tmp_path, bright_bundle, brightness, monkeypatch):
    segment = BundlePredictor(bright_bundle, brightness, device="cpu")
    classify = segment

    class Classes:
        """Answers as a classifier, of a network that is none."""

        def value(self, name: str) -> list[str]:
            return ["oval", "round"]

        def __call__(self, pixels: np.ndarray, meta: dict) -> dict:
            image = classify(pixels, meta)["image"]
            slices = pixels.shape[2:]
            return {"pred": np.full((2, *slices), 0.5), "image": image}

    openings = Openings(inputs, monkeypatch)
    examined = list(examine(InputFiles(inputs, tmp_path / "out"), segment, Classes()))
    openings.check()
    assert [each.row["status"] for each in examined] == ["ok"] * 6


@pytest.mark.parametrize("name", [*ALONE, "single.dcm"])
def test_reading_predicting_and_writing(name, inputs, tmp_path, bright_bundle, brightness, monkeypatch):
    """As a server of labels does."""
    predict = BundlePredictor(bright_bundle, brightness, device="cpu")
    openings = Openings(inputs, monkeypatch)
    source = read_source(inputs / name)
    mask = predict(source.pixels, source.meta())["pred"]
    write_mask(mask, tmp_path / f"mask{mask_suffix(name)}")
    assert openings.count == {name: 1}


def test_a_file_without_suffix_is_recognised_by_its_mark(inputs, segment, monkeypatch):
    os.rename(inputs / "single.dcm", inputs / "IM0001")
    openings = Openings(inputs, monkeypatch)
    assert segment(inputs / "IM0001", overlays=True, dicom_seg=True)["IM0001"]["dicom_seg"]
    assert openings.dicom_pixels == {"IM0001": 1}


def test_what_is_in_memory_while_a_file_is_read(inputs, segment, monkeypatch):
    """At most one volume, and twice as many slices as go through the network together."""
    read = []
    original = SliceReader.source

    def source(self, paths):
        alive = [found.pixels.shape for reference in read if (found := reference()) is not None]
        volumes = [shape for shape in alive if len(shape) == 3 and shape[2] > 1]
        assert not volumes
        assert len(alive) <= 4
        found = original(self, paths)
        read.append(weakref.ref(found))
        return found

    monkeypatch.setattr(SliceReader, "source", source)
    rows = segment(inputs, overlays=True, dicom_seg=True, batch_size=2)
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert len(read) == 6


def test_outputs_do_not_depend_on_workers(inputs, tmp_path, segment):
    """Which send the sources from process to process."""
    contents = []
    for workers in (0, 2):
        segment(inputs, overlays=True, workers=workers)
        contents.append({path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 2 + 2 * 6
