"""Finding slices in folders and archives."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from data_prep.sources import UNREADABLE, Reader, SourceError, reason_of, scan, slice_id, stamp_of


def zip_of(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_folder_archive_and_archive_in_archive(tmp_path: Path, method: int) -> None:
    inner = zip_of({"part/10.mat": b"ten", "part/9.mat": b"nine", "README.txt": b"-"}, method)
    middle = zip_of({"deep.zip": zip_of({"7.MAT": b"seven"}), "11.mat": b"eleven"})
    outer = zip_of({"a.zip": inner, "b.zip": middle, "cvind.mat": b"folds"}, method)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "all.zip").write_bytes(outer)
    (tmp_path / "2.mat").write_bytes(b"two")
    (tmp_path / "notes.txt").write_bytes(b"-")
    found = scan(tmp_path)
    with Reader() as reader:
        content = {source.name: reader.read(source.chain) for source in found}
        backwards = {source.name: reader.read(source.chain) for source in found[::-1]}
    assert content == backwards
    assert content == {
        "2.mat": b"two",
        "sub/all.zip/a.zip/part/9.mat": b"nine",
        "sub/all.zip/a.zip/part/10.mat": b"ten",
        "sub/all.zip/b.zip/11.mat": b"eleven",
        "sub/all.zip/b.zip/deep.zip/7.MAT": b"seven",
        "sub/all.zip/cvind.mat": b"folds",
    }
    assert [source.name for source in found if source.name.endswith(("9.mat", "10.mat"))] == [
        "sub/all.zip/a.zip/part/9.mat",
        "sub/all.zip/a.zip/part/10.mat",
    ]
    assert all(source.stamp == stamp_of(content[source.name]) for source in found if len(source.chain) > 1)
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["2.mat", "all.zip", "notes.txt"], "nothing unpacked"


def test_what_macos_leaves_behind_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zip_of({"1.mat": b"1", "__MACOSX/1.mat": b"junk", "._1.mat": b"junk"}))
    assert [source.name for source in scan(tmp_path)] == ["a.zip/1.mat"]


def test_damaged_archive_is_one_bad_source(tmp_path: Path) -> None:
    (tmp_path / "1.mat").write_bytes(b"1")
    (tmp_path / "bad.zip").write_bytes(zip_of({"2.mat": b"2"})[:-30])
    good, bad = scan(tmp_path)
    assert good.problem is None
    assert "not a readable zip archive" in bad.problem


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_whatever_is_damaged_in_an_archive_is_unreadable(tmp_path: Path, method: int) -> None:
    """One or two bytes changed anywhere: each file is read or refused, nothing else is raised."""
    random = np.random.default_rng(method)
    good = zip_of({"part/1.mat": random.bytes(300), "2.mat": bytes(range(256)) * 2}, method)
    refused = set()
    for _ in range(1500):
        blob = bytearray(good)
        for at in random.integers(0, len(blob), random.integers(1, 3)):
            blob[at] = random.integers(0, 256)
        (tmp_path / "a.zip").write_bytes(blob)
        with Reader() as reader, contextlib.suppress(SourceError):
            for source in scan(tmp_path):
                try:
                    reader.read(source.chain)
                except UNREADABLE as error:
                    refused.add(reason_of(error))
    assert len(refused) > 2
    assert "" not in refused


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        scan(tmp_path / "nowhere")
    with pytest.raises(SourceError, match=r"no \.mat file"):
        scan(tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"), [("a/12.mat", "0012"), ("3064.MAT", "3064"), ("x/my scan.1.mat", "my_scan_1")]
)
def test_slice_id(name: str, expected: str) -> None:
    assert slice_id(name) == expected


def test_names_in_other_alphabets_stay_apart() -> None:
    names = ["患者甲.mat", "患者乙.mat", "Müller.mat", "Möller.mat"]
    stems = [slice_id(name) for name in names]
    assert len(set(stems)) == len(names)
    assert all(stem.isascii() for stem in stems)
    assert slice_id("other/患者甲.mat") == stems[0]
