"""Volumes without a tumour, cut into slices."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from data_prep.__main__ import main
from data_prep.negatives import NegativesError, invert, write_negatives

SHAPE = (40, 48, 44)  # right to left, posterior to anterior, inferior to superior, in voxels of 1.5 mm
MARK = (30, 40, 36)  # right, anterior, superior


def head() -> np.ndarray:
    """An ellipsoid in the order right, anterior, superior, with a bright mark."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, each) for each in SHAPE), indexing="ij"))
    values = np.where((grid**2).sum(0) < 0.8, 60, 0).astype(np.int16)
    values[tuple(slice(each - 3, each + 3) for each in MARK)] = 100
    return values


def save(path: Path, orientation: str = "RAS", values: np.ndarray | None = None, mm: float = 1.5) -> Path:
    image = nib.Nifti1Image(head() if values is None else values, np.diag([mm, mm, mm, 1.0]))
    wanted = nib.orientations.axcodes2ornt(orientation)
    nib.save(image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), wanted)), path)
    return path


def other_format(path: Path, kind: type) -> Path:
    nib.save(kind(head(), np.diag([1.5, 1.5, 1.5, 1.0])), path)
    return path


def without_affine(path: Path) -> Path:
    image = nib.Nifti1Image(head(), np.eye(4))
    image.header["sform_code"], image.header["qform_code"] = 1, 0
    for row in ("srow_x", "srow_y", "srow_z"):
        image.header[row] = 0
    path.write_bytes(gzip.compress(image.header.binaryblock + bytes(4) + head().tobytes(order="F")))
    return path


def listed(folder: Path) -> dict[str, np.ndarray]:
    """Each slice as (rows, columns)."""
    entries = json.loads((folder / "datalist.json").read_text())["training"]
    return {entry["source"]: np.asarray(nib.load(folder / entry["image"]).dataobj)[..., 0].T for entry in entries}


def test_slices_are_upright_with_the_right_on_the_left(tmp_path):
    write_negatives(tmp_path / "out", [save(tmp_path / "a.nii.gz")], step_mm=3)
    slices = listed(tmp_path / "out")
    for view, (rows, columns) in {
        "axial": (SHAPE[1] - 1 - MARK[1], SHAPE[0] - 1 - MARK[0]),
        "coronal": (SHAPE[2] - 1 - MARK[2], SHAPE[0] - 1 - MARK[0]),
        "sagittal": (SHAPE[2] - 1 - MARK[2], SHAPE[1] - 1 - MARK[1]),
    }.items():
        brightest = max((image for name, image in slices.items() if view in name), key=lambda image: image.max())
        top, left = np.unravel_index(brightest.argmax(), brightest.shape)
        assert (abs(top - rows) <= 3, abs(left - columns) <= 3) == (True, True), view


def test_a_damaged_file_is_no_training_data(tmp_path):
    path = save(tmp_path / "a.nii.gz", values=head() + np.random.default_rng(0).integers(0, 9, SHAPE, dtype=np.int16))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(NegativesError, match="is damaged"):
        write_negatives(tmp_path / "out", [path])
    assert not (tmp_path / "out").exists()


def test_colours_and_complex_numbers_are_refused(tmp_path):
    for name, kind in (("c", np.complex64), ("rgb", [(colour, "u1") for colour in "RGB"])):
        nib.save(nib.Nifti1Image(np.zeros(SHAPE, kind), np.eye(4)), tmp_path / f"{name}.nii")
        with pytest.raises(NegativesError, match="holds colours or complex numbers"):
            write_negatives(tmp_path / "out", [tmp_path / f"{name}.nii"])


def test_metres_and_the_thickness_of_a_slice(tmp_path):
    image = nib.load(save(tmp_path / "mm.nii.gz"))
    image.header.set_xyzt_units("meter")
    image.header.set_sform(np.diag([0.0015, 0.0015, 0.0015, 1]), 1)
    image.header["pixdim"][1:4] = 0.0015
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), tmp_path / "m.nii.gz")
    for name in ("mm", "m"):
        write_negatives(tmp_path / f"out_{name}", [tmp_path / f"{name}.nii.gz"], thickness_mm=5)
        slices = [nib.load(path) for path in sorted((tmp_path / f"out_{name}" / "images").glob("*.nii.gz"))]
        # Three voxels are the nearest to 5 mm.
        assert {tuple(np.round(each.header.get_zooms()[:3], 4)) for each in slices} == {(1.5, 1.5, 4.5)}
    assert len(listed(tmp_path / "out_m")) == len(listed(tmp_path / "out_mm")) > 0


