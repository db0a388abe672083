"""Files made to read other files, to fill the memory, or to end the program."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import deadly
import hostile
import numpy as np
import pytest
from raw_files import slice_fields, write_v73
from scipy.io import savemat
from scipy.sparse import csc_matrix
from test_convert import manifest, many_slices, quick

from data_prep import convert as conversion
from data_prep.convert import ConvertError, convert
from data_prep.matfile import BadSlice, read_slice
from data_prep.sources import UNREADABLE, Reader, reason_of, scan

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("make", hostile.ELSEWHERE, ids=lambda make: make.__name__)
def test_nothing_but_the_file_itself_is_read(tmp_path, make, labelled):
    path = make(tmp_path)
    with pytest.raises(BadSlice, match=hostile.ELSEWHERE[make]):
        read_slice(path, labelled=labelled)


def other(folder: Path, field: str, value: object) -> Path:
    savemat(folder / "1.mat", {"cjdata": slice_fields(**{field: value})})
    return folder / "1.mat"


CELL = np.array([[np.ones((3, 3))]], object)


@pytest.mark.parametrize("field", ["image", "tumorMask", "tumorBorder", "label", "PID"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (csc_matrix(np.eye(40, 56)), "is a sparse matrix"),
        (CELL, "a cell array or an object"),
        ({"a": 1.0}, "a struct or an object"),
        (np.ones((40, 56)) * 1j, "complex numbers"),
        ("x" * 5000, "is a text of more than 4096 letters"),
    ],
)
def test_other_types_in_older_files(tmp_path, field, value, reason):
    with pytest.raises(BadSlice, match=f"{field} .*{reason}"):
        read_slice(other(tmp_path, field, value))


def test_several_slices_in_one_older_file(tmp_path):
    merged = np.zeros((1, 3), dtype=[("image", object), ("label", object)])
    for number in range(3):
        merged[0, number] = (slice_fields()["image"], 1.0)
    savemat(tmp_path / "1.mat", {"cjdata": merged})
    with pytest.raises(BadSlice, match="cjdata is an array of 3 structs: save each slice as a file of its own"):
        read_slice(tmp_path / "1.mat")
    for value, reason in ((merged[:, :0], "cjdata is empty"), (CELL, "cjdata is no struct .cell")):
        savemat(tmp_path / "1.mat", {"cjdata": value})
        with pytest.raises(BadSlice, match=reason):
            read_slice(tmp_path / "1.mat")


LARGE = {
    "never written": hostile.fill_values,
    "chunk larger than the array": hostile.large_chunk,
    "older": hostile.old,
    "older, at the root": hostile.old_at_root,
    "one more variable": lambda folder: hostile.old_with_rest(folder, 2**27),
    "chunk that goes on": lambda folder: hostile.long_chunk(folder, 2**27),
}


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_sizes_are_known_before_pixels_are_read(tmp_path, make):
    """In a process of its own, whose memory is measured: each would take 100 MB at least."""
    path = make(tmp_path)
    assert path.stat().st_size < 300_000
    code = """
import resource, sys
from data_prep.matfile import BadSlice, read_slice
import scipy.io
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
try:
    read_slice(sys.argv[1], max_pixels=10_000)
except BadSlice as bad:
    print(peak() - before, bad.reason)
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, cwd=REPOSITORY)
    grown, _, reason = done.stdout.partition(" ")
    assert "pixels" in reason or "bytes" in reason, done
    # What is counted is counted up to the 16 MiB that are allowed for headers.
    assert int(grown) < 60


def test_the_limit_may_be_raised(tmp_path):
    path = write_v73(tmp_path / "1.mat", slice_fields())
    with pytest.raises(BadSlice, match=r"2,240 pixels, more than the 2,000 that are read; .* raise max_pixels"):
        read_slice(path, max_pixels=2000)
    assert read_slice(path, max_pixels=2240).image.shape == (40, 56)
    with pytest.raises(BadSlice, match="image is a text of more than 4096 letters"):
        read_slice(hostile.letters(tmp_path))


def special(folder: Path, kind: str) -> Path:
    path = folder / "2.mat"
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a device":
        path.symlink_to("/dev/zero")
    elif kind == "a socket":
        here = os.getcwd()
        os.chdir(folder)  # names of sockets are short
        try:
            socket.socket(socket.AF_UNIX).bind(path.name)
        finally:
            os.chdir(here)
    else:
        path.mkdir()
    return path


@pytest.mark.parametrize("kind", ["a named pipe", "a device", "a socket", "a folder"])
def test_only_files_are_opened(tmp_path, make_slices, kind):
    src = make_slices(["1"])
    path = special(src, kind)
    with pytest.raises(BadSlice, match=f"it is {kind}, not a file"):
        read_slice(path)
    if kind != "a folder":
        os.symlink(path, src / "part.zip")
        with pytest.raises(ConvertError, match=kind):
            quick(path, tmp_path / "single")
    rows = manifest_of(src, tmp_path / "out")
    left_out = {name: row["reason"] for name, row in rows.items() if row["status"] != "ok"}
    names = [] if kind == "a folder" else ["2.mat", "part.zip"]
    assert left_out == dict.fromkeys(names, f"cannot be read (it is {kind}, not a file)")


