"""The exported folder of a network of volumes gives what the bundle gives, with numpy and onnxruntime alone."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from documented import run
from monai.data import MetaTensor
from monai.inferers import sliding_window_inference
from monai.transforms import Compose, Orientation, Spacing
from package_alone import alone, lines_and_imports
from volumes import MODALITIES, REGIONS

from monai_kd.__main__ import main
from monai_kd.bundle import Workflow
from monai_kd.config import build_network
from monai_kd.export import export_package, network_file, predict_volumes, slice_files, volume_package, volume_values
from monai_kd.io.checkpoints import save_checkpoint
from monai_kd.io.unreadable import UnreadableImage
from monai_kd.transforms import NormalizeByd, volume_preprocessing
from monai_kd.transforms.resampling import NEAR_ZERO

pytest.importorskip("onnxruntime", reason="needs monai_kd[export]")
BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "seg_student"
MEAN_AND_STD = [{"_target_": "NormalizeIntensity", "nonzero": True, "channel_wise": True}]
WINDOW = [{"_target_": "ScaleIntensityRange", "a_min": -57, "a_max": 164, "b_min": 0.0, "b_max": 1.0, "clip": True}]
CLIPPED = {"_target_": "ClipIntensityPercentiles", "lower": 1, "upper": 99}
OBLIQUE = np.array([[0, 0.96, 0.28, 3], [-1, 0, 0, 4], [0, -0.28, 0.96, 5], [0, 0, 0, 1]]) @ np.diag([1.1, 0.9, 2.5, 1])
SHIFTED = np.array([[0, 0, -1.5, 9], [0.9, 0, 0, -4], [0, -1.2, 0, 2], [0, 0, 0, 1.0]])
LEFT = ("t1.json", "twice")
SHEARED = np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]])


def saved(folder: Path, channels=tuple(MODALITIES), **more: Any) -> Path:
    """Weights of a small network of volumes, with outputs on both sides of one half."""
    settings = {
        **{"image_size": [16, 16, 16], "in_channels": len(channels), "spatial_dims": 3, "mean": None, "std": None},
        **{"multiclass": False, "activation": "sigmoid", "mask_names": list(REGIONS), "mirror": []},
    }
    volumes = {"modalities": list(channels), "regions": REGIONS, "orientation": "RAS", "spacing": None}
    volumes |= {"normalization": MEAN_AND_STD, **more.pop("volumes", {})}
    changed = more.pop("network_def", {})
    settings |= {"volumes": volumes, **more}
    settings["network_def"] = {
        **{"_target_": "BasicUNet", "spatial_dims": settings["spatial_dims"], "in_channels": len(channels)},
        **{"out_channels": len(settings["mask_names"]) + settings["multiclass"], "features": [8, 8, 8, 8, 8, 8]},
        "norm": ["group", {"num_groups": 4}],
        **changed,
    }
    torch.manual_seed(0)
    network: Any = build_network(settings["network_def"])
    with torch.no_grad():
        network.final_conv.weight.mul_(20)
    folder.mkdir(parents=True, exist_ok=True)
    save_checkpoint(network.state_dict(), folder / "model.pt")
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder / "model.pt"


def volume(path: Path, shape: tuple[int, ...], affine: np.ndarray, seed: int = 0) -> Path:
    """Smooth noise with a margin of 0."""
    image = np.random.default_rng(seed).normal(size=shape)
    for axis in range(len(shape)):
        image = sum(np.roll(image, shift, axis) for shift in range(5))
    image = (300 * image / np.abs(image).max()).astype(np.int16)
    image[:2] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(image, affine), path)
    return path


def masks_of_bundle(checkpoint: Path, source: Path, output_dir: Path, **more: Any) -> dict[str, np.ndarray]:
    workflow = Workflow(
        [str(BUNDLE / "configs" / name) for name in ("inference.json", "volumes_inference.json")],
        **{"workflow_type": "infer", "device": "cpu", "logging_file": False, "checkpoint": str(checkpoint)},
        **{"input": str(source), "output_dir": str(output_dir), **more},
    )
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return {path.name: nib.load(path).get_fdata() for path in output_dir.rglob("*_mask.nii.gz")}


@pytest.mark.parametrize(
    ("channels", "affine", "settings", "options"),
    [
        pytest.param(MODALITIES, OBLIQUE, {}, {}, id="regions"),
        pytest.param(MODALITIES, SHIFTED, {"volumes": {"spacing": [1.3, 1.0, 1.5], "orientation": "LPS"}}, {}, id="mm"),
        pytest.param(
            *(["CT"], SHIFTED),
            {
                **{"multiclass": True, "activation": "softmax", "mirror": [0, 2], "image_size": [16, 32, 16]},
                "volumes": {"spacing": [2.0, 1.0, 1.0], "normalization": WINDOW},
            },
            {"overlap": 0.25},
            id="classes",
        ),
        pytest.param(["CT"], OBLIQUE, {"mask_names": ["spleen"], "volumes": {"orientation": None}}, {}, id="one-mask"),
    ],
)
def test_masks_are_those_of_the_bundle(channels, affine, settings, options, tmp_path):
    checkpoint = saved(tmp_path / "run", channels, **settings)
    package = tmp_path / "package"
    assert export_package(BUNDLE, checkpoint, package) < 1e-4
    files = [
        volume(tmp_path / "in" / f"{case}_{channel}.nii.gz", shape, affine, seed)
        for case, shape in (("large", (40, 25, 30)), ("small", (9, 20, 12)))
        for seed, channel in enumerate(channels)
    ]
    expected = masks_of_bundle(checkpoint, tmp_path / "in", tmp_path / "bundle", **options)
    given = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    done = alone(package, *files, "--output_dir", tmp_path / "out", *given)
    assert done.returncode == 0, done.stderr
    rows = {row["file"]: row for row in map(json.loads, done.stdout.splitlines())}
    names = {name.removesuffix("_mask.nii.gz") for name in expected}
    assert set(rows) == names == ({"large", "small"} if len(channels) > 1 else {"large_CT", "small_CT"})
    for name, bundle_mask in expected.items():
        found = nib.load(tmp_path / "out" / name)
        mask = found.get_fdata()
        assert mask.shape == bundle_mask.shape
        # Probabilities agree to 1e-5: hardly any voxel lies between.
        assert (mask != bundle_mask).mean() < 1e-4
        assert 0.02 < (mask > 0).mean() < 0.98
        np.testing.assert_allclose(found.affine, affine, atol=1e-5)
        regions = rows[name.removesuffix("_mask.nii.gz")]["regions"]
        each = np.moveaxis(mask, 3, 0) if mask.ndim == 4 else [mask == number for number in range(1, len(regions) + 1)]
        assert [region["voxels"] for region in regions.values()] == [int(own.sum()) for own in each]
        millilitre = abs(np.linalg.det(affine[:3, :3])) / 1000
        assert [region["ml"] for region in regions.values()] == pytest.approx(
            [own.sum() * millilitre for own in each], abs=1e-3
        )


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export_package(BUNDLE, saved(folder / "run"), folder / "package")
    return folder / "package"


def test_channels_in_one_file_and_in_folders(package, tmp_path):
    parts = [volume(tmp_path / "P1" / f"{name}.nii", (20, 18, 16), SHIFTED, n) for n, name in enumerate(MODALITIES)]
    stacked = np.stack([np.asarray(nib.load(part).dataobj) for part in parts], axis=-1)
    nib.save(nib.Nifti1Image(stacked, SHIFTED), tmp_path / "all.nii.gz")
    # In another order, as a shell may list them.
    done = alone(package, *parts[::-1], tmp_path / "all.nii.gz", "--output_dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first.pop("file"), second.pop("file")) == ("P1", "all")
    assert first == second
    masks = [nib.load(tmp_path / "out" / f"{name}_mask.nii.gz") for name in ("P1", "all")]
    np.testing.assert_array_equal(masks[0].get_fdata(), masks[1].get_fdata())
    assert masks[0].shape == (20, 18, 16, 3)


def test_lines_of_the_page(lines, tmp_path, monkeypatch):
    export, predict = lines
    saved(tmp_path / "runs" / "student")
    (tmp_path / "bundles").symlink_to(BUNDLE.parent)
    for number, name in enumerate(MODALITIES):
        volume(tmp_path / "P1" / f"{name}.nii.gz", (20, 18, 16), SHIFTED, number)
    run(export, tmp_path, monkeypatch)
    run(predict, tmp_path, monkeypatch)
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["P1_mask.nii.gz"]


def test_bad_files_are_named_and_the_rest_done(package, tmp_path):
    def image(case: str, shape=(20, 18, 16), affine=SHIFTED, names=MODALITIES) -> list[Path]:
        return [volume(tmp_path / case / f"{name}.nii.gz", shape, affine, n) for n, name in enumerate(names)]

    good, lacking = image("good"), image("lacking", names=MODALITIES[:3])
    beside, flat, moved = image("beside"), image("flat", (20, 18)), image("moved")
    away = SHIFTED.copy()
    away[2, 3] += 5
    volume(moved[3], (20, 18, 16), away)
    volume(beside[2], (20, 18, 16), SHIFTED @ np.diag([1, 1, 1.1, 1]))
    other = volume(tmp_path / "single.nii.gz", (20, 18, 16), SHIFTED)
    note = tmp_path / "good" / "t1.json"
    note.write_text("{}")
    twice = [*image("twice"), volume(tmp_path / "twice" / "t1.nii", (20, 18, 16), SHIFTED)]
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"no image")
    constant = tmp_path / "constant.nii"
    nib.save(nib.Nifti1Image(np.ones((20, 18, 16, 4), np.int16), SHIFTED), constant)
    done = alone(
        *(
            package,
            *good,
            note,
            *twice,
            *lacking,
            *beside,
            *flat,
            *moved,
            other,
            broken,
            constant,
            tmp_path / "absent.nii",
        ),
        *("--output_dir", tmp_path / "out"),
    )
    assert done.returncode == 0
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == ["good"]
    said = dict(line.split(": left out: ") for line in done.stderr.splitlines())
    assert said.keys() == {"lacking", "beside", "flat", "moved", "single", "broken", "constant", "absent", *LEFT}
    assert "it is not a .nii or .nii.gz file" in said["t1.json"]
    assert "t1.nii and flair.nii.gz are the same part of one image" in said["twice"]
    assert "no file whose name ends with t2" in said["lacking"]
    assert "t1ce is not on the grid of flair" in said["beside"]
    assert "t2 is not on the grid of flair" in said["moved"]
    assert "not a volume with the channels flair, t1, t1ce, t2" in said["flat"]
    assert "not a volume with the channels" in said["single"]
    assert "channel flair: it is constant" in said["constant"]
    assert "does not exist" in said["absent"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good_mask.nii.gz"]
    assert alone(package, broken, "--output_dir", tmp_path / "none").returncode == 1


def test_masks_of_an_earlier_run_do_not_stay(package, tmp_path):
    image = volume(tmp_path / "P1_t1.nii.gz", (20, 18, 16), SHIFTED)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "P1_mask.nii.gz").write_text("of another run")
    assert alone(package, image, "--output_dir", tmp_path / "out").returncode == 2
    assert (tmp_path / "out" / "P1_mask.nii.gz").is_file()
    assert alone(package, image, "--output_dir", tmp_path / "out", "--overwrite").returncode == 1
    assert not (tmp_path / "out" / "P1_mask.nii.gz").exists()
    done = alone(package, image, "--output_dir", image)
    assert f"--output_dir {image} is no folder" in done.stderr


def test_windows_without_contrast_are_warned_of(tmp_path, caplog):
    """Instance normalisation of four levels; without a normalisation of the image, nothing is amplified."""
    size = {"image_size": [32, 32, 32]}
    steady = saved(tmp_path / "steady", network_def={"norm": "batch"}, **size)
    export_package(BUNDLE, steady, tmp_path / "first")
    assert "without any contrast" not in caplog.text
    export_package(BUNDLE, saved(tmp_path / "run", network_def={"norm": "instance"}, **size), tmp_path / "second")
    assert "in windows without any contrast, such as air" in caplog.text


def test_wrong_calls_end_before_anything_is_written(package, tmp_path):
    image = volume(tmp_path / "P1_t1.nii.gz", (20, 18, 16), SHIFTED)
    twice = volume(tmp_path / "P1-t1.nii.gz", (20, 18, 16), SHIFTED)
    (tmp_path / "P1_t1.txt").write_text("")
    for arguments, message in (
        ([image, twice], "P1-t1.nii.gz and .*P1_t1.nii.gz are the same part of one image"),
        ([tmp_path / "P1_t1.txt"], "P1_t1.txt: left out: it is not a .nii or .nii.gz file"),
        ([image, "--overlap", "1"], "--overlap must lie between 0 and 0.99"),
        ([image, "--threshold", "2"], "--threshold must lie between 0 and 1"),
        ([image, "--precision", "bfloat16", "--runtime", "onnxruntime"], "onnxruntime has no bfloat16"),
    ):
        done = alone(package, *arguments, "--output_dir", tmp_path / "out")
        assert done.returncode == 2
        assert re.search(message, done.stderr), done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("affine", [OBLIQUE, SHIFTED, np.diag([-1.0, -1.0, 2.0, 1.0]), volume_package.TURNED.copy()])
@pytest.mark.parametrize("orientation", ["RAS", "LPS", "SPL", None])
@pytest.mark.parametrize("spacing", [None, [1.0, 1.0, 1.0], [1.5, 1.5, 2.0], [0.7, 2.0, 1.1]])
def test_grid_is_that_of_monai(affine, orientation, spacing):
    # As files have it, where rounding may hide which voxel is the first.
    whole = np.eye(4)
    whole[: len(affine), : len(affine)] = affine.astype(np.float32)
    image = np.random.default_rng(0).normal(size=(2, 13, 11, 9)).astype(np.float32)
    steps = [] if orientation is None else [Orientation(orientation, labels=(("L", "R"), ("P", "A"), ("I", "S")))]
    steps += [] if spacing is None else [Spacing(spacing, mode="bilinear")]
    transform = Compose(steps)
    expected = transform(MetaTensor(torch.as_tensor(image), affine=torch.as_tensor(whole)))
    settings = {"orientation": orientation, "spacing": spacing}
    found, back = predict_volumes.on_grid(image, whole[:3, :3], settings)
    # The package sets what is below 1e-5 of the largest value to 0, as the bundle does.
    np.testing.assert_allclose(found, expected.numpy(), atol=5e-5)
    if steps:
        np.testing.assert_allclose(back(found), transform.inverse(expected).numpy(), atol=5e-5)


@pytest.mark.skipif(tuple(map(int, nib.__version__.split(".")[:2])) < (5, 4), reason="nibabel took axes in their order")
def test_axes_of_steep_volumes_are_those_of_nibabel():
    random = np.random.default_rng(0)
    for _ in range(500):
        rotation = np.linalg.qr(random.normal(size=(3, 3)))[0]
        order, flips = predict_volumes.turn(rotation * random.uniform(0.5, 3, 3), "RAS")
        expected = nib.io_orientation(nib.affines.from_matvec(rotation))
        assert [int(expected[axis, 0]) for axis in order] == [0, 1, 2]
        assert flips == [place for place, axis in enumerate(order) if expected[axis, 1] < 0]


def test_a_background_of_zero_is_not_counted_after_resampling(tmp_path):
    """Of a head on planes of the grid, whose edge is rounded by the interpolation."""
    shape = (36, 30, 12)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    head = np.random.default_rng(0).normal(300, 60, shape) * ((grid**2).sum(0) < 0.8)
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    nib.save(nib.Nifti1Image(head.astype(np.int16), affine), tmp_path / "head.nii")
    settings = {"orientation": "RAS", "spacing": [1.0, 1.0, 1.0]}
    expected = volume_preprocessing(1, **settings)({"image": str(tmp_path / "head.nii")})["image"].numpy()
    image, its_affine, _ = slice_files.read_nifti(tmp_path / "head.nii")
    found, _ = predict_volumes.on_grid(image[None].astype(np.float32), its_affine, settings)
    assert predict_volumes.NEAR_ZERO == NEAR_ZERO
    # Planes between two of the file have a voxel where one of the two has.
    inside = np.repeat(head != 0, 2, axis=2)[..., :-1]
    inside[..., 1::2] = (head[..., :-1] != 0) | (head[..., 1:] != 0)
    np.testing.assert_array_equal(found[0] != 0, inside)
    # With all arguments, as a package has them.
    normalised = volume_values.normalised(found, [{**MEAN_AND_STD[0], "subtrahend": None, "divisor": None}])
    np.testing.assert_array_equal(expected[0] != 0, inside)
    np.testing.assert_allclose(normalised, expected, atol=2e-4)


def test_few_large_voxels_do_not_become_too_many(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((40, 36, 18), np.int16), np.diag([40.0, 40.0, 40.0, 1.0])), tmp_path / "a.nii")
    settings = {"orientation": "RAS", "spacing": [1.5, 1.5, 2.0]}
    with pytest.raises(RuntimeError) as raised:
        volume_preprocessing(1, constant=True, **settings)({"image": str(tmp_path / "a.nii")})
    assert isinstance(raised.value.__cause__, UnreadableImage)
    assert "resampled to voxels of 1.5 x 1.5 x 2 mm it would have 1067 x 960 x 360 voxels" in str(
        raised.value.__cause__
    )
    with pytest.raises(ValueError, match=r"more than .* pixels"):
        predict_volumes.on_grid(np.ones((1, 40, 36, 18), np.float32), np.diag([40.0] * 3), settings)


def test_sheared_axes_can_not_be_resampled():
    with pytest.raises(ValueError, match="not at right angles"):
        predict_volumes.on_grid(np.zeros((1, 9, 9, 9)), SHEARED[:3, :3], {"orientation": "RAS", "spacing": [1, 1, 1]})


@pytest.mark.parametrize("shape", [(16, 16, 16), (40, 17, 12), (5, 33, 16)])
@pytest.mark.parametrize("overlap", [0.5, 0.0, 0.8])
def test_windows_are_those_of_monai(shape, overlap):
    image = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
    place = torch.arange(16.0)

    def network(window: torch.Tensor) -> torch.Tensor:
        """Another value at each place of a window, so that it matters where windows begin and what they weigh."""
        return torch.cat([window * place, window.sum(1, keepdim=True) * place[:, None]], dim=1)

    expected = sliding_window_inference(torch.as_tensor(image)[None], (16,) * 3, 2, network, overlap, mode="gaussian")
    found = predict_volumes.windows(image, lambda seen: [network(torch.as_tensor(seen)).numpy()], [16] * 3, overlap)
    np.testing.assert_allclose(found, expected[0].numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "step",
    [
        {"_target_": "NormalizeIntensity"},
        {"_target_": "NormalizeIntensity", "nonzero": True, "channel_wise": True},
        {"_target_": "NormalizeIntensity", "subtrahend": 20, "divisor": 0.5, "nonzero": True},
        {"_target_": "ScaleIntensity"},
        {"_target_": "ScaleIntensity", "minv": -1, "maxv": 2, "channel_wise": True},
        {"_target_": "ScaleIntensity", "minv": None, "maxv": None, "factor": 0.3},
        WINDOW[0],
        {"_target_": "ScaleIntensityRange", "a_min": 10, "a_max": 20},
        {"_target_": "ScaleIntensityRange", "a_min": 10, "a_max": 10, "b_min": 1},
        {"_target_": "ScaleIntensityRangePercentiles", "lower": 1, "upper": 90, "b_min": 0, "b_max": 1, "clip": True},
        {
            **{"_target_": "ScaleIntensityRangePercentiles", "lower": 0, "upper": 99.5, "b_min": None, "b_max": None},
            "channel_wise": True,
        },
        {"_target_": "ClipIntensityPercentiles", "lower": 5, "upper": None},
        {"_target_": "ClipIntensityPercentiles", "lower": 5, "upper": 95, "channel_wise": True},
        {"_target_": "ThresholdIntensity", "threshold": 30},
        {"_target_": "ThresholdIntensity", "threshold": 30, "above": False, "cval": 7},
        {"_target_": "ShiftIntensity", "offset": -12.5},
    ],
)
def test_values_are_those_of_monai(step, channels):
    image = np.random.default_rng(0).normal(30, 50, size=(channels, 9, 8, 7)).astype(np.float32)
    image[:, :2] = 0
    image[0, 5:] = 4
    expected = NormalizeByd("image", step)({"image": torch.as_tensor(image.copy())})["image"].numpy()
    found = volume_values.normalised(image, [volume_package._explicit(step)])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_black_channels_stay_black():
    step = {"_target_": "NormalizeIntensity", "nonzero": True, "channel_wise": True}
    image = np.stack([np.zeros((4, 4, 4)), np.full((4, 4, 4), 3.0)]).astype(np.float32)
    found = volume_values.normalised(image, [volume_package._explicit(step)])
    expected = NormalizeByd("image", step)({"image": torch.as_tensor(image)})["image"]
    np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spatial_dims": 2, "image_size": [16, 16]}, "the network is of slices in patches"),
        ({"operating_point": {"score": "max", "threshold": 0.5}}, "an operating point, which predict.py does not"),
        (
            {"volumes": {"normalization": {**MEAN_AND_STD[0], "dtype": "float16"}}},
            "predict.py does not implement NormalizeIntensity with dtype 'float16'",
        ),
        (
            {"volumes": {"normalization": {**CLIPPED, "sharpness_factor": 2}}},
            "does not implement ClipIntensityPercentiles with sharpness_factor 2",
        ),
    ],
)
def test_what_the_script_does_not_know_is_refused(settings, message, tmp_path):
    checkpoint = saved(tmp_path / "run", **settings)
    with pytest.raises(ValueError, match=message):
        export_package(BUNDLE, checkpoint, tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_other_preprocessing_is_refused(tmp_path):
    """An archive has the configs of volumes alone; in a bundle of one's own they may prepare images in another way."""
    checkpoint = saved(tmp_path / "run")
    assert main(["pack", "seg_student", str(checkpoint), str(tmp_path)]) == 0
    (archive,) = tmp_path.glob("*.zip")
    with zipfile.ZipFile(archive) as content:
        content.extractall(tmp_path)
    packed = tmp_path / "seg_student"
    assert export_package(packed, packed / "models" / "model.pt", tmp_path / "package") < 1e-4
    inference = json.loads((packed / "configs" / "inference.json").read_text())
    inference["preprocessing"]["orientation"] = "LPS"
    (packed / "configs" / "inference.json").write_text(json.dumps(inference))
    with pytest.raises(ValueError, match=r"differ by .* from those of the bundle"):
        export_package(packed, packed / "models" / "model.pt", tmp_path / "turned")
    inference |= {"prepared": inference["preprocessing"], "more": {"_target_": "Identityd", "keys": "image"}}
    inference["preprocessing"] = {"_target_": "Compose", "transforms": "$list(@prepared.transforms) + [@more]"}
    (packed / "configs" / "inference.json").write_text(json.dumps(inference))
    with pytest.raises(ValueError, match=r"predict.py implements EnsureChannelFirstd, Orientationd, ResampleVolumed"):
        export_package(packed, packed / "models" / "model.pt", tmp_path / "more")
    assert not [tmp_path / name for name in ("turned", "more") if (tmp_path / name).exists()]


