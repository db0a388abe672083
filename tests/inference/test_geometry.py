"""Masks lie where the tumour is, as other readers see them."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import BasicUNet
from nibabel.affines import apply_affine, voxel_sizes
from PIL import Image
from slices import Brightness, dice, grey, pattern, write_dicom, write_mat

from data_prep.convert import convert

FIGSHARE = Path(__file__).resolve().parents[3] / "shared" / "figshare"
LPS = np.diag([-0.49, -0.49, 6.0, 1.0])
OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.2, -0.1, 0.15) @ np.diag([-0.7, -0.8, 4.0]), [40.0, 50.0, -20.0]
)
# Second axis to the left, first to the feet: a coronal slice lying on its side.
LYING = np.array([[0, -0.9, 0, 5], [0, 0, 3.0, 6], [-0.8, 0, 0, 7], [0, 0, 0, 1]])


def mask_of(path: Path) -> np.ndarray:
    image = nib.load(path)
    assert image.get_data_dtype() == np.uint8
    return np.asanyarray(image.dataobj)


# shape of the array in the file, affine, suffix
NIFTI = {
    "slice": ((64, 64, 1), LPS, ".nii.gz"),
    "slice, not packed": ((64, 64, 1), LPS, ".nii"),
    "two axes": ((64, 64), LPS, ".nii.gz"),
    "two axes, RAS": ((64, 64), np.eye(4), ".nii"),
    "volume": ((64, 64, 3), LPS, ".nii.gz"),
    "volume, RAS": ((64, 64, 3), np.diag([1, 1, 3.0, 1]), ".nii.gz"),
    "volume, oblique": ((64, 64, 3), OBLIQUE, ".nii.gz"),
    "one sagittal slice": ((1, 64, 64), np.diag([6, -0.49, -0.49, 1]), ".nii.gz"),
    "one coronal slice": ((64, 1, 64), np.diag([-0.49, 6, -0.49, 1]), ".nii"),
    "volume, lying": ((64, 64, 3), LYING, ".nii.gz"),
}


@pytest.mark.parametrize(("shape", "affine", "suffix"), NIFTI.values(), ids=NIFTI)
def test_nifti(tmp_path, segment, shape, affine, suffix):
    single = shape.count(1) == 1 or len(shape) == 2
    truth = pattern().T.reshape(shape) if single else pattern().T[..., None] & np.ones(shape, dtype=bool)
    if not single:
        truth[..., 2] = np.roll(truth[..., 2], -7, axis=0)
    source = tmp_path / f"scan{suffix}"
    image = nib.Nifti1Image(grey(truth), affine)
    # nibabel leaves 1 for an axis that the array does not have; scanners' converters write the spacing.
    image.header["pixdim"][1:4] = voxel_sizes(affine)
    nib.save(image, source)
    row = segment(source)[source.name]
    written = nib.load(tmp_path / "out" / row["mask"])
    assert row["mask"] == f"scan_mask{suffix}"
    assert written.shape == shape
    np.testing.assert_array_equal(written.affine, nib.load(source).affine)
    np.testing.assert_array_equal(mask_of(tmp_path / "out" / row["mask"]), truth)
    assert int(row["slices"]) == (1 if single else 3)
    # All of them, as readers other than nibabel take the spacing of a slice with two axes from here.
    np.testing.assert_allclose(written.header["pixdim"][1:4], voxel_sizes(affine), rtol=1e-6)


def test_orientation_codes_are_kept_and_nothing_else_of_the_header(tmp_path, segment):
    image = nib.Nifti1Image(grey(pattern().T[..., None]), None)
    image.set_qform(OBLIQUE, code=2)
    image.set_sform(LPS, code=0)
    image.header["descrip"] = b"DOE^JANE"
    image.header.set_slope_inter(2.0, -7.0)
    nib.save(image, tmp_path / "scan.nii")
    segment(tmp_path / "scan.nii")
    header = nib.load(tmp_path / "out" / "scan_mask.nii").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (2, 0)
    np.testing.assert_array_equal(header.get_qform(), nib.load(tmp_path / "scan.nii").header.get_qform())
    assert b"DOE" not in (tmp_path / "out" / "scan_mask.nii").read_bytes()


def test_equal_masks_give_equal_bytes(tmp_path, segment, monkeypatch):
    for name in ("a.nii.gz", "b.mat"):
        path = tmp_path / name
        if name == "b.mat":
            write_mat(path, grey(pattern()))
        else:
            nib.save(nib.Nifti1Image(grey(pattern().T[..., None]), LPS), path)
        contents = []
        for now in (1e9, 1.1e9):
            monkeypatch.setattr("time.time", lambda now=now: now)
            row = segment(path)[name]
            contents.append((tmp_path / "out" / row["mask"]).read_bytes())
        monkeypatch.undo()
        assert contents[0] == contents[1]


def test_the_mask_of_a_file_in_microns(tmp_path, segment):
    image = nib.Nifti1Image(grey(pattern().T[..., None]), np.diag([-490.0, -490, 6000, 1]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii.gz")
    row = segment(tmp_path / "a.nii.gz")["a.nii.gz"]
    assert float(row["area_mm2"]) == pytest.approx(pattern().sum() * 0.49**2, abs=0.01)
    mask = nib.load(tmp_path / "out" / row["mask"])
    np.testing.assert_array_equal(mask.affine, image.affine)
    assert mask.header.get_xyzt_units()[0] == "micron"


def test_the_network_sees_slices_upright(tmp_path, segment, monkeypatch):
    seen = []
    forward = Brightness.forward
    monkeypatch.setattr(Brightness, "forward", lambda self, x: seen.append(x[0, 0] > 0) or forward(self, x))
    upright = pattern()
    for name, array, affine in (
        ("lps", upright.T, LPS),
        ("ras", upright.T[::-1, ::-1], np.eye(4)),
        ("lying", upright, LYING),
    ):
        nib.save(nib.Nifti1Image(grey(array[..., None]), affine), tmp_path / f"{name}.nii.gz")
        segment(tmp_path / f"{name}.nii.gz")
    for image in seen:
        np.testing.assert_array_equal(image.numpy(), upright.T)
    seen.clear()
    segment(tmp_path / "ras.nii.gz", upright=False)
    np.testing.assert_array_equal(seen[0].numpy(), upright.T[::-1, ::-1])


def _eight_bit(mask: np.ndarray) -> np.ndarray:
    return np.where(mask, 220, 30).astype(np.uint8)


PICTURES = {
    "grey.png": lambda mask: Image.fromarray(_eight_bit(mask)),
    "sixteen.png": lambda mask: Image.fromarray(np.where(mask, 40000, 39990).astype(np.uint16)),
    "colour.png": lambda mask: Image.fromarray(np.dstack([_eight_bit(mask)] * 3)),
    "alpha.PNG": lambda mask: Image.fromarray(np.dstack([*[_eight_bit(mask)] * 3, np.full(mask.shape, 9, np.uint8)])),
    "greyalpha.png": lambda mask: Image.fromarray(np.dstack([_eight_bit(mask), np.full(mask.shape, 9, np.uint8)])),
    "palette.png": lambda mask: Image.fromarray(_eight_bit(mask)).convert("P"),
    "bits.png": lambda mask: Image.fromarray(mask),
    "grey.jpg": lambda mask: Image.fromarray(_eight_bit(mask)),
    "colour.jpeg": lambda mask: Image.fromarray(np.dstack([_eight_bit(mask)] * 3)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(tmp_path, segment, name):
    PICTURES[name](pattern()).save(tmp_path / name)
    row = segment(tmp_path / name)[name]
    mask = Image.open(tmp_path / "out" / row["mask"])
    assert row["mask"] == f"{name.split('.')[0]}_mask.png"
    assert (mask.mode, mask.size) == ("L", (64, 64))
    np.testing.assert_array_equal(np.asarray(mask), pattern() * 255)


@pytest.mark.parametrize("columns", [48, 64, 200])
def test_picture_of_another_size(tmp_path, segment, columns):
    # width and height differ from each other and from the network's input
    truth = pattern(columns, 120)
    Image.fromarray(_eight_bit(truth)).save(tmp_path / "slice.png")
    segment(tmp_path / "slice.png")
    mask = Image.open(tmp_path / "out" / "slice_mask.png")
    assert mask.size == (columns, 120)
    assert dice(np.asarray(mask), truth) > 0.96


def test_a_picture_that_viewers_turn_is_turned(tmp_path, segment):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it a quarter clockwise
    Image.fromarray(_eight_bit(np.rot90(pattern()))).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    segment(tmp_path / "turned.jpg")
    assert dice(np.asarray(Image.open(tmp_path / "out" / "turned_mask.png")), pattern()) == 1


def test_dicom_slice(tmp_path, segment):
    # Sagittal: rows run to the back, columns to the feet.
    truth = pattern()
    source = write_dicom(
        tmp_path / "1.2.840.113.5",
        grey(truth),
        orientation=(0, 1, 0, 0, 0, -1),
        RescaleSlope=2.5,
        RescaleIntercept=-300,
    )
    row = segment(source)[source.name]
    assert row["mask"] == "1.2.840.113.5_mask.nii.gz"
    image = nib.load(tmp_path / "out" / row["mask"])
    np.testing.assert_array_equal(mask_of(tmp_path / "out" / row["mask"]), truth.T[..., None])
    # Column 3, row 7 lies 3 · 0.75 mm to the back and 7 · 0.5 mm to the feet of (10, -20, 30) in LPS.
    np.testing.assert_allclose(apply_affine(image.affine, [3, 7, 0]), [-10, 20 - 2.25, 30 - 3.5], atol=1e-5)
    np.testing.assert_allclose(image.header.get_zooms(), [0.75, 0.5, 5.0])
    # Viewers look at either form, and each says the same.
    for form in (image.get_qform(coded=True), image.get_sform(coded=True)):
        np.testing.assert_allclose(form[0], image.affine, atol=1e-5)
        assert form[1] == 1
    assert image.header.get_xyzt_units()[0] == "mm"
    assert abs(np.linalg.det(image.affine)) > 1


def test_dicom_series_by_position(tmp_path, segment):
    truth = np.stack([np.roll(pattern(), -shift, axis=1) for shift in (0, 3, 6, 9)])
    for number, place in enumerate([2, 0, 3, 1]):  # names and instance numbers are no order
        write_dicom(
            tmp_path / "study" / f"IM{number}",
            grey(truth[place]),
            position=(-8, -9, 10 + 4.0 * place),
            InstanceNumber=number,
        )
    (row,) = segment(tmp_path / "study").values()
    assert (row["file"], row["mask"], row["slices"]) == ("study", "study_mask.nii.gz", "4")
    np.testing.assert_array_equal(mask_of(tmp_path / "out" / row["mask"]), truth.transpose(2, 1, 0))
    affine = nib.load(tmp_path / "out" / row["mask"]).affine
    np.testing.assert_allclose(apply_affine(affine, [[0, 0, 0], [0, 0, 3]]), [[8, 9, 10], [8, 9, 22]], atol=1e-5)
    volume = truth.sum() * 0.5 * 0.75 * 4
    assert float(row["volume_mm3"]) == pytest.approx(volume, abs=0.1)


@pytest.mark.parametrize("tilt", [0, 15])
def test_both_forms_of_a_mask_are_where_the_slices_are(tilt, tmp_path, segment):
    """A qform can't say that slices are tilted against their stack, and viewers that have one look at nothing else."""
    across = np.tan(np.deg2rad(tilt))
    for number in range(4):
        write_dicom(
            tmp_path / "study" / f"{number}", grey(pattern()), position=(0, 4.0 * number * across, 4.0 * number)
        )
    (row,) = segment(tmp_path / "study").values()
    image = nib.load(tmp_path / "out" / row["mask"])
    corner = [0, 0, 3]
    np.testing.assert_allclose(apply_affine(image.affine, corner), [0, -12 * across, 12], atol=1e-3)
    assert int(image.header["sform_code"]) == 1
    assert int(image.header["qform_code"]) == (0 if tilt else 1)
    if not tilt:
        np.testing.assert_allclose(image.get_qform(), image.affine, atol=1e-5)


