"""Every program that segments gives the same answer on the same image: tumour or not, by which score, which lesions."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import create_workflow
from slices import PATIENT, write_dicom
from students import (
    MEAN,
    SIZE,
    STD,
    UNET,
    brightness_unet,
    classification_student,
    classifier_without_tumours,
    saved,
)

from monai_kd.__main__ import main
from monai_kd.bundle.students import load_students
from monai_kd.bundle.trained import trained_network, trained_settings
from monai_kd.export import export_package
from monai_kd.inference.second_reader import SecondReader
from monai_kd.io import read_image
from monai_kd.io.table import read_table

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
HIGHEST = 0.8  # probability that the network gives to the brightest pixel of any slice
AFFINE = np.diag([-0.5, -0.75, 1.0, 1.0])


def student(folder: Path, operating_point: Mapping[str, Any] | None, highest: float = HIGHEST) -> Path:
    """Of the default marks what is brighter than 73 % of the range; no probability is above ``highest``."""
    network = brightness_unet(UNET)
    with torch.no_grad():
        network.final_conv.weight[0, 0] = 5 * STD
        network.final_conv.bias.fill_(np.log(highest / (1 - highest)) - 5 * (1 - MEAN))
    values = {"network_def": UNET, "image_size": SIZE, "mask_names": ["tumour"]}
    return saved(network, folder, {**values, "operating_point": operating_point})


def point(threshold: float) -> dict[str, Any]:
    return {"score": "max", "threshold": threshold, "specificity": 0.95, "sensitivity": 0.9, "measured_on": "discs"}


def scan(path: Path, slices: int = 0) -> Path:
    """A bright square: on a slice, or on slices 1 to 6 of a volume, with a lone one on slice 8. Others are constant."""
    image = np.full((SIZE, SIZE, max(slices, 1)), 100)
    image[8:16, 8:16, 1 if slices else 0 : 7] = 900
    if slices:
        image[20:24, 20:24, 8] = 900
    nib.save(nib.Nifti1Image(image.astype(np.int16), AFFINE), path)
    return path


# A door: checkpoints of segmentation and classification, an image, an empty folder, and options to an answer.
Answer = dict[str, Any]
COMPARED = ("tumour", "presence_score", "presence_threshold", "dropped_marks", "lesion_count")


def of_row(row: Mapping[str, Any], mask: np.ndarray) -> Answer:
    """The compared values, of a table as of JSON."""
    values = {name: None if row.get(name) in ("", None) else row[name] for name in COMPARED}
    numbers = {name: value if value is None else float(value) for name, value in values.items() if name != "tumour"}
    return {**numbers, "tumour": values["tumour"], "pixels": int((mask > 0).sum())}


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def inferring(checkpoint: Path, classifier: Path, image: Path, folder: Path, **options: Any) -> Answer:
    config = str(BUNDLES / "seg_student" / "configs" / "inference.json")
    values = {"input": str(image), "output_dir": str(folder), "checkpoint": str(checkpoint), "logging_file": False}
    workflow = create_workflow(config_file=config, workflow_type="infer", device="cpu", **values, **options)
    workflow.run()
    workflow.finalize()
    (row,) = read_table(folder / "findings.csv")
    assert len(read_table(folder / "lesions.csv")) == int(row["lesion_count"])
    return of_row(row, pixels_of(folder / row["mask"]))


def report(checkpoint: Path, classifier: Path, image: Path, folder: Path, **options: Any) -> Answer:
    given = [f"--{name}={value}" for name, value in options.items()]
    networks = ["--segmentation", str(checkpoint), "--classification", str(classifier), "--device", "cpu"]
    assert main(["report", str(image), "--output_dir", str(folder), *networks, *given]) == 0
    (row,) = read_table(folder / "report.csv")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert ("No tumour found" in page) == (row["tumour"] == "no")
    assert (f"<dd>{float(row['presence_score']):.3f}" in page) == (row["presence_threshold"] != "")
    assert len(read_table(folder / "lesions.csv")) == int(row["lesion_count"])
    return of_row(row, pixels_of(folder / row["mask"]))


def serve(checkpoint: Path, classifier: Path, image: Path, folder: Path, **options: Any) -> Answer:
    testclient = pytest.importorskip("starlette.testclient", reason="needs monai_kd[serve]")
    from monai_kd.serve.app import create_app

    app = create_app(load_students(checkpoint, classifier, device="cpu", **options), 2**20, ["testserver"])
    with testclient.TestClient(app) as client:
        (row,) = client.post("/slices", files=[("files", (image.name, image.read_bytes()))]).json()["files"]
    assert len(row["lesions"]) == row["lesion_count"]
    mask = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(row["mask"]["content"])))
    return of_row(row, np.asarray(mask.dataobj))


def export(checkpoint: Path, classifier: Path, image: Path, folder: Path, **options: Any) -> Answer:
    pytest.importorskip("onnxruntime", reason="needs monai_kd[export]")
    package = checkpoint.with_name("package")
    if not package.exists():
        export_package(BUNDLES / "seg_student", checkpoint, package)
    given = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, package / "predict.py", image, "--output_dir", folder, *given]
    row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    mask = pixels_of(folder / f"{image.name.removesuffix('.nii.gz')}_mask.nii.gz")
    # It counts no lesions, and numbers its answer as JSON does.
    return of_row({**row, "tumour": "yes" if row["tumour"] else "no"}, mask)


class _InferTask:
    def __init__(self, type: Any, labels: dict[str, int], *_: Any) -> None:
        self.labels = labels


def label(checkpoint: Path, classifier: Path, image: Path, folder: Path, **options: Any) -> Answer:
    if options:
        pytest.skip("a request to MONAI Label has no options of the network")
    from monai_kd.label import make_app
    from monai_kd.label.infer import SegmentationTask
    from monai_kd.label.served import ServedBundle

    make_app(folder / "app", {"segmentation": checkpoint})
    file, result = SegmentationTask(ServedBundle(folder / "app" / "model" / "seg_student"))({"image": str(image)})
    json.dumps(result)  # MONAI Label sends it
    assert len(result["lesions"]) == result["found"]["lesion_count"]
    return of_row(result["found"], read_image(file, constant=True)[0])


@pytest.fixture
def monai_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of MONAI Label as its app needs; it lives in an environment of its own."""
    try:
        import monailabel  # noqa: F401

        return
    except ImportError:
        pass
    contents: dict[str, dict[str, Any]] = {
        "interfaces.exception": {
            "MONAILabelError": Enum("MONAILabelError", "INVALID_INPUT"),
            "MONAILabelException": Exception,
        },
        "interfaces.tasks.infer_v2": {
            "InferTask": _InferTask,
            "InferType": Enum("InferType", "SEGMENTATION CLASSIFICATION"),
        },
        "transform.writer": {"Writer": object},
        "utils.others.generic": {"device_list": lambda: ["cpu"], "device_map": dict},
    }
    for name, content in contents.items():
        module = ModuleType(f"monailabel.{name}")
        module.__dict__.update(content)
        parts = module.__name__.split(".")
        for end in range(1, len(parts)):
            parent = ".".join(parts[:end])
            monkeypatch.setitem(sys.modules, parent, sys.modules.get(parent) or ModuleType(parent))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "monai_kd.label.infer", raising=False)


