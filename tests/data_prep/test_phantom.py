"""Phantoms: genuine files, said to be synthetic, the same each time, and with tumours as described."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
from raw_files import slice_fields, write_v73

from data_prep.convert import ConvertError, convert
from data_prep.matfile import read_slice
from data_prep.phantom import PhantomError, phantom_slices, write_phantoms


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("phantoms") / "raw", 26, seed=3, size=128, workers=1, progress=False)


def test_files_are_laid_out_as_the_originals(raw: Path, real_mats: Path) -> None:
    with h5py.File(raw / "1.mat") as made, h5py.File(real_mats / "1.mat") as real:
        assert set(made["cjdata"]) == set(real["cjdata"]) | {"synthetic"}
        for name, data in real["cjdata"].items():
            same = made["cjdata"][name]
            assert (same.dtype, same.ndim) == (data.dtype, data.ndim)
            assert {k: v.item() for k, v in same.attrs.items()} == {k: v.item() for k, v in data.attrs.items()}
            assert (same.shape[0] == 1) == (data.shape[0] == 1)
        assert made["cjdata"].attrs["MATLAB_class"] == real["cjdata"].attrs["MATLAB_class"]
        fields = [[b"".join(name) for name in file["cjdata"].attrs["MATLAB_fields"]] for file in (made, real)]
        assert fields[0] == [*fields[1], b"synthetic"]
        assert made.userblock_size == real.userblock_size == 512
    head = (raw / "1.mat").read_bytes()[:512]
    assert head.startswith(b"MATLAB 7.3 MAT-file, SYNTHETIC PHANTOM")
    assert head[116:] == (real_mats / "1.mat").read_bytes()[116:512]


def test_same_seed_same_bytes_and_a_longer_set_begins_alike(raw: Path, tmp_path: Path) -> None:
    longer = write_phantoms(tmp_path / "longer", 29, seed=3, size=128, workers=2, progress=False)
    other = write_phantoms(tmp_path / "other", 2, seed=4, size=128, workers=1, progress=False)
    names = [f"{n}.mat" for n in range(1, 27)]
    assert sorted(path.name for path in raw.iterdir()) == sorted([*names, "PHANTOM.txt"])
    assert [(raw / name).read_bytes() for name in names] == [(longer / name).read_bytes() for name in names]
    assert (longer / "29.mat").exists()
    assert (other / "1.mat").read_bytes() != (raw / "1.mat").read_bytes()


def test_again_keeps_and_completes(raw: Path) -> None:
    kept, content = (raw / "1.mat").stat().st_mtime_ns, (raw / "9.mat").read_bytes()
    (raw / "9.mat").unlink()
    write_phantoms(raw, 26, seed=3, size=128, workers=1, progress=False)
    assert (raw / "9.mat").read_bytes() == content
    assert (raw / "1.mat").stat().st_mtime_ns == kept


def test_refusals(raw: Path, tmp_path: Path) -> None:
    with pytest.raises(PhantomError, match="other values"):
        write_phantoms(raw, 26, seed=5, size=128, progress=False)
    with pytest.raises(PhantomError, match="size 64 to 1024"):
        write_phantoms(tmp_path / "x", 4, size=16, progress=False)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/1.mat").write_bytes(b"somebody's")
    with pytest.raises(PhantomError, match="not empty and holds no phantoms"):
        write_phantoms(tmp_path / "full", 4, progress=False)
    assert (tmp_path / "full/1.mat").read_bytes() == b"somebody's"


def test_converted_they_are_still_synthetic(raw: Path, tmp_path: Path) -> None:
    summary = convert(raw, tmp_path / "out", workers=1, progress=False)
    assert summary.synthetic
    assert (summary.converted, summary.bad, summary.how_folds) == (26, [], "by group")
    top = json.loads((tmp_path / "out/datalist.json").read_text())
    assert top["synthetic"] is True
    assert "ynthetic phantom" in top["description"]
    assert {entry["patient"] for entry in top["training"]} == {f"PHANTOM{n:04d}" for n in range(1, 8)}
    assert b"SYNTHETIC" in nib.load(tmp_path / "out/images/0001.nii.gz").header["descrip"].item()
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed/1.mat").write_bytes((raw / "1.mat").read_bytes())
    write_v73(tmp_path / "mixed/2.mat", slice_fields())
    with pytest.raises(ConvertError, match="mixes synthetic phantoms with real slices"):
        convert(tmp_path / "mixed", tmp_path / "out2", workers=1, progress=False)


def test_tumours_differ_as_described(tmp_path: Path) -> None:
    """Share of the picture, brightness beside the brain around, evenness, and place, over 36 patients."""
    found: dict[int, list[tuple[float, float, float, float]]] = {1: [], 2: [], 3: []}
    for patient in range(36):
        for raw in phantom_slices(patient, seed=1, size=128, slices=2):
            share = raw.mask.mean()
            assert 0.003 <= share <= 0.06
            assert raw.synthetic
            inside = raw.image[raw.mask].astype(float)
            brain = np.median(raw.image[raw.image > 0.15 * raw.image.max()])
            _, cols = np.nonzero(raw.mask)
            spread = abs(cols.mean() / 128 - 0.5)
            found[raw.label].append((share, inside.mean() / brain, inside.std() / inside.mean(), spread))
    share, bright, uneven, aside = ({k: np.median(v, axis=0)[i] for k, v in found.items()} for i in range(4))
    assert [len(found[label]) for label in (1, 2, 3)] == [24, 24, 24]
    assert share[3] < 0.6 * share[1]
    assert share[3] < 0.6 * share[2]
    assert bright[1] > 1.2
    assert bright[3] > 1.1
    assert uneven[2] > 2 * uneven[1], "gliomas have a dark core"
    assert aside[3] < 0.06 < aside[1], "pituitary tumours lie near the middle"


def test_neighbouring_slices_are_alike_and_not_the_same() -> None:
    first, second = phantom_slices(4, size=128, slices=2)
    assert first.pid == second.pid
    assert first.label == second.label
    overlap = 2 * (first.mask & second.mask).sum() / (first.mask.sum() + second.mask.sum())
    assert 0.7 < overlap < 1
    assert 0.7 < np.corrcoef(first.image.ravel(), second.image.ravel())[0, 1] < 0.999


def test_written_file_reads_back(raw: Path) -> None:
    made = phantom_slices(2, seed=3, size=128)[1]
    back = read_slice(raw / "10.mat")
    assert np.array_equal(back.image, made.image)
    assert back.image.dtype == np.int16
    assert np.array_equal(back.mask, made.mask)
    assert np.array_equal(back.border, made.border)
    assert (back.label, back.pid, back.synthetic) == (made.label, made.pid, True)