def test_dicom_where_bright_means_low(tmp_path, segment):
    write_dicom(tmp_path / "a.dcm", grey(~pattern()), PhotometricInterpretation="MONOCHROME1")
    segment(tmp_path / "a.dcm")
    np.testing.assert_array_equal(mask_of(tmp_path / "out" / "a_mask.nii.gz")[..., 0], pattern().T)


def test_mat_has_the_geometry_of_the_converted_slice(tmp_path, segment):
    row = segment(write_mat(tmp_path / "7.mat", grey(pattern())))["7.mat"]
    image = nib.load(tmp_path / "out" / "7_mask.nii.gz")
    np.testing.assert_allclose(image.affine, LPS, atol=1e-6)
    np.testing.assert_array_equal(mask_of(tmp_path / "out" / "7_mask.nii.gz"), pattern().T[..., None])
    assert float(row["area_mm2"]) == pytest.approx(pattern().sum() * 0.49**2, abs=0.01)


def test_volume_is_its_slices(tmp_path, segment):
    random = np.random.default_rng(1)
    volume = random.integers(0, 500, (48, 40, 5)).astype(np.int16)
    nib.save(nib.Nifti1Image(volume, LPS), tmp_path / "volume.nii.gz")
    for index in range(5):
        nib.save(nib.Nifti1Image(volume[..., index : index + 1], LPS), tmp_path / f"slice{index}.nii.gz")
    torch.manual_seed(0)
    features = [4, 4, 8, 8, 8, 4]
    network = {"_target_": "BasicUNet", "spatial_dims": 2, "in_channels": 3, "out_channels": 1, "features": features}
    torch.save(BasicUNet(2, 3, 1, features).state_dict(), tmp_path / "model.pt")
    values = {"network_def": network, "checkpoint": str(tmp_path / "model.pt"), "batch_size": 2}
    # The untrained network says about one half everywhere: take its own middle as the threshold.
    rows = segment(tmp_path, **values, threshold=0.01)
    middle = float(rows["volume.nii.gz"]["mean_probability"])
    segment(tmp_path, **values, threshold=middle)
    whole = mask_of(tmp_path / "out" / "volume_mask.nii.gz")
    assert 0.02 < whole.mean() < 0.98
    for index in range(5):
        single = mask_of(tmp_path / "out" / f"slice{index}_mask.nii.gz")
        assert dice(single[..., 0], whole[..., index]) > 0.999