DOORS: dict[str, Callable[..., Answer]] = {each.__name__: each for each in (inferring, report, serve, export, label)}
SQUARE, LONE = 64, 16
# Operating point, options, slices; tumour, threshold, pixels, dropped marks, lesions.
CASES = {
    "no operating point": (None, {}, 0, ("yes", None, SQUARE, None, 1)),
    "above the threshold": (point(0.7), {}, 0, ("yes", 0.7, SQUARE, None, 1)),
    "below the threshold": (point(0.9), {}, 0, ("no", 0.9, 0, None, 0)),
    "a threshold of one's own": (point(0.9), {"presence_threshold": 0.6}, 0, ("yes", 0.6, SQUARE, None, 1)),
    "a threshold without an operating point": (None, {"presence_threshold": 0.9}, 0, ("no", 0.9, 0, None, 0)),
    "every slice passes": (point(0.9), {"presence_threshold": 0}, 0, ("yes", 0, SQUARE, None, 1)),
    "a lone mark": (point(0.7), {}, 10, ("yes", 0.7, 6 * SQUARE, 0, 1)),
    "a lone mark by itself": (point(0.7), {"presence_context": 0}, 10, ("yes", 0.7, 6 * SQUARE, 1, 1)),
    "a lone mark is kept": (None, {"smallest_extent_mm": 0}, 10, ("yes", None, 6 * SQUARE + LONE, None, 2)),
    "a long way": (None, {"smallest_extent_mm": 6.5}, 10, ("no", None, 0, 2, 0)),
    # To the dark pixels this network gives a probability of 0.23, and all together make the highest expected Dice.
    "expected Dice": (point(0.7), {"threshold": "expected_dice"}, 0, ("yes", 0.7, SIZE**2, None, 1)),
    "expected Dice of slices": (point(0.7), {"threshold": "expected_dice"}, 10, ("yes", 0.7, 6 * SIZE**2, 0, 1)),
    "a volume below": (point(0.9), {}, 10, ("no", 0.9, 0, 0, 0)),
}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return classification_student(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def student_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Any], Path]:
    """The checkpoint of each operating point, made once."""
    made: dict[str, Path] = {}

    def make(operating_point: Any) -> Path:
        key = json.dumps(operating_point)
        if key not in made:
            made[key] = student(tmp_path_factory.mktemp("student"), operating_point)
        return made[key]

    return make


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("operating_point", "options", "slices", "expected"), CASES.values(), ids=CASES)
def test_the_same_answer(
    door, operating_point, options, slices, expected, classifier, student_of, monai_label, tmp_path
):
    image = scan(tmp_path / "scan.nii.gz", slices)
    (tmp_path / "out").mkdir()
    answer = DOORS[door](student_of(operating_point), classifier, image, tmp_path / "out", **options)
    tumour, threshold, pixels, dropped, lesions = expected
    assert (answer["tumour"], answer["presence_threshold"], answer["pixels"]) == (tumour, threshold, pixels)
    assert answer["presence_score"] == pytest.approx(HIGHEST, abs=1e-3)
    assert answer["dropped_marks"] == dropped
    assert answer["lesion_count"] == (None if door == "export" else lesions)


