"""Masks of several classes as files, numbers, DICOM segmentations and pictures, without a network."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from monai.data import MetaTensor
from PIL import Image
from slices import grey, pattern, write_dicom

from monai_kd.inference import DropSmallAreasd, Findings, InputFiles, measure, read_source
from monai_kd.inference.dicom_seg import write_dicom_seg
from monai_kd.inference.masks import MaskWriter, write_mask
from monai_kd.inference.measures import COLUMNS, finding_columns, measure_classes
from monai_kd.plots import class_colours

NAMES = ["meningioma", "glioma", "pituitary"]
RANDOM = np.random.default_rng(0)
INDICES = RANDOM.integers(0, 4, (12, 9)).astype(np.uint8)
EACH = (RANDOM.random((3, 12, 9)) > 0.5).astype(np.uint8)


def written(mask: np.ndarray, path: Path, names: list[str], source: str = "a.png") -> Path:
    meta = {"filename_or_obj": source, "original_affine": np.diag([-0.5, -0.5, 6, 1])}
    write_mask(MetaTensor(torch.as_tensor(mask), meta=meta), path, names)
    return path


# Pictures ------------------------------------------------------------------------------------------------------------


def test_one_class_is_grey_and_0_or_255(tmp_path):
    picture = Image.open(written(INDICES[None] > 0, tmp_path / "m.png", ["tumour"]))
    assert picture.mode == "L"
    np.testing.assert_array_equal(np.asarray(picture), 255 * (INDICES.T > 0))


@pytest.mark.parametrize("shown", [[1], [3], [1, 2, 3]])
def test_indices_do_not_depend_on_which_classes_are_there(shown, tmp_path):
    mask = np.where(np.isin(INDICES, shown), INDICES, 0)
    picture = Image.open(written(mask[None], tmp_path / "m.png", NAMES))
    np.testing.assert_array_equal(np.asarray(picture), mask.T)
    colours = np.array([[0, 0, 0], *(np.round(255 * np.array(to_rgb(each))) for each in class_colours(3))])
    np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), colours[mask.T])


def test_overlapping_masks_are_bits(tmp_path):
    picture = Image.open(written(EACH, tmp_path / "m.png", NAMES))
    for number in range(3):
        np.testing.assert_array_equal(np.asarray(picture) >> number & 1, EACH[number].T)
    colours = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(colours, axis=0)) == len(np.unique(np.asarray(picture)))


def test_more_overlapping_classes_than_bits(tmp_path):
    with pytest.raises(ValueError, match="overlapping masks of 8 classes at most, and there are 9"):
        written(np.ones((9, 4, 4)), tmp_path / "m.png", list("abcdefghi"))
    assert not list(tmp_path.iterdir())


# NIfTI ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1), (6, 5, 4), (1, 6, 5), (6, 1, 5)])
@pytest.mark.parametrize("overlapping", [False, True])
def test_the_axes_of_the_file_come_back(shape, overlapping, tmp_path):
    affine = np.array([[0, 0, 6.0, 1], [-0.8, 0, 0, 2], [0, -0.5, 0, 3], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), affine), tmp_path / "source.nii")
    masks = RANDOM.integers(0, 2 if overlapping else 4, (3 if overlapping else 1, *shape)).astype(np.uint8)
    # As the reader gives a slice: its axis of length 1 last.
    cut = shape.index(1) if len(shape) == 3 and 1 in shape else len(shape) - 1
    read = np.moveaxis(masks, cut + 1, -1)
    found = nib.load(written(read, tmp_path / "m.nii.gz", NAMES, str(tmp_path / "source.nii")))
    expected = masks[0]
    if overlapping:
        expected = np.stack([each.reshape(shape if len(shape) == 3 else (*shape, 1)) for each in masks], axis=-1)
    np.testing.assert_array_equal(np.asarray(found.dataobj), expected)
    np.testing.assert_allclose(found.affine, affine)
    assert found.get_data_dtype() == np.uint8


def test_writer_of_saveimage_takes_the_names(tmp_path):
    writer = MaskWriter(mask_names=NAMES)
    writer.set_data_array(torch.as_tensor(INDICES[None]))
    writer.set_metadata({"filename_or_obj": "a.png"})
    writer.write(tmp_path / "m.png")
    assert np.asarray(Image.open(tmp_path / "m.png")).max() == 3


# Numbers -------------------------------------------------------------------------------------------------------------


def test_measures_of_each_class_are_those_of_its_mask():
    masks, probabilities = RANDOM.random((3, 12, 9, 4)) > 0.7, RANDOM.random((3, 12, 9, 4))
    masks[2] = False
    spacing = np.array([0.5, 0.75, 6.0])
    found = measure_classes(masks, probabilities, spacing, NAMES)
    assert found.keys() <= set(finding_columns(NAMES))
    for name, mask, probability in zip(NAMES, masks, probabilities, strict=True):
        own = measure(mask, probability, spacing)
        assert own.pop("slices") == 4
        assert {key.removesuffix(f"_{name}"): value for key, value in found.items() if key.endswith(f"_{name}")} == own
    assert found["tumour_pituitary"] == "no"
    assert found["area_px"] == masks.any(axis=0).sum(axis=(0, 1)).max()
    assert found["mean_probability"] == round(float(probabilities.max(axis=0)[masks.any(axis=0)].mean()), 4)
    assert found["class"] == NAMES[int(masks.sum(axis=(1, 2, 3)).argmax())]


def test_nothing_found_is_of_no_class():
    found = measure_classes(np.zeros((3, 4, 4)), np.full((3, 4, 4), 0.25), np.full(3, np.nan), NAMES)
    assert found["tumour"] == "no"
    assert "class" not in found


def test_one_class_has_the_columns_of_one():
    assert finding_columns(["tumour"]) == list(COLUMNS)
    masks, spacing = EACH[:1], np.ones(3)
    assert measure_classes(masks, masks * 0.75, spacing, ["x"]) == measure(masks[0], masks[0] * 0.75, spacing)


@pytest.mark.parametrize("overlapping", [False, True])
def test_small_areas_are_those_of_one_class(overlapping):
    """Two classes that touch: together they are large enough, one of them alone is not."""
    large, small = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    large[1:4, 1:4], small[4, 1:3] = 1, 1
    pred = np.stack([large, small]) if overlapping else (large + 2 * small)[None]
    mask = MetaTensor(torch.as_tensor(pred), meta={"spacing": np.array([1.0, 1.0, 1.0])})
    found = DropSmallAreasd("pred", smallest_area_mm2=3)({"pred": mask})["pred"]
    np.testing.assert_array_equal(np.asarray(found), np.stack([large, small * 0]) if overlapping else large[None])


# DICOM and pictures --------------------------------------------------------------------------------------------------


def test_dicom_has_a_segment_for_each_class(tmp_path):
    hd = pytest.importorskip("highdicom", reason="needs monai_kd[dicom]")
    path = write_dicom(tmp_path / "a.dcm", grey(pattern()), FrameOfReferenceUID="1.2.3.4")
    masks = np.stack([pattern().T, np.zeros((64, 64), bool), pattern().T[::-1] | pattern().T])
    names = ["meningioma", "Gliom ä\\" + "x" * 80, "pituitary"]
    write_dicom_seg(masks, read_source(path).datasets, tmp_path / "seg.dcm", "a network", names)
    found = hd.seg.segread(tmp_path / "seg.dcm")
    assert list(found.segment_numbers) == [1, 2, 3]
    labels = [found.get_segment_description(number).segment_label for number in (1, 2, 3)]
    assert labels == ["meningioma", ("Gliom ?/" + "x" * 80)[:64], "pituitary"]
    instance = found.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
    for number in (1, 3):
        frames = found.get_pixels_by_source_instance(
            [instance], segment_numbers=[number], assert_missing_frames_are_empty=True
        )
        np.testing.assert_array_equal(frames[0, ..., 0], masks[number - 1].T)


def test_findings_say_the_size_of_each_class(tmp_path):
    Image.fromarray((pattern() * 200).astype(np.uint8)).save(tmp_path / "a.png")
    report = Findings(InputFiles(tmp_path / "a.png", tmp_path / "out"), overlays=False, mask_names=NAMES)
    pred = np.where(pattern().T, 3, 0).astype(np.uint8)[None]
    meta = {"spacing": np.full(3, np.nan)}
    channels = torch.as_tensor(np.eye(4)[pred[0]].transpose(2, 0, 1))
    output = {"pred": MetaTensor(torch.as_tensor(pred), meta=meta), "probability": channels}
    (row,) = report.rows_of({"file": "a.png", "source": read_source(tmp_path / "a.png")}, output)
    count = int(pattern().sum())
    assert (row["class"], row["area_px_pituitary"], row["mean_probability_pituitary"]) == ("pituitary", count, 1.0)
    assert report.summary_line([row]) == f"tumour, {count} pixels (pituitary {count} pixels), mean probability 1.00"
    json.dumps(row)