@pytest.mark.skipif(not (FIGSHARE / "build_mat.py").exists(), reason="real slices are not at hand")
def test_a_real_slice_is_the_same_in_every_format(tmp_path, segment):
    ids = (1, 60, 950)
    script = [sys.executable, str(FIGSHARE / "build_mat.py"), str(tmp_path / "mat"), "--jobs", "1", "--ids"]
    subprocess.run(script + [str(number) for number in ids], check=True, capture_output=True)
    (tmp_path / "mat" / "cvind.mat").unlink()
    convert(tmp_path / "mat", tmp_path / "set", "both", workers=1)
    entries = json.loads((tmp_path / "set" / "datalist.json").read_text())["training"]
    (tmp_path / "mat").rename(tmp_path / "set" / "images" / "mat")
    rows = segment(tmp_path / "set" / "images", image_size=256)
    assert len(rows) == 3 * len(ids)
    for entry in entries:
        stem = Path(entry["image"]).name.split(".")[0]
        raw = mask_of(tmp_path / "out" / rows[f"mat/{entry['source']}"]["mask"])[..., 0]
        converted = mask_of(tmp_path / "out" / rows[f"{stem}.nii.gz"]["mask"])[..., 0]
        picture = np.asarray(Image.open(tmp_path / "out" / rows[f"{stem}.png"]["mask"])).T
        assert raw.any()
        np.testing.assert_array_equal(raw, converted)
        assert dice(raw, picture) > 0.99