@pytest.mark.parametrize("door", [name for name in DOORS if name != "label"])
def test_a_mask_below_half_the_probability(door, classifier, tmp_path):
    """A network that is nowhere sure, on a slice that is known to show a tumour."""
    checkpoint, image = student(tmp_path / "student", None, highest=0.3), scan(tmp_path / "scan.nii.gz")
    for name, options in {"half": {}, "expected": {"threshold": "expected_dice"}}.items():
        (tmp_path / name).mkdir()
        answer = DOORS[door](checkpoint, classifier, image, tmp_path / name, presence_threshold=0, **options)
        assert answer["pixels"] == {"half": 0, "expected": SQUARE}[name]


@pytest.fixture(scope="module")
def read_by_two(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], Path]:
    """A checkpoint whose operating point has a threshold on the score of two networks; the other one sees no tumour."""
    other = classifier_without_tumours(tmp_path_factory.mktemp("other"))
    settings, of = trained_settings(other), {"in_channels": 3, "image_size": SIZE, "mean": [MEAN] * 3, "std": [STD] * 3}
    reader = SecondReader(trained_network(settings, other), settings, of)

    def make(threshold: float) -> Path:
        folder = tmp_path_factory.mktemp("read")
        reader.save(folder / "classifier.safetensors")
        return student(folder, {**point(threshold), "classifier": reader.sha256})

    return make


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("threshold", "slices", "expected"), [(0.3, 0, "yes"), (0.35, 0, "no"), (0.3, 10, "yes")])
def test_two_networks_judge_presence(door, threshold, slices, expected, classifier, read_by_two, monai_label, tmp_path):
    image = scan(tmp_path / "scan.nii.gz", slices)
    (tmp_path / "out").mkdir()
    answer = DOORS[door](read_by_two(threshold), classifier, image, tmp_path / "out")
    # The classifier gives its four classes the logits 0, 0, 0 and 4.
    both = np.log(HIGHEST / (1 - HIGHEST)) / 2 + np.log(3 / np.exp(4)) / 2
    assert answer["presence_score"] == pytest.approx(1 / (1 + np.exp(-both)), abs=1e-3)
    assert (answer["tumour"], answer["presence_threshold"]) == (expected, threshold)
    assert (answer["pixels"] > 0) == (expected == "yes")