@pytest.mark.parametrize("orientation", ["LPS", "PIR", "SAL"])
def test_the_orientation_of_the_file_makes_no_difference(orientation, tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for folder, code in ((one, "RAS"), (other, orientation)):
        folder.mkdir()
        write_negatives(folder / "out", [save(folder / "a.nii.gz", code)])
    found, expected = listed(other / "out"), listed(one / "out")
    assert found.keys() == expected.keys()
    for name, image in expected.items():
        np.testing.assert_array_equal(found[name], image)


def test_a_slice_is_the_mean_of_its_planes_and_has_its_size(tmp_path):
    write_negatives(tmp_path / "out", [save(tmp_path / "a.nii.gz")], ["axial"], thickness_mm=4.5, step_mm=6)
    values = head()[::-1, ::-1, ::-1] / 100
    slices = listed(tmp_path / "out")
    assert len(slices) > 5
    for name, image in slices.items():
        first = int(name.rpartition("_")[2])
        assert first % 4 == 0
        np.testing.assert_allclose(image / 65535, values[:, :, first : first + 3].mean(2).T, atol=1e-5)
    file = nib.load(next((tmp_path / "out" / "images").iterdir()))
    assert file.header.get_zooms() == pytest.approx((1.5, 1.5, 4.5))
    assert nib.aff2axcodes(file.affine) == ("L", "P", "S")


def test_slices_with_little_of_the_head_are_left_out(tmp_path):
    values = head()
    values[:, :, :20] = 0
    write_negatives(tmp_path / "out", [save(tmp_path / "a.nii.gz", values=values)], ["axial"])
    assert all((image > 0.15 * 65535).mean() > 0.06 for image in listed(tmp_path / "out").values())
    assert max(int(name.rpartition("_")[2]) for name in listed(tmp_path / "out")) < SHAPE[2] - 20


def test_inverted_slices_keep_the_air(tmp_path):
    write_negatives(tmp_path / "out", [save(tmp_path / "a.nii.gz")], ["axial"], inverted=True)
    slices = listed(tmp_path / "out")
    plain = {name: image for name, image in slices.items() if not name.endswith("_inverted")}
    assert len(slices) == 2 * len(plain)
    for name, image in plain.items():
        np.testing.assert_allclose(slices[f"{name}_inverted"] / 65535, invert(image / 65535), atol=2e-5)
        assert (slices[f"{name}_inverted"][image == 0] == 0).all()


@pytest.mark.parametrize("first", [1, -1])
def test_the_affine_has_the_size_of_a_voxel(first, tmp_path):
    image = nib.Nifti1Image(head(), np.diag([first * 1.5, 1.5, 1.5, 1.0]))
    image.header["pixdim"][1:4] = 3.0
    image.header["xyzt_units"] = 5  # which the standard leaves undefined
    (path := tmp_path / "a.nii.gz").write_bytes(
        gzip.compress(image.header.binaryblock + bytes(4) + head().tobytes(order="F"))
    )
    write_negatives(tmp_path / "out", [path], ["axial", "axial"], thickness_mm=4.5)
    file = nib.load(next((tmp_path / "out" / "images").iterdir()))
    assert file.header.get_zooms() == pytest.approx((1.5, 1.5, 4.5))
    entries = json.loads((tmp_path / "out" / "datalist.json").read_text())["training"]
    assert len({entry["image"] for entry in entries}) == len(entries)


def test_an_interrupted_run_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("data_prep.negatives.write_file", stopped)
    monkeypatch.setattr("data_prep.__main__.convert", stopped)
    for command, said in (("negatives", "delete it"), ("figshare", "run the same command again")):
        source, folder = save(tmp_path / "a.nii.gz"), tmp_path / command
        order = [folder, source] if command == "negatives" else [source, folder]
        assert main([command, *map(str, order)]) == 130
        assert said in capsys.readouterr().err


def test_what_is_refused(tmp_path, capsys):
    good = save(tmp_path / "a.nii.gz")
    (tmp_path / "bad.nii.gz").write_bytes(b"x" * 400)
    (tmp_path / "other").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    empty = head()
    empty[:] = 7
    (values := head().astype(np.float32))[3, 3, 3] = np.nan
    for arguments, reason in (
        ([tmp_path / "none.nii.gz"], "there is no file"),
        ([tmp_path / "full"], "is a folder; give its files"),
        ([tmp_path / "bad.nii.gz"], "is no NIfTI file, or is damaged"),
        ([save(tmp_path / "other" / "a.nii"), good], "two volumes are named a"),
        ([save(tmp_path / "flat.nii.gz", values=empty)], "one value only"),
        ([save(tmp_path / "nan.nii.gz", values=values)], "not finite"),
        ([save(tmp_path / "two.nii.gz", values=head()[:, :, 0])], "three dimensions"),
        ([save(tmp_path / "coarse.nii.gz", mm=3.0)], "no slice is left.* Choose other views"),
        ([other_format(tmp_path / "surfer.mgz", nib.MGHImage)], "is no NIfTI file"),
        ([other_format(tmp_path / "analyze.img", nib.Spm2AnalyzeImage)], "is no NIfTI file"),
        ([without_affine(tmp_path / "zero.nii.gz")], "is no NIfTI file, or is damaged"),
    ):
        with pytest.raises(NegativesError, match=reason):
            write_negatives(tmp_path / "out", arguments)
        with pytest.raises(NegativesError, match=reason):
            write_negatives(tmp_path / "out", [good, *arguments])
        assert not (tmp_path / "out").exists()
    for values in ({"views": ["top"]}, {"thickness_mm": 0}, {"step_mm": float("nan")}, {"step_mm": float("inf")}):
        with pytest.raises(NegativesError, match=r"there is no view top|numbers of mm above 0"):
            write_negatives(tmp_path / "out", [good], **values)
    assert main(["negatives", str(tmp_path / "full"), str(good)]) == 1
    assert "is not an empty folder" in capsys.readouterr().err
    assert main(["negatives", str(tmp_path / "new"), str(good), "--views", "axial", "--step_mm", "9"]) == 0
    assert re.search(r"^\d+ slices of 1 volume, taken as without a tumour \(axial \d+", capsys.readouterr().out)
