"""The programs of docs/experiments that draw slices without a tumour."""

from __future__ import annotations

import json
import runpy
import sys

import documented
import nibabel as nib
import numpy as np
import pytest
from documented import ROOT, copied_checkout
from heads_folder import write_heads

sys.path.append(str(ROOT / "tests" / "bundles"))
from tiny import untrained

EXPERIMENTS = ROOT / "docs" / "experiments"


def run(name: str, monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    monkeypatch.syspath_prepend(EXPERIMENTS)
    runpy.run_path(str(EXPERIMENTS / name), run_name="__main__")


def voxel(affine: np.ndarray, *millimetres: float) -> tuple[int, ...]:
    return tuple(np.rint(np.linalg.inv(affine) @ [*millimetres, 1])[:3].astype(int))


@pytest.mark.parametrize("spacing", [2.0, 3.0])
def test_contrast_is_drawn_at_places_of_the_space_whatever_the_grid(tmp_path, monkeypatch, spacing):
    affine = np.array([[spacing, 0, 0, -90], [0, spacing, 0, -126], [0, 0, spacing, -72], [0, 0, 0, 1]])
    shape = tuple(round(each / spacing) for each in (182, 218, 182))
    rng = np.random.default_rng(0)
    head = rng.normal(100, 2, shape).astype(np.float32)
    nib.save(nib.Nifti1Image(head, affine), tmp_path / "head.nii.gz")
    for name in ("one", "same"):
        run("simulated_contrast.py", monkeypatch, tmp_path / "head.nii.gz", tmp_path / f"{name}.nii.gz")
    run("simulated_contrast.py", monkeypatch, tmp_path / "head.nii.gz", tmp_path / "other.nii.gz", "--seed", 1)
    drawn, same, other = (nib.load(tmp_path / f"{name}.nii.gz") for name in ("one", "same", "other"))
    np.testing.assert_array_equal(drawn.affine, affine)
    change = drawn.get_fdata() - head
    np.testing.assert_array_equal(drawn.get_fdata(), same.get_fdata())
    assert (other.get_fdata() != drawn.get_fdata()).any()
    # Nothing gets darker, most stays as it is, and nothing is brighter than the brightest structure.
    assert change.min() > -1e-3
    assert (change < 1).mean() > 0.9
    assert drawn.get_fdata().max() < 1.95 * 100 + 10
    # Superior sagittal sinus, both transverse sinuses, the pituitary gland, a plexus.
    for place in ((0, -5, 78), (40, -79, -24), (-40, -79, -24), (0, 2, -31), (25, -42, 10)):
        assert change[voxel(affine, *place)] > 15, place
    # White matter beside the ventricles, and the air in front.
    for place in ((30, -10, 30), (-30, 20, 20), (0, 85, -60)):
        assert abs(change[voxel(affine, *place)]) < 1, place


def test_contrast_is_drawn_into_volumes_alone(tmp_path, monkeypatch):
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4, 2), np.float32), np.eye(4)), tmp_path / "series.nii.gz")
    with pytest.raises(SystemExit):
        run("simulated_contrast.py", monkeypatch, tmp_path / "series.nii.gz", tmp_path / "made.nii.gz")
    assert not (tmp_path / "made.nii.gz").exists()


def test_phantoms_without_a_tumour_can_be_trained_with(tmp_path, monkeypatch):
    run("phantom_negatives.py", monkeypatch, tmp_path / "made", "--slices", 6)
    listed = json.loads((tmp_path / "made" / "datalist.json").read_text())
    assert listed["synthetic"] is True
    assert [entry["tumour"] for entry in listed["training"]] == [False] * 6
    assert len({entry["patient"] for entry in listed["training"]}) == 2
    images = [nib.load(tmp_path / "made" / entry["image"]).get_fdata().squeeze() for entry in listed["training"]]
    assert {image.shape for image in images} == {(256, 256)}
    # Neighbours of one head are alike, and not the same; another head is another one.
    alike = [np.corrcoef(images[0].ravel(), image.ravel())[0, 1] for image in images[1:]]
    assert 0.9 < alike[0] < 1
    assert alike[-1] < alike[0]


def test_lines_of_the_page(lines, tmp_path, monkeypatch, capfd):
    cut, reader, contrast, phantoms, again, training = lines
    assert again == cut
    checkout = copied_checkout(tmp_path)
    for name in ("raw", "mean_reg2mean", "ch2"):
        write_heads(checkout / "made" / name)
        (checkout / f"{name}.nii.gz").symlink_to(checkout / "made" / name / "healthy.nii.gz")
    documented.run(contrast, checkout, monkeypatch)
    documented.run(f"{phantoms} --slices 4", checkout, monkeypatch)
    documented.run(cut, checkout, monkeypatch)
    for folder, patients in (("PHANTOMS", {"phantom0000"}), ("HEADS", {"raw", "mean_reg2mean", "ch2_contrast"})):
        listed = json.loads((checkout / folder / "datalist.json").read_text())["training"]
        assert {entry["patient"] for entry in listed} == patients
    for line, bundle in ((reader, "cls_student"), (training, "seg_student")):
        documented.run(f"{line} show=1", checkout, monkeypatch)
        shown = capfd.readouterr().out
        assert "--negatives_dir HEADS" in shown
        assert f"bundles/{bundle}/configs/train.json" in shown


def test_drawn_volumes_have_their_tumour_in_the_middle(monkeypatch):
    monkeypatch.syspath_prepend(EXPERIMENTS)
    program = runpy.run_path(str(EXPERIMENTS / "phantom_volumes.py"))
    image, mask = program["volume"](3, seed=1)
    assert image.shape == mask.shape == (256, 256, 12)
    assert mask.any((0, 1)).tolist() == [False] * 4 + [True] * 4 + [False] * 4
    # The same head all along: neighbours are alike, those of another head less.
    alike = [np.corrcoef(image[..., n].ravel(), image[..., n + 1].ravel())[0, 1] for n in range(11)]
    other = np.corrcoef(image[..., 0].ravel(), program["volume"](6, seed=1)[0][..., 0].ravel())[0, 1]
    assert min(alike) > 0.8
    assert other < min(alike)


def test_line_of_drawn_volumes(lines, tmp_path, monkeypatch, capsys):
    (line,) = lines
    checkout = copied_checkout(tmp_path)
    point = {"score": "max", "threshold": 1.0, "specificity": 0.9, "sensitivity": 0.8, "measured_on": "discs"}
    untrained("seg_student", checkout / "bundles" / "seg_student" / "models", operating_point=point)
    documented.run(f"{line} --volumes 1", checkout, monkeypatch)
    without, with_rule = [each for each in capsys.readouterr().out.splitlines() if " the rule: marks on " in each]
    assert "of the 4 slices with a tumour" in without
    assert "of the 8 without; 0 of 1 volumes look unlike" in without
    # No score reaches 1.
    assert "marks on 0 of the 4 slices with a tumour, and on 0 of the 8 without" in with_rule