def test_a_package_has_both_networks(read_by_two, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs monai_kd[export]")
    checkpoint, package = read_by_two(0.3), tmp_path / "package"
    export_package(BUNDLES / "seg_student", checkpoint, package)
    wanted = trained_settings(checkpoint)["operating_point"]["classifier"]
    assert json.loads((package / "settings.json").read_text())["classifier"]["sha256"] == wanted
    # Without it, nothing is judged by the threshold of both.
    (package / "classifier.onnx").unlink()
    command = [sys.executable, package / "predict.py", scan(tmp_path / "scan.nii.gz"), "--output_dir", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "there is no classifier.onnx here: it belongs to a package" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_package_of_integers_has_both_networks(read_by_two, tmp_path):
    for name in ("onnxruntime", "nncf", "openvino"):
        pytest.importorskip(name)
    (tmp_path / "slices").mkdir()
    image, *_ = (scan(tmp_path / "slices" / f"{n}.nii.gz") for n in range(4))
    package = tmp_path / "package"
    export_package(BUNDLES / "seg_student", read_by_two(0.3), package, int8=tmp_path / "slices", max_dice_loss=1)
    command = [sys.executable, package / "predict.py", image, "--output_dir", tmp_path / "out"]
    row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    both = np.log(HIGHEST / (1 - HIGHEST)) / 2 + np.log(3 / np.exp(4)) / 2
    assert row["presence_score"] == pytest.approx(1 / (1 + np.exp(-both)), abs=0.05)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "fields",
    [{"xyzt_units": 1}, {"sform_code": 0, "qform_code": 0, "pixdim": [1, 2, 2, 6, 0, 0, 0, 0]}],
    ids=["metres", "sizes alone"],
)
def test_sizes_of_the_header(door, fields, classifier, student_of, monai_label, tmp_path):
    """Slices of 1000 or 6 mm: one of them is enough for a mark across 5 mm of slices."""
    path = scan(tmp_path / "scan.nii.gz", 10)
    raw = gzip.decompress(path.read_bytes())
    header = nib.Nifti1Header(raw[:348])
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(gzip.compress(header.binaryblock + raw[348:]))
    (tmp_path / "out").mkdir()
    answer = DOORS[door](student_of(None), classifier, path, tmp_path / "out")
    assert (answer["tumour"], answer["pixels"], answer["dropped_marks"]) == ("yes", 6 * SQUARE + LONE, 0)


@pytest.mark.parametrize("door", ["inferring", "report", "serve", "label"])
def test_another_sequence_is_not_judged(door, classifier, student_of, monai_label, tmp_path):
    image = np.full((SIZE, SIZE), 100, np.int16)
    image[8:16, 8:16] = 900
    path = write_dicom(tmp_path / "scan.dcm", image, SeriesDescription=f"AX T2 FLAIR {PATIENT}")
    (tmp_path / "out").mkdir()
    answer = DOORS[door](student_of(None), classifier, path, tmp_path / "out")
    assert (answer["tumour"], answer["pixels"], answer["lesion_count"]) == ("not judged", 0, 0)
    if door == "inferring":
        (row,) = read_table(tmp_path / "out" / "findings.csv")
        assert row["warning"].startswith("the header names a FLAIR sequence; the header names no contrast agent")
        assert PATIENT not in row["warning"]
        (tmp_path / "again").mkdir()
        kept = DOORS[door](student_of(None), classifier, path, tmp_path / "again", judge_unfit=True)
        assert (kept["tumour"], kept["pixels"]) == ("yes", SQUARE)
    if door == "report":
        page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
        assert "<strong>Warning:</strong> the header names a FLAIR sequence" in page
        assert "Not judged" in page