def test_command_and_what_the_folder_says(tmp_path, capsys):
    checkpoint = saved(tmp_path / "run", fold=1)
    command = ["export", "seg_student", str(checkpoint), str(tmp_path / "package")]
    assert main([*command, "--int8", str(tmp_path)]) == 2
    assert "--int8 is for networks of slices" in capsys.readouterr().err
    assert main(command) == 0
    assert "package/predict.py P1_flair.nii.gz P1_t1.nii.gz P1_t1ce.nii.gz P1_t2.nii.gz" in capsys.readouterr().out
    card = (tmp_path / "package" / "MODEL_CARD.md").read_text()
    assert "volumes with the channels flair, t1, t1ce, t2, in windows of 16 × 16 × 16 voxels" in card
    assert "tumour core, whole tumour, enhancing tumour" in card
    assert "fold 1 (counted from 0) of its data set" in card
    # Nothing of the released student of slices.
    assert "Lite0" not in card
    assert "0.786" not in card
    said = (tmp_path / "package" / "data_license.txt").read_text()
    assert said.startswith("On which data these weights were trained")


def test_script_is_short_and_imports_little():
    lines, imported = lines_and_imports(predict_volumes, volume_values, network_file, slice_files)
    assert lines <= 620
    own = {"network_file", "slice_files", "volume_values"}
    assert imported - own == {"numpy", "onnxruntime", "openvino", "PIL"}
