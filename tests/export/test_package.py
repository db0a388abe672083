"""The exported folder gives what the bundle gives, with numpy and onnxruntime alone."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.networks.nets import BasicUNet
from package_alone import alone, lines_and_imports
from PIL import Image

from monai_kd.__main__ import main
from monai_kd.export import export_package, network_file, predict, slice_files
from monai_kd.export import package as package_of
from monai_kd.export.package import KNOWN_SCORES
from monai_kd.inference import BundlePredictor, read_image
from monai_kd.io.checkpoints import save_checkpoint
from monai_kd.metrics import PRESENCE_SCORES, label_lesions
from monai_kd.networks import create_backbone

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
FEATURES = [4, 4, 8, 8, 8, 4]
CLASSES = ["oval", "round", "square"]


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("segmenter")
    torch.manual_seed(0)
    network = BasicUNet(2, 3, 1, FEATURES, act=("relu", {"inplace": True}), norm="batch").train()
    with torch.no_grad():
        for _ in range(5):  # statistics that are not those of a new network
            network(torch.rand(4, 3, 48, 48) * 3)
        network.final_conv.weight.mul_(20)
        image = torch.as_tensor(blobs(48, 48) / np.ptp(blobs(48, 48)), dtype=torch.float32)
        network.final_conv.bias -= network.eval()((image - image.min() - 0.45).expand(1, 3, 48, 48) / 0.225).median()
    save_checkpoint(network.state_dict(), folder / "model.pt")
    (folder / "settings.json").write_text(json.dumps({"features": FEATURES, "norm": "batch", "image_size": 48}))
    return folder / "model.pt"


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    network = create_backbone("test_efficientnet", num_classes=3)
    with torch.no_grad():
        network.classifier.weight.mul_(100)
    save_checkpoint(network.state_dict(), folder / "model.pt")
    settings = {"network_name": "test_efficientnet", "image_size": 32, "class_names": CLASSES}
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder / "model.pt"


@pytest.fixture(scope="module")
def package(segmenter, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "package"
    assert export_package(BUNDLES / "seg_student", segmenter, folder) < 1e-3
    return folder


def blobs(*shape: int) -> np.ndarray:
    """Smooth noise, so that masks have large parts."""
    image = np.random.default_rng(1).normal(size=shape)
    for axis in range(2):
        image = sum(np.roll(image, shift, axis) for shift in range(9))
    return image


SAGITTAL = np.array([[0, 0, 6, 0], [-0.5, 0, 0, 0], [0, -0.5, 0, 0], [0, 0, 0, 1.0]])
OBLIQUE = np.array([[0.1, 0.49, 0, 3], [-0.48, 0.1, 0.3, 4], [0.05, 0, 6, 5], [0, 0, 0, 1.0]])


def nifti(path: Path, shape: tuple[int, ...], affine, dtype="<i2", form="s", scale=None) -> Path:
    kind = np.dtype(dtype)
    image = blobs(*shape)
    image = (1000 * (image - image.min()) / np.ptp(image)).astype(kind)
    header = nib.Nifti1Header(endianness=kind.byteorder if kind.byteorder in "<>" else "<")
    header.set_data_dtype(kind)
    file = nib.Nifti1Image(image, affine, header)
    file.set_sform(affine if form == "s" else None, code=1 if form == "s" else 0)
    file.set_qform(affine if form == "q" else None, code=1 if form == "q" else 0)
    if scale is not None:
        file.header.set_slope_inter(*scale)
    nib.save(file, path)
    return path


@pytest.mark.parametrize(
    "described",
    [
        pytest.param({"shape": (70, 60, 1), "affine": np.diag([-0.5, -0.5, 6, 1])}, id="as-data-prep-writes"),
        pytest.param({"shape": (70, 60), "affine": np.eye(4)}, id="two-axes-upside-down"),
        pytest.param({"shape": (64, 80, 3), "affine": SAGITTAL}, id="sagittal-volume"),
        pytest.param({"shape": (64, 80, 2), "affine": OBLIQUE}, id="oblique-axes-swapped"),
        pytest.param({"shape": (64, 50, 2), "affine": SAGITTAL, "form": "q"}, id="qform-left-handed"),
        pytest.param({"shape": (64, 50, 2), "affine": np.diag([2, -3, 4, 1.0]), "form": "q"}, id="qform-turned"),
        pytest.param({"shape": (64, 50, 1), "affine": np.eye(4), "form": "neither"}, id="no-form"),
        pytest.param({"shape": (64, 50, 1), "affine": np.eye(4), "dtype": ">i2"}, id="big-endian"),
        pytest.param({"shape": (64, 50, 1), "affine": np.eye(4), "dtype": "<f4"}, id="float"),
        pytest.param({"shape": (40, 40, 1), "affine": np.eye(4), "scale": (-2.0, 7.0)}, id="scaled"),
    ],
)
def test_masks_are_those_of_the_bundle(package, segmenter, tmp_path, described):
    path = nifti(tmp_path / "slice.nii.gz", **described)
    done = alone(package, path, "--output_dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    written = nib.load(tmp_path / "out" / "slice_mask.nii.gz")
    image, meta = read_image(path)
    expected = BundlePredictor(BUNDLES / "seg_student", segmenter, device="cpu")(image, meta)["pred"][0]
    expected, mask = np.asarray(expected, dtype=bool), np.asarray(written.dataobj).astype(bool)
    assert mask.shape == nib.load(path).shape
    assert 0.02 < mask.mean() < 0.98
    assert 2 * (mask & expected).sum() / (mask.sum() + expected.sum()) >= 0.999
    np.testing.assert_array_equal(written.affine, nib.load(path).affine)
    assert written.get_data_dtype() == np.uint8
    row = json.loads(done.stdout)
    assert {name: row[name] for name in ("file", "tumour", "pixels")} == {
        **{"file": "slice.nii.gz", "tumour": True, "pixels": int(mask.sum())}
    }


@pytest.mark.parametrize("density", [0.02, 0.05, 0.1, 0.15, 0.3, 0.0])
def test_thin_marks_are_those_of_the_bundle(density):
    """With numpy alone; the bundle numbers them with scikit-image."""
    mask = np.random.default_rng(0).random((30, 25, 9)) < density
    lesions = label_lesions(mask, np.full(8, True))
    few = np.array([0, *(len(np.unique(np.nonzero(lesions == n)[2])) < 3 for n in range(1, lesions.max() + 1))], bool)
    thin = network_file.thin_marks(mask, 3)
    np.testing.assert_array_equal(thin > 0, few[lesions])
    assert len(np.unique(thin[thin > 0])) == few.sum()


def test_winding_marks_take_no_time():
    """As a snake, whose ends are far apart, one area is still numbered within seconds."""
    mask = np.zeros((160, 160, 8), bool)
    mask[::4] = True
    for row in range(0, 156, 8):
        mask[row : row + 5, -1] = mask[row + 4 : row + 9, 0] = True
    began = time.monotonic()
    assert not network_file.thin_marks(mask, 3).any()
    assert time.monotonic() - began < 10


def test_presence_scores_are_those_of_the_package():
    """A new kind needs a line in predict.py."""
    assert set(KNOWN_SCORES) == set(PRESENCE_SCORES)


def test_array_is_the_picture(package, segmenter, tmp_path):
    rows = blobs(60, 72)
    rows = (255 * (rows - rows.min()) / np.ptp(rows)).astype(np.uint8)
    Image.fromarray(rows).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", rows)
    assert alone(package, tmp_path / "a.npy", "--output_dir", tmp_path).returncode == 0
    image, meta = read_image(tmp_path / "a.png")
    expected = BundlePredictor(BUNDLES / "seg_student", segmenter, device="cpu")(image, meta)["pred"][0]
    np.testing.assert_array_equal(np.load(tmp_path / "a_mask.npy").T, np.asarray(expected))
    # With Pillow, the picture itself.
    command = [sys.executable, package / "predict.py", tmp_path / "a.png", "--output_dir", tmp_path / "png"]
    assert subprocess.run([str(each) for each in command]).returncode == 0
    np.testing.assert_array_equal(np.load(tmp_path / "png" / "a_mask.npy").T, np.asarray(expected))


def test_classes_are_those_of_the_bundle(classifier, tmp_path):
    folder = tmp_path / "package"
    export_package(BUNDLES / "cls_student", classifier, folder)
    path = nifti(tmp_path / "volume.nii.gz", (50, 40, 3), np.eye(4))
    done = alone(folder, path)
    assert done.returncode == 0, done.stderr
    expected = np.asarray(BundlePredictor(BUNDLES / "cls_student", classifier, device="cpu")(*read_image(path))["pred"])
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["slice"] for each in found] == [0, 1, 2]
    for number, each in enumerate(found):
        np.testing.assert_allclose([each[name] for name in CLASSES], expected[:, number], atol=1e-3)
        assert each["class"] == CLASSES[expected[:, number].argmax()]


def test_threshold_is_on_the_probability(package, tmp_path):
    path = nifti(tmp_path / "slice.nii.gz", (50, 40, 1), np.eye(4))
    counts = []
    for threshold in (0.49, 0.51, 1):
        done = alone(package, path, "--output_dir", tmp_path / str(threshold), "--threshold", threshold)
        counts.append(json.loads(done.stdout)["pixels"])
    assert counts[0] > counts[1] > counts[2] == 0


def test_bad_files_are_named_and_the_rest_done(package, tmp_path):
    good = nifti(tmp_path / "good.nii.gz", (50, 40, 1), np.eye(4))
    cut = tmp_path / "cut.nii.gz"
    cut.write_bytes(good.read_bytes()[:200])
    constant = tmp_path / "constant.npy"
    np.save(constant, np.ones((8, 8)))
    picture = tmp_path / "picture.png"
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(picture)
    noise = np.random.default_rng(0).normal(size=(8, 8))
    arrays = {
        "huge": 1e300 * noise,
        "wide": np.float32(3e38) * np.sign(noise).astype(np.float32),
        "complex": noise * 1j,
        "volume": noise.reshape(2, 4, 8),
    }
    arrays |= {"nan": np.where(noise > 0, np.nan, noise), "text": np.array(["a", "b"])}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    plain = gzip.decompress(good.read_bytes())
    nowhere, offset = tmp_path / "affine.nii", tmp_path / "offset.nii"
    nowhere.write_bytes(plain[:280] + np.full(12, np.nan, "<f4").tobytes() + plain[328:])
    offset.write_bytes(plain[:108] + np.array(np.inf, "<f4").tobytes() + plain[112:])
    damaged = tmp_path / "damaged.nii.gz"
    content = bytearray(good.read_bytes())
    content[len(content) // 2] ^= 255
    damaged.write_bytes(content)
    bad = [cut, constant, picture, tmp_path / "nowhere.nii", nowhere, offset, damaged]
    bad += [tmp_path / f"{name}.npy" for name in arrays]
    done = alone(package, *bad, good, "--output_dir", tmp_path / "out")
    assert done.returncode == 0
    lines = done.stderr.strip().splitlines()
    assert [line.split(":")[0] for line in lines] == [path.name for path in bad]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good_mask.nii.gz"]
    assert alone(package, cut, "--output_dir", tmp_path / "out").returncode == 1


def affine_of(meta: dict) -> np.ndarray:
    return meta["affine"][:3, :3]


@pytest.mark.parametrize("shape", [(1, 40, 30), (40, 1, 30), (40, 30, 3), (40, 30, 1), (40, 30)])
@pytest.mark.parametrize("offset", [None, 0, 7, -16])
def test_reads_what_the_bundle_reads(tmp_path, shape, offset):
    path = nifti(tmp_path / "a.nii", shape, OBLIQUE, "<i2")
    given = nib.load(path).affine
    if offset is not None:
        raw = path.read_bytes()
        path.write_bytes(raw[:108] + np.array(offset, "<f4").tobytes() + raw[112:])
    image, affine, header = slice_files.read_nifti(path)
    expected, meta = read_image(path)
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_allclose(affine, affine_of(meta), atol=1e-6)
    mask = (image > image.mean()).astype(np.uint8)
    slice_files.write(tmp_path / "mask.nii.gz", mask, header)
    written = nib.load(tmp_path / "mask.nii.gz")
    assert written.shape == shape
    np.testing.assert_array_equal(read_image(tmp_path / "mask.nii.gz")[0], mask)
    np.testing.assert_array_equal(written.affine, given)


HEADERS: dict[str, dict[str, Any]] = {
    "metres": {"xyzt_units": 1},
    "microns": {"xyzt_units": 3},
    "unit of time": {"xyzt_units": 2 + 8},
    "sizes alone": {"sform_code": 0, "qform_code": 0},
    "no size": {"sform_code": 0, "qform_code": 0, "pixdim": [1, 0, 0, 0, 0, 0, 0, 0]},
    "negative sizes": {"sform_code": 0, "qform_code": 0, "pixdim": [1, -0.5, 0.7, -5, 0, 0, 0, 0]},
    "quaternion": {"sform_code": 0, "qform_code": 1},
    "quaternion, no size": {"sform_code": 0, "qform_code": 1, "pixdim": [1, 0.5, 0, 5, 0, 0, 0, 0]},
    "no such codes": {"sform_code": 99, "qform_code": 99},
    "quaternion, negative sizes": {"sform_code": 0, "qform_code": 1, "pixdim": [-1, -0.5, 0.7, 5, 0, 0, 0, 0]},
}


@pytest.mark.parametrize("shape", [(1, 40, 30), (40, 30, 3), (40, 30)])
@pytest.mark.parametrize("fields", HEADERS.values(), ids=HEADERS)
def test_geometry_as_the_bundle_reads_it(fields, shape, tmp_path):
    path = nifti(tmp_path / "a.nii", shape, OBLIQUE, "<i2")
    header = nib.load(path).header
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])
    np.testing.assert_allclose(slice_files.read_nifti(path)[1], affine_of(read_image(path)[1]), rtol=1e-5, atol=1e-9)


def test_masks_have_no_text_of_the_header(package, tmp_path):
    path = nifti(tmp_path / "a.nii.gz", (50, 40, 2), SAGITTAL)
    image = nib.load(path)
    for name in ("descrip", "db_name", "aux_file", "intent_name"):
        image.header[name] = b"DOE^JANE"
    nib.save(image, tmp_path / "b.nii.gz")
    assert alone(package, tmp_path / "b.nii.gz", "--output_dir", tmp_path).returncode == 0
    written = gzip.decompress((tmp_path / "b_mask.nii.gz").read_bytes())
    assert b"DOE" in gzip.decompress((tmp_path / "b.nii.gz").read_bytes())
    assert b"DOE" not in written
    np.testing.assert_allclose(nib.load(tmp_path / "b_mask.nii.gz").affine, SAGITTAL, atol=1e-5)


def test_an_orientation_that_is_none_is_refused(tmp_path):
    path = nifti(tmp_path / "a.nii", (50, 40, 2), OBLIQUE, form="q")
    raw = bytearray(path.read_bytes())
    raw[256:268] = np.array([1, 1, 1], "<f4").tobytes()
    path.write_bytes(raw)
    with pytest.raises(ValueError, match="qform"):
        slice_files.read_nifti(path)


def test_sizes_are_known_before_pixels_are_read(tmp_path):
    path = nifti(tmp_path / "a.nii.gz", (40, 30, 2), np.eye(4))
    raw = gzip.decompress(path.read_bytes())
    changes = {
        "large": (raw[:40] + np.array([3, 1024, 1024, 400], "<i2").tobytes() + raw[48:], "more than 134217728 pixels"),
        "extension": (raw[:108] + np.array(2**25, "<f4").tobytes() + raw[112:], "pixels begin at byte"),
        "NaN": (raw[:108] + np.array(np.nan, "<f4").tobytes() + raw[112:], "pixels begin at byte nan"),
    }
    for name, (content, reason) in changes.items():
        (tmp_path / f"{name}.nii.gz").write_bytes(gzip.compress(content))
        with pytest.raises(ValueError, match=reason):
            slice_files.read(tmp_path / f"{name}.nii.gz")
    np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (2**14, 2**14))
    with pytest.raises(ValueError, match="more than 134217728 pixels"):
        slice_files.read(tmp_path / "a.npy")
    with gzip.open(tmp_path / "rest.nii.gz", "wb", compresslevel=1) as file:
        file.write(raw)
        for _ in range(2**8):
            file.write(bytes(2**22))
    with pytest.raises(ValueError, match="it has far more data than"):
        slice_files.read(tmp_path / "rest.nii.gz")
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / "device.nii").symlink_to("/dev/zero")
    for name in ("pipe.nii", "device.nii", ".", "none.nii"):
        with pytest.raises(ValueError, match="it does not exist, or is not a regular file"):
            slice_files.read(tmp_path / name)


@pytest.mark.parametrize("offset", [2**30, 2**23, 0])
def test_values_that_32_bits_can_not_tell_apart(offset):
    image = offset + np.arange(64.0).reshape(8, 8)
    if offset == 2**30:
        with pytest.raises(ValueError, match="that 32 bits can't represent"):
            predict.predict(image, np.eye(3), None, {})
    else:
        with pytest.raises(KeyError, match="upright"):  # it gets as far as the settings
            predict.predict(image, np.eye(3), None, {})


@pytest.mark.parametrize(
    ("option", "value", "end"),
    [
        ("threshold", 50, 1),
        ("presence_threshold", 99, 1),
        ("presence_context", -0.5, 1),
        ("smallest_extent_mm", -1, "inf"),
    ],
)
def test_numbers_in_other_units_are_refused(package, tmp_path, option, value, end):
    done = alone(package, tmp_path / "a.nii.gz", f"--{option}={value}")
    assert done.returncode == 2
    assert f"--{option} must lie between 0 and {end}, got {float(value)}" in done.stderr


def test_a_threshold_that_is_none(package, tmp_path):
    for given, reason in (
        ("half", "it must be a number, or expected_dice, got 'half'"),
        ("expected_dice", "marks something in nearly each slice: give --presence_threshold"),
    ):
        done = alone(package, tmp_path / "a.nii.gz", f"--threshold={given}")
        assert done.returncode == 2
        assert reason in done.stderr


def test_thresholds_of_a_config_of_ones_own_go_along(segmenter, tmp_path):
    bundle = Path(shutil.copytree(BUNDLES / "seg_student", tmp_path / "seg_student"))
    config = json.loads((bundle / "configs" / "inference.json").read_text())
    config |= {"threshold": "expected_dice", "presence_threshold": 0.25}
    (bundle / "configs" / "inference.json").write_text(json.dumps(config))
    export_package(bundle, segmenter, tmp_path / "package")
    written = json.loads((tmp_path / "package" / "settings.json").read_text())
    assert (written["threshold"], written["presence_threshold"]) == ("expected_dice", 0.25)
    image = nifti(tmp_path / "a.nii.gz", (50, 40, 1), np.eye(4))
    done = alone(tmp_path / "package", image, "--output_dir", tmp_path / "out")
    assert json.loads(done.stdout)["presence_threshold"] == 0.25


def test_suffixes_may_be_in_capitals(package, tmp_path):
    path = nifti(tmp_path / "A.b.nii.gz", (50, 40, 1), np.eye(4))
    capitals, plain = tmp_path / "A.B.NII.GZ", tmp_path / "C.Nii"
    capitals.write_bytes(path.read_bytes())
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    done = alone(package, path, capitals, plain, "--output_dir", tmp_path / "out")
    assert done.returncode == 0
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows == [{**rows[0], "file": each.name} for each in (path, capitals, plain)]
    assert {each.name for each in (tmp_path / "out").iterdir()} == {
        f"{stem}_mask.nii.gz" for stem in ("A.b", "A.B", "C")
    }


def test_two_masks_of_one_name_are_refused(package, tmp_path):
    paths = [nifti(tmp_path / f"a.{suffix}", (50, 40, 1), np.eye(4)) for suffix in ("nii", "nii.gz")]
    done = alone(package, *paths, "--output_dir", tmp_path / "out")
    assert done.returncode == 2
    assert f"2 files would get the mask {tmp_path}/out/a_mask.nii.gz" in done.stderr
    assert not (tmp_path / "out").exists()


def test_masks_are_replaced_only_if_asked_for(package, tmp_path):
    slices = [nifti(tmp_path / "a.nii.gz", (50, 40, 1), np.eye(4)), tmp_path / "b.npy"]
    np.save(slices[1], np.arange(2000.0).reshape(40, 50))
    own = tmp_path / "b_mask.npy"
    own.write_text("drawn by hand")
    done = alone(package, *slices, "--output_dir", tmp_path)
    assert done.returncode == 2
    assert f"{own} is there already" in done.stderr
    assert own.read_text() == "drawn by hand"
    assert {path.name for path in tmp_path.iterdir()} == {"a.nii.gz", "b.npy", "b_mask.npy"}
    done = alone(package, *slices, "--output_dir", tmp_path, "--overwrite")
    assert done.returncode == 0
    assert np.load(own).shape == (40, 50)
    assert {path.name for path in tmp_path.iterdir()} == {"a.nii.gz", "a_mask.nii.gz", "b.npy", "b_mask.npy"}


def test_an_image_is_not_overwritten_as_the_mask_of_another_one(package, tmp_path):
    images = [nifti(tmp_path / name, (50, 40, 1), np.eye(4)) for name in ("a.nii.gz", "a_mask.nii.gz")]
    before = images[1].read_bytes()
    done = alone(package, *images, "--output_dir", tmp_path, "--overwrite")
    assert done.returncode == 2
    assert f"{images[1].resolve()} is an image and would be overwritten as a mask" in done.stderr
    assert images[1].read_bytes() == before


@pytest.mark.parametrize("character", ["a", "ä", "漢"])
def test_a_long_name_ends_no_run(character, package, tmp_path):
    """A file may have a name of 255 bytes, and its mask's has more at its end; in UTF-8, characters have several."""
    count = (255 - len(".nii.gz")) // len(character.encode())
    names = ["a.nii.gz", character * count + ".nii.gz", "z.nii.gz"]
    slices = [nifti(tmp_path / name, (50, 40, 1), np.eye(4)) for name in names]
    done = alone(package, *slices, "--output_dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == names
    stems = [b"a", b"z", (character.encode() * count)[:225]]
    assert set(os.listdir(os.fsencode(tmp_path / "out"))) == {stem + b"_mask.nii.gz" for stem in stems}


def test_a_mask_that_can_not_be_written_is_named(package, tmp_path):
    path = nifti(tmp_path / "a.nii.gz", (50, 40, 1), np.eye(4))
    (tmp_path / "out" / "a_mask.nii.gz").mkdir(parents=True)
    done = alone(package, path, "--output_dir", tmp_path / "out", "--overwrite")
    assert done.returncode == 2
    assert f"{tmp_path}/out/a_mask.nii.gz can't be written: Is a directory" in done.stderr
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["a_mask.nii.gz"]


def test_script_is_short_and_imports_little():
    lines, imported = lines_and_imports(predict, network_file, slice_files)
    assert lines <= 504
    assert imported == {"numpy", "onnxruntime", "openvino", "PIL", "network_file", "slice_files"}


def test_folder_says_what_it_is(package, segmenter):
    assert {path.name for path in package.iterdir()} == {
        *("model.onnx", "settings.json", "predict.py", "network_file.py", "slice_files.py"),
        *("requirements.txt", "MODEL_CARD.md", "LICENSE", "data_license.txt"),
    }
    settings = json.loads((package / "settings.json").read_text())
    assert settings["task"] == "segmentation"
    assert settings["image_size"] == 48
    assert settings["threshold"] == 0.5
    assert settings["mean"] == [0.485, 0.456, 0.406]
    assert "Not a medical device" in settings["intended_use"]


def test_nothing_is_overwritten_or_half_written(segmenter, classifier, tmp_path, monkeypatch):
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(FileExistsError, match="is not empty"):
        export_package(BUNDLES / "seg_student", segmenter, tmp_path)
    with pytest.raises(ValueError, match="does not fit"):
        export_package(BUNDLES / "seg_student", classifier, tmp_path / "package")
    monkeypatch.setattr(predict, "predict", lambda image, *_: (np.full(image.shape, np.nan), None, None))
    with pytest.raises(ValueError, match="nothing was written"):
        export_package(BUNDLES / "seg_student", segmenter, tmp_path / "package")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_preparation_that_the_script_does_not_know_is_refused(segmenter, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLES / "seg_student", bundle, ignore=shutil.ignore_patterns("models"))
    path = bundle / "configs" / "inference.json"
    config = json.loads(path.read_text())
    config["preprocessing"]["random"] = [{"_target_": "HistogramNormalized", "keys": "image"}]
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"HistogramNormalized.*would give other results"):
        export_package(bundle, segmenter, tmp_path / "package")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_dice_loss": float("nan")}, "--max_dice_loss must be a number from 0 to 1, got nan"),
        ({"max_dice_loss": -1}, "--max_dice_loss must be a number from 0 to 1, got -1"),
        ({"int8": "absent"}, "absent"),
    ],
)
def test_options_are_checked_before_anything_is_exported(options, said, segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(package_of, "BundlePredictor", None)
    with pytest.raises((ValueError, FileNotFoundError), match=said):
        export_package(BUNDLES / "seg_student", segmenter, tmp_path / "package", **options)


def test_channels_that_the_script_does_not_make_are_refused(tmp_path):
    network = {"_target_": "BasicUNet", "spatial_dims": 2, "in_channels": 4, "out_channels": 1, "features": FEATURES}
    given = {"network_def": {**network, "norm": "batch"}, "image_size": 48, "in_channels": 4}
    checkpoint = tmp_path / "model.pt"
    save_checkpoint(BasicUNet(2, 4, 1, FEATURES, norm="batch").state_dict(), checkpoint)
    (tmp_path / "settings.json").write_text(json.dumps({**given, "mean": [0.5] * 4, "std": [0.5] * 4}))
    with pytest.raises(ValueError, match=r"takes 4 channels; predict\.py repeats a grey slice in three"):
        export_package(BUNDLES / "seg_student", checkpoint, tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_missing_package_is_named(segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ImportError, match="export needs onnxscript: pip install"):
        export_package(BUNDLES / "seg_student", segmenter, tmp_path / "package")


def test_command(segmenter, tmp_path, capsys):
    package = tmp_path / "my package"
    assert main(["export", "seg_student", str(segmenter), str(package)]) == 0
    install, use = (shlex.split(line) for line in capsys.readouterr().out.splitlines()[-2:])
    assert install == ["pip", "install", "-r", str(package / "requirements.txt")]
    assert use == ["python", str(package / "predict.py"), "SLICE.nii.gz"]
    assert main(["export", "seg_student", str(segmenter), str(package)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main(["export", "seg_student", str(segmenter)]) == 2
    assert f"{segmenter} is a file, and a new folder is needed here" in capsys.readouterr().err
    assert main(["export", "seg_pupil", str(segmenter), str(tmp_path / "other")]) == 2
    assert "no bundle seg_pupil" in capsys.readouterr().err