def manifest_of(src: Path, dst: Path, **options: object) -> dict[str, dict[str, str]]:
    quick(src, dst, **options)
    return manifest(dst)


METHODS = {"deflate": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_members_of_archives_are_counted_while_they_unpack(tmp_path, method, honest):
    size = 2**26
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.writestr("1.mat", bytes(size))
    blob = (tmp_path / "a.zip").read_bytes()
    assert len(blob) < size / 500
    if not honest:  # in the member's own header and in the directory
        assert blob.count(size.to_bytes(4, "little")) == 2
        (tmp_path / "a.zip").write_bytes(blob.replace(size.to_bytes(4, "little"), (2**24).to_bytes(4, "little")))
    (source,) = scan(tmp_path, max_pixels=1000)
    with Reader(max_pixels=1000) as reader, pytest.raises(UNREADABLE) as caught:
        reader.read(source.chain)
    assert ("takes more than 16,785,216 bytes" in reason_of(caught.value)) == honest


def test_large_members_are_left_out_and_the_others_converted(tmp_path):
    good = write_v73(tmp_path / "good.mat", slice_fields())
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.mat", bytes(2**25))
        archive.write(good, "2.mat")
        archive.write(write_v73(tmp_path / "large.mat", slice_fields(400, 560)), "3.mat")
    rows = manifest_of(tmp_path / "a.zip", tmp_path / "out", max_pixels=10_000)
    assert [row["status"] for row in rows.values()] == ["bad", "ok", "bad"]
    assert rows["a.zip/1.mat"]["reason"].startswith("it takes more than 16,857,216 bytes")
    assert "224,000 pixels, more than the 10,000" in rows["a.zip/3.mat"]["reason"]


def test_an_archive_that_holds_itself(tmp_path):
    content = b""
    for number in range(9):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("a.zip" if number else "1.mat", content)
        content = (tmp_path / "a.zip").read_bytes()
    (source,) = scan(tmp_path)
    assert "archives in archives are read 4 deep" in source.problem


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_ends_the_process_takes_no_other_with_it(tmp_path, monkeypatch, workers):
    src = many_slices(tmp_path / "raw", 20)
    monkeypatch.setattr(conversion, "convert_file", deadly.convert_or_end)
    summary = convert(src, tmp_path / "out", workers=workers, progress=False)
    assert summary.converted == 18
    assert [file for file, _ in summary.bad] == ["4.mat", "17.mat"]
    for _, reason in summary.bad:
        assert reason == "ended the process that read it (signal 6): damaged, or too little memory"


@pytest.mark.parametrize("place", ["data_prep.matfile.hdf5.fields_of", "data_prep.worker.encode"])
def test_no_memory_is_the_reason_of_one_file(tmp_path, monkeypatch, place):
    from data_prep.worker import Job, convert_file

    path = write_v73(tmp_path / "1.mat", slice_fields())
    monkeypatch.setattr(place, deadly.no_memory)
    row = convert_file(Job("1.mat", "0001", path, tmp_path, "nifti")).row
    assert (row["status"], row["reason"]) == ("bad", "it does not fit into memory")


def test_no_memory_for_a_member_of_an_archive(tmp_path, monkeypatch):
    path = write_v73(tmp_path / "1.mat", slice_fields())
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "2.mat")
    monkeypatch.setattr("data_prep.sources.read_at_most", deadly.no_memory)
    rows = manifest_of(tmp_path, tmp_path / "out")
    assert rows["a.zip/2.mat"]["reason"] == "it does not fit into memory"
    assert rows["1.mat"]["status"] == "ok"


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.arange(12.0).reshape(3, 4) * 1e300, "too large to be scaled in 32 bits"),
        (np.arange(12).reshape(3, 4) + 2**40, "differ by too little"),
        (np.arange(12).reshape(3, 4).astype("u8") + 2**63, "differ by too little"),
        (1 + np.arange(12.0).reshape(3, 4) * 1e-9, "differ by too little"),
        (np.arange(12.0).reshape(3, 4) * 1e-46, "differ by too little"),
        (np.arange(12).reshape(3, 4) + 2**24 - 20, None),
        (np.arange(12).reshape(3, 4) * 2**40, None),
        (np.arange(12.0).reshape(3, 4) * 1e-30, None),
        (np.arange(12).reshape(3, 4) > 5, None),
    ],
)
def test_values_that_32_bits_can_not_hold(tmp_path, image, reason):
    path = write_v73(tmp_path / "1.mat", {"image": image})
    if reason is None:
        assert np.array_equal(read_slice(path, labelled=False).image, image)
        return
    with pytest.raises(BadSlice, match=reason):
        read_slice(path, labelled=False)
