"""A bundle as a function gives what the bundle gives as a command."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import create_workflow
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged
from PIL import Image
from slices import Brightness, grey, pattern, write_dicom, write_mat

from monai_kd.inference import BundlePredictor, Findings, InputFiles, rank_classes, read_image, read_source
from monai_kd.inference.masks import mask_path, write_mask
from monai_kd.inference.preparation import Preparation
from monai_kd.io import SliceReader
from monai_kd.io.checkpoints import save_checkpoint
from monai_kd.networks import create_backbone

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
BRIGHTNESS = {"preprocessing#image_size": 64, "device": "cpu"}
CLASSIFIER = {"network_name": "mobilenetv3_small_050", "image_size": 32, "class_names": ["oval", "round"]}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    network = create_backbone(CLASSIFIER["network_name"], num_classes=2, image_size=32)
    with torch.no_grad():
        network.classifier.weight.mul_(200)  # or all slices look alike to it
    save_checkpoint(network.state_dict(), folder / "model.pt")
    (folder / "settings.json").write_text(json.dumps(CLASSIFIER))
    return folder / "model.pt"


@pytest.fixture
def scans(tmp_path) -> Path:
    """A slice or a volume in each of the formats, noisy, so that probabilities differ."""
    folder = tmp_path / "in"
    folder.mkdir()
    noise = np.random.default_rng(0)

    def image(*shape: int) -> np.ndarray:
        hook = np.moveaxis(np.broadcast_to(pattern(72, 80), (*shape, 80, 72)), (-2, -1), (0, 1))
        return (grey(hook) + noise.normal(0, 80, hook.shape)).astype(np.int16)

    nib.save(nib.Nifti1Image(image(1), np.diag([-0.5, -0.6, 6.0, 1.0])), folder / "slice.nii.gz")
    nib.save(nib.Nifti1Image(image(), np.eye(4)), folder / "flat.nii")
    nib.save(nib.Nifti1Image(image(4), np.diag([1, 1, 3.0, 1])), folder / "volume.nii.gz")
    Image.fromarray((image() / 8).clip(0, 255).astype(np.uint8)).save(folder / "picture.png")
    write_mat(folder / "figshare.mat", image())
    for number in range(3):
        write_dicom(folder / "series" / f"{number}.dcm", image(), position=(0, 0, 2.0 * number))
    return folder


def test_segments_as_the_bundle_does(tmp_path, scans, segment, bright_bundle, brightness):
    rows = segment(scans, threshold=0.6)
    predict = BundlePredictor(bright_bundle, brightness, threshold=0.6, **BRIGHTNESS)
    inputs = InputFiles(scans, tmp_path / "again")
    assert len(inputs) == len(rows) == 6
    for image in inputs.images:
        source = read_source(image.paths)
        pixels, before = source.pixels, source.pixels.copy()
        output = predict(pixels, source.meta())
        np.testing.assert_array_equal(pixels, before)
        assert output["pred"].shape == output["probability"].shape == (1, *pixels.shape)
        assert (output["pred"].dtype, output["pred"].max()) == (torch.uint8, 1)
        (found,) = Findings(inputs, overlays=False).rows_of({"file": image.label, "source": source}, output)
        assert {name: str(value) for name, value in found.items()} == {name: rows[image.label][name] for name in found}
        write_mask(output["pred"], mask_path(inputs, image.label))
        written = tmp_path / "out" / rows[image.label]["mask"]
        assert mask_path(inputs, image.label).read_bytes() == written.read_bytes()


def test_classifies_as_the_bundle_does(tmp_path, scans, classifier):
    workflow = create_workflow(
        config_file=str(BUNDLES / "cls_student" / "configs" / "inference.json"),
        workflow_type="infer",
        input=str(scans),
        output_dir=str(tmp_path / "out"),
        checkpoint=str(classifier),
        temperature=2.0,
        device="cpu",
        logging_file=False,
    )
    workflow.run()
    workflow.finalize()
    with open(tmp_path / "out" / "classes.csv", newline="") as file:
        rows = {(row["file"], row["slice"]): row for row in csv.DictReader(file)}
    assert len(rows) == 4 + 4 + 3
    assert len({row["p_oval"] for row in rows.values()}) > 5
    predict = BundlePredictor(BUNDLES / "cls_student", classifier, temperature=2.0, device="cpu")
    assert predict.value("class_names") == ["oval", "round"]
    for image in InputFiles(scans, tmp_path / "again").images:
        pixels, meta = read_image(image.paths)
        probabilities = np.asarray(predict(pixels, meta)["pred"])
        # Two axes give no slices: (C,); a volume of one slice gives (C, 1).
        assert probabilities.shape == (2, *pixels.shape[2:])
        for number, column in enumerate(probabilities.reshape(2, -1).T):
            expected = rows[image.label, str(number)]
            assert {k: str(v) for k, v in rank_classes(column, ["oval", "round"]).items()}.items() <= expected.items()


def test_writes_nothing(tmp_path, scans, bright_bundle, brightness):
    before = sorted(tmp_path.rglob("*"))
    # Without the file's name in the metadata too.
    BundlePredictor(bright_bundle, brightness, **BRIGHTNESS)(*read_image(scans / "flat.nii"))
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"treshold": 0.3}, "unknown override: --treshold .did you mean --threshold"),
        ({"inferer#amp2": True}, "unknown override"),
        ({"input_dir": "a"}, r"unknown override: --input_dir .did you mean --output_dir or --input\b"),
        (
            {"inputs": "a"},
            r"--inputs: 'a' can't take the place of the monai_kd.*did you mean --input",
        ),
        ({"threshold": 1.5}, "threshold must be a number between 0 and 1, or 'expected_dice', got 1.5"),
        ({"device": "toaster"}, "device must be one of cpu"),
    ],
)
def test_wrong_values(bright_bundle, brightness, overrides, message):
    with pytest.raises(ValueError, match=message):
        BundlePredictor(bright_bundle, brightness, **BRIGHTNESS | overrides)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "must begin with LoadImaged"),
        ([EnsureChannelFirstd("image"), LoadImaged("image", reader=SliceReader)], "must begin with LoadImaged"),
        ([LoadImaged("image", reader="NibabelReader")], "SliceReader.*VolumeReader.*got NibabelReader"),
    ],
)
def test_preprocessing_begins_with_reading(steps, message):
    with pytest.raises(ValueError, match=message):
        Preparation(Compose(steps))


def test_nested_values_are_overridden(bright_bundle, brightness):
    overrides = {**BRIGHTNESS, "inferer#slices_per_batch": 2, "upright": False}
    predict = BundlePredictor(bright_bundle, brightness, **overrides)
    assert predict.value("inferer").slices_per_batch == 2
    assert len(predict.value("preprocessing").transforms) == 7


def test_errors_say_what_is_wrong(tmp_path, bright_bundle, brightness, classifier):
    with pytest.raises(ValueError, match="does not fit BasicUNet"):
        BundlePredictor(BUNDLES / "seg_student", brightness, **BRIGHTNESS)
    with pytest.raises(TypeError, match=r"a value of a config must be text, a number.*got Brightness"):
        BundlePredictor(bright_bundle, brightness, network_def=Brightness())
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        BundlePredictor(bright_bundle, tmp_path / "absent.pt", **BRIGHTNESS)
    with pytest.raises(FileNotFoundError, match=r"bundle: there is no .*inference\.json"):
        BundlePredictor(tmp_path, brightness)
    # What MONAI wraps comes out as it was.
    (tmp_path / "settings.json").write_text("{")
    (tmp_path / "model.pt").write_bytes(classifier.read_bytes())
    with pytest.raises(ValueError, match=r"settings\.json is not JSON"):
        BundlePredictor(BUNDLES / "cls_student", tmp_path / "model.pt")


def test_broken_weights_are_no_prediction(tmp_path, scans, bright_bundle):
    state = {name: value * float("nan") for name, value in Brightness().state_dict().items()}
    save_checkpoint(state, tmp_path / "nan.pt")
    predict = BundlePredictor(bright_bundle, tmp_path / "nan.pt", **BRIGHTNESS)
    with pytest.raises(ValueError, match="not finite"):
        predict(*read_image(scans / "flat.nii"))
