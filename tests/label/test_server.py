"""A real MONAI Label server and its own client; `.ci/label` runs this in an environment that has them."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import timm
import torch
from monai.networks.nets import BasicUNet
from page_lines import LABEL, LABEL_PAGE, lines_of
from PIL import Image

from monai_kd.inference import BundlePredictor, read_image
from monai_kd.networks import HybridUNet

pytest.importorskip("monailabel", reason="MONAI Label is not installed: see docs/label.md and .ci/label")
import requests
from monailabel.client import MONAILabelClient
from monailabel.client.client import MONAILabelClientException

FIGSHARE = Path(__file__).resolve().parents[3] / "shared" / "figshare"
REAL_IDS = (1, 60, 211, 301, 442, 601, 950, 2000)
BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
STUDENT = {"features": [8, 8, 16, 16, 16, 8], "norm": "batch", "image_size": 64}
TEACHER = {**STUDENT, "features": [8, 16, 16, 16, 32, 8], "vit_name": "vit_tiny_patch16_224", "vit_image_size": 32}
CLASSIFIER = {
    "network_name": "test_efficientnet",
    "image_size": 64,
    "class_names": ["meningioma", "glioma", "pituitary"],
}
TURNED = np.diag([-0.49, -0.49, 6.0, 1.0])


def save(folder: Path, network: torch.nn.Module, settings: dict) -> Path:
    folder.mkdir(parents=True)
    torch.save(network.state_dict(), folder / "model.pt")
    (folder / "settings.json").write_text(json.dumps(settings))
    return folder / "model.pt"


@pytest.fixture(scope="module")
def planes(tmp_path_factory) -> list[np.ndarray]:
    """Real slices when they are at hand, else noise that is not square."""
    if not (FIGSHARE / "build_mat.py").exists():
        return [np.random.default_rng(i).normal(100, 30, (96, 80)).astype(np.int16) for i in range(8)]
    folder = tmp_path_factory.mktemp("mat")
    script = [sys.executable, str(FIGSHARE / "build_mat.py"), str(folder), "--jobs", "1", "--ids"]
    subprocess.run(script + [str(number) for number in REAL_IDS], check=True, capture_output=True)
    return [read_image(path)[0][20:500, :, 0].astype(np.int16) for path in sorted(folder.glob("[0-9]*.mat"))]


@pytest.fixture(scope="module")
def checkpoints(planes, tmp_path_factory) -> dict[str, Path]:
    """Networks of random weights, of which the student marks half of a slice: any disagreement shows."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs")
    relu = ("relu", {"inplace": True})
    student = BasicUNet(2, 3, 1, STUDENT["features"], act=relu, norm="batch")
    student.eval()
    # About as the bundle prepares it.
    scaled = torch.as_tensor((planes[0] / planes[0].max() - 0.45) / 0.22, dtype=torch.float32)[None, None]
    scaled = torch.nn.functional.interpolate(scaled, (64, 64))
    with torch.no_grad():
        student.final_conv.bias -= student(scaled.expand(1, 3, -1, -1)).median()
    teacher = HybridUNet(3, 1, TEACHER["features"], "batch", vit_name=TEACHER["vit_name"], vit_image_size=32)
    classifier = timm.create_model("test_efficientnet", num_classes=3)
    return {
        "segmentation": save(folder / "student", student, STUDENT),
        "teacher": save(folder / "teacher", teacher, TEACHER),
        "classification": save(folder / "classifier", classifier, CLASSIFIER),
    }


@pytest.fixture(scope="module")
def studies(planes, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("studies")
    first = planes[0].astype(float)
    grey = 255 * (first - first.min()) / np.ptp(first)
    Image.fromarray(grey.astype(np.uint8).T).save(folder / "picture.png")
    Image.fromarray(grey.astype(np.uint8).T).save(folder / "photo.jpg")
    flat = nib.Nifti1Image(planes[0], TURNED)
    flat.header["pixdim"][3] = 6  # nibabel leaves 1
    nib.save(flat, folder / "flat.nii.gz")
    nib.save(nib.Nifti1Image(planes[1][..., None], TURNED), folder / "single.nii.gz")
    nib.save(nib.as_closest_canonical(nib.Nifti1Image(planes[2][..., None], TURNED)), folder / "canonical.nii")
    nib.save(nib.Nifti1Image(np.stack(planes[3:6], -1), TURNED), folder / "volume.nii.gz")
    for number, plane in enumerate(planes[6:]):
        nib.save(nib.Nifti1Image(plane[..., None], TURNED), folder / f"more{number}.nii.gz")
    return folder


KINDS = ["picture", "photo", "flat", "single", "canonical", "volume"]


def path_of(studies: Path, name: str) -> Path:
    (path,) = studies.glob(f"{name}.*")
    return path


class Server:
    """A server in a process of its own, begun by the line of the page, on a copy of the images.

    Args:
        folder: where the line is run.
        studies: the images, or an address of DICOMweb.
        line: that of `page_lines.LABEL`.
        more: settings of the environment.
    """

    def __init__(self, folder: Path, studies: Path | str, line: list[str], **more: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        (words,) = map(shlex.split, lines_of_label(line))
        given = ("FOLDER_OF_IMAGES", "http://127.0.0.1:8042/dicom-web")
        words = [str(studies) if word in given else word for word in words]
        # Variables in front of the command.
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            more[name] = value
        words = [word for word in words if word not in ("--port", "8000")] + ["--port", str(port)]
        self.folder, self.app = folder, folder / words[words.index("--app") + 1]
        self.studies, self.log = studies, folder / "server.log"
        # It starts whichever python comes first.
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                words, cwd=folder, stdout=log, stderr=log, env={**environment(), **more}, start_new_session=True
            )
        self.address = f"http://127.0.0.1:{port}"
        self.client = MONAILabelClient(self.address, tmpdir=str(folder))

    def wait(self, seconds: float = 900) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            try:
                return requests.get(f"{self.address}/info/", timeout=30).raise_for_status()
            except requests.ConnectionError:
                time.sleep(0.5)
        raise AssertionError(f"the server does not answer: {self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)

    def mask(self, name: str, model: str, **params) -> Path:
        file, self.said = self.client.infer(model, name, params)
        return Path(file)

    def train(self, model: str, **params) -> str:
        self.client.train_start(model, params)
        for _ in range(600):
            task = self.client.train_status()
            if task["status"] not in ("RUNNING", "SUBMITTED"):
                assert task["status"] == "DONE", "\n".join(task["details"])
                return "\n".join(task["details"])
            time.sleep(0.5)
        raise AssertionError("training does not end")


def environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def lines_of_label(beginnings: list[str]) -> list[str]:
    """The lines of docs/label.md with some of the beginnings of `page_lines.LABEL`."""
    return [line for beginning in beginnings for line in lines_of(LABEL_PAGE, beginning)]


def run_lines(folder: Path, beginnings: list[str]) -> None:
    """Run lines of the page in a folder."""
    for line in lines_of_label(beginnings):
        subprocess.run(line, shell=True, cwd=folder, env=environment(), check=True, capture_output=True)


def made(checkpoints: dict[str, Path], folder: Path) -> Path:
    """A folder with the weights where the page has them, and the app that it makes of them."""
    names = {"segmentation": "seg_student", "teacher": "seg_teacher", "classification": "cls_student"}
    for what, name in names.items():
        shutil.copytree(checkpoints[what].parent, folder / "runs" / name)
    run_lines(folder, LABEL["app"])
    return folder


def served(server: Server) -> Iterator[Server]:
    try:
        server.wait()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def stock(checkpoints, studies, tmp_path_factory) -> Iterator[Server]:
    """MONAI Label's own app for bundles, with our student in its ``model/``."""
    folder = made(checkpoints, tmp_path_factory.mktemp("stock"))
    run_lines(folder, LABEL["stock app"])
    images = shutil.copytree(studies, folder / "studies")
    yield from served(Server(folder, images, LABEL["stock server"]))


@pytest.fixture(scope="module")
def own(checkpoints, studies, tmp_path_factory) -> Iterator[Server]:
    folder = made(checkpoints, tmp_path_factory.mktemp("own"))
    # In paths of training images, MONAI's configs would make :: of it.
    images = shutil.copytree(studies, folder / "studies#1")
    yield from served(Server(folder, images, LABEL["server"]))


def by_the_bundle(checkpoints, studies: Path, name: str) -> np.ndarray:
    """(X, Y) or (X, Y, slices)."""
    predictor = BundlePredictor(BUNDLES / "seg_student", checkpoints["segmentation"], device="cpu")
    image, meta = read_image(path_of(studies, name))
    return np.asarray(torch.as_tensor(predictor(image, meta)["pred"])[0])


def check_mask(file: Path, source: Path, expected: np.ndarray, depth: bool) -> None:
    """Same pixels, kind and geometry as the file that was asked about."""
    assert 0.01 < expected.mean() < 0.99
    if source.suffix in (".png", ".jpg"):
        # Not JPEG, which changes the values; and the suffix is not all that was changed.
        assert (file.suffix, Image.open(file).format) == (".png", "PNG")
        mask = np.asarray(Image.open(file)).T
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, expected)
        return
    found, original = nib.load(file), nib.load(source)
    shape = (*original.shape, 1)[:3] if depth else original.shape
    assert (found.shape, found.get_data_dtype()) == (shape, np.uint8)
    assert found.header.get_zooms()[:2] == pytest.approx(original.header.get_zooms()[:2])
    # Also of slices with two axes, where ITK warns of a spacing that is not that of the affine.
    assert found.header["pixdim"][3] == pytest.approx(6)
    spacing = pytest.importorskip("SimpleITK").ReadImage(str(file)).GetSpacing()
    assert spacing == pytest.approx((*original.header.get_zooms()[:2], 6)[: len(shape)])
    np.testing.assert_allclose(found.affine, original.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asanyarray(found.dataobj).reshape(expected.shape), expected)


@pytest.mark.parametrize("name", KINDS)
def test_stock_app_gives_the_masks_of_the_bundle(stock, checkpoints, studies, name):
    expected = by_the_bundle(checkpoints, studies, name)
    check_mask(stock.mask(name, "seg_student"), path_of(studies, name), expected, depth=True)
    assert stock.said["label_names"] == {"tumour": 1}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("model", ["segmentation", "both"])
def test_own_app_gives_the_masks_of_the_bundle_as_the_file_is(own, checkpoints, studies, name, model):
    expected = by_the_bundle(checkpoints, studies, name)
    check_mask(own.mask(name, model), path_of(studies, name), expected, depth=False)
    volume = expected.reshape(*expected.shape[:2], -1)
    assert own.said["found"]["area_px"] == volume.sum(axis=(0, 1)).max()
    assert ("prediction" in own.said) == (model == "both")


@pytest.mark.parametrize("name", ["flat", "volume"])
def test_own_app_writes_what_viewers_ask_for(own, checkpoints, studies, name):
    """3D Slicer asks for NRRD."""
    import nrrd

    array, header = nrrd.read(str(own.mask(name, "segmentation", result_extension=".nrrd")))
    expected = by_the_bundle(checkpoints, studies, name)
    np.testing.assert_array_equal(array.reshape(expected.shape), expected)
    assert np.abs(np.diag(header["space directions"]))[:2] == pytest.approx([0.49, 0.49])


@pytest.mark.parametrize("name", ["picture", "single", "volume"])
def test_own_app_classifies(own, checkpoints, studies, name):
    predictor = BundlePredictor(BUNDLES / "cls_student", checkpoints["classification"], device="cpu")
    image, meta = read_image(path_of(studies, name))
    expected = np.asarray(torch.as_tensor(predictor(image, meta)["pred"])).reshape(3, -1)
    answer = requests.post(f"{own.address}/infer/classification?image={name}&output=json", timeout=60).json()
    if name == "volume":
        for number, row in enumerate(answer["slices"]):
            scores = [row[f"p_{each}"] for each in CLASSIFIER["class_names"]]
            assert scores == pytest.approx(expected[:, number], abs=1e-4)
    else:
        assert [each["score"] for each in answer["prediction"]] == sorted(
            (round(float(score), 4) for score in expected[:, 0]), reverse=True
        )
        assert {each["label"] for each in answer["prediction"]} == set(CLASSIFIER["class_names"])


def test_a_file_can_be_sent(own, checkpoints, studies):
    path = path_of(studies, "flat")
    with open(path, "rb") as file:
        answer = requests.post(
            f"{own.address}/infer/segmentation?output=image", files={"file": (path.name, file)}, timeout=60
        )
    answer.raise_for_status()
    received = own.folder / "received.nii.gz"
    received.write_bytes(answer.content)
    check_mask(received, path, by_the_bundle(checkpoints, studies, "flat"), depth=False)


REFUSED = {
    "no picture": ("segmentation", "", "no picture", "the image can't be used"),
    "no such image": ("classification", "nothing", None, "there is no image of this name"),
    "no such model": ("lungs", "single", None, "There is no model 'lungs' available"),
}


@pytest.mark.parametrize(("model", "image", "content", "line"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_is_an_answer_with_the_reason_and_the_server_goes_on(own, model, image, content, line):
    files = None if content is None else {"file": ("bad.png", content.encode())}
    answer = requests.post(f"{own.address}/infer/{model}?image={image}&output=json", files=files, timeout=60)
    assert answer.status_code == 422
    assert line in answer.json()["detail"]
    assert requests.get(f"{own.address}/info/", timeout=30).json()["name"] == "monai_kd"


def test_refusals_reach_the_client_of_monai_label(own):
    with pytest.raises(MONAILabelClientException, match=r"Status: 422.*changes its values") as caught:
        own.client.infer("segmentation", "single", {"result_extension": ".jpg"})
    assert "Internal Server Error" not in str(caught.value)
    with pytest.raises(MONAILabelClientException, match=r"Status: 422.*no such strategy"):
        own.client.next_sample("clever", {})


def test_a_batch_goes_on_after_a_bad_image(own, tmp_path):
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    own.client.upload_image(str(tmp_path / "broken.nii.gz"), "broken")
    try:
        options = {"max_workers": 1, "save_label": False, "images": ["broken", "flat", "single"]}
        address = f"{own.address}/batch/infer/segmentation?run_sync=true"
        answer = requests.post(address, json=options, timeout=120)
        answer.raise_for_status()
        found = answer.json()
    finally:
        requests.delete(f"{own.address}/datastore/image?id=broken", timeout=30).raise_for_status()
    assert "the image can't be used" in found["broken"]["error"]
    assert {name for name, each in found.items() if "found" in each.get("params", {})} == {"flat", "single"}


@pytest.mark.parametrize("model", ["segmentation", "classification", "both"])
def test_a_device_is_no_code(own, tmp_path, model):
    marker = tmp_path / "marker"
    for device in (f"$__import__('pathlib').Path({str(marker)!r}).touch()", "@checkpoint", "toaster"):
        params = {"params": json.dumps({"device": device})}
        answer = requests.post(f"{own.address}/infer/{model}?image=single&output=json", data=params, timeout=60)
        assert answer.status_code == 422
        assert "device must be one of" in answer.json()["detail"]
    assert not marker.exists()
    assert requests.get(f"{own.address}/info/", timeout=30).json()["name"] == "monai_kd"


def test_options_of_a_training_are_no_code(own, tmp_path):
    marker = tmp_path / "marker"
    code = f"$__import__('pathlib').Path({str(marker)!r}).touch()"
    before = (own.app / "model" / "seg_student" / "models" / "model.pt").read_bytes()
    for option in ("device", "tracking"):
        own.client.train_start("segmentation", {option: code})
        status = {"status": "SUBMITTED"}
        end = time.monotonic() + 400
        while status["status"] in ("SUBMITTED", "RUNNING") and time.monotonic() < end:
            time.sleep(0.5)
            status = own.client.train_status()
        assert status["status"] == "ERROR"
        assert f"{option} must be" in "\n".join(status["details"])
    assert not marker.exists()
    assert (own.app / "model" / "seg_student" / "models" / "model.pt").read_bytes() == before


def test_stock_app_serves_no_weights_that_do_not_fit(tmp_path, caplog):
    """MONAI Label does not load strictly, and would serve a random network; the bundle loads by itself."""
    from monailabel.tasks.infer.bundle import BundleInferTask

    bundle = tmp_path / "seg_student"
    shutil.copytree(BUNDLES / "seg_student", bundle, ignore=shutil.ignore_patterns("models"))
    save(bundle / "models", BasicUNet(2, 3, 1, (4, 4, 8, 8, 8, 4), norm="batch"), STUDENT)
    with pytest.raises(RuntimeError) as caught:
        BundleInferTask(str(bundle), {})
    assert "does not fit BasicUNet" in str(caught.value.__cause__)


def test_info(own, stock):
    info = own.client.info()
    assert set(info["models"]) == {"segmentation", "classification", "both"}
    assert (info["labels"], set(info["trainers"])) == (["tumour"], {"segmentation"})
    assert set(info["strategies"]) == {"random", "first", "entropy", "disagreement"}
    assert info["datastore"]["total"] == len(KINDS) + 2
    assert set(stock.client.info()["models"]) == {"seg_student"}


@pytest.mark.parametrize("strategy", ["entropy", "disagreement"])
def test_the_next_slice_is_the_one_that_is_least_certain(own, checkpoints, studies, strategy):
    from monai_kd.metrics import slice_disagreement, slice_entropy

    student, teacher = (
        BundlePredictor(BUNDLES / bundle, checkpoints[name], device="cpu")
        for bundle, name in (("seg_student", "segmentation"), ("seg_teacher", "teacher"))
    )
    scores = {}
    for path in studies.iterdir():
        image, meta = read_image(path)
        one, other = (np.asarray(torch.as_tensor(each(image, meta)["probability"])[0]) for each in (student, teacher))
        scores[path.name.split(".")[0]] = (
            slice_entropy(one) if strategy == "entropy" else slice_disagreement(one, other)
        )
    ranking = sorted(scores, key=scores.get, reverse=True)
    for expected in ranking[:3]:
        # Who passes one over gets the next.
        sample = own.client.next_sample(strategy, {})
        assert sample["id"] == expected
        assert sample["score"] == pytest.approx(scores[expected], rel=1e-3)
        time.sleep(1.1)  # MONAI Label counts in seconds


def test_curl_lines_of_the_page(own, checkpoints, studies, tmp_path):
    # After the test above: images that were offered come last, and a line asks for one.
    if shutil.which("curl") is None:
        pytest.skip("there is no curl")
    shutil.copy(path_of(studies, "flat"), tmp_path / "slice.nii.gz")
    lines = lines_of_label(LABEL["requests"])
    assert len(lines) == 5
    for line in lines:
        line = line.replace("http://127.0.0.1:8000", own.address).replace("IMAGE_ID", "flat")
        run = subprocess.run(f"{line} --fail --silent", shell=True, cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 0, (line, run.stderr)
    expected = by_the_bundle(checkpoints, studies, "flat")
    check_mask(tmp_path / "mask.nii.gz", path_of(studies, "flat"), expected, depth=False)
    assert b"area_px" in (tmp_path / "answer.multipart").read_bytes()


def label_all(server: Server, planes: list[np.ndarray], tmp_path: Path) -> None:
    """Save a label for slices and for the volume, as a viewer does."""
    for name in ("single", "more0", "more1", "volume"):
        image = nib.load(path_of(server.studies, name))
        mask = (np.asanyarray(image.dataobj) > np.percentile(image.dataobj, 90)).astype(np.uint8)
        nib.save(nib.Nifti1Image(mask, image.affine), tmp_path / f"{name}.nii.gz")
        server.client.save_label(name, str(tmp_path / f"{name}.nii.gz"), "final", {})
    assert server.client.info()["datastore"]["completed"] == 4


@pytest.mark.parametrize(("which", "model"), [("stock", "seg_student"), ("own", "segmentation")])
def test_training_from_the_client_trains_once_and_publishes(request, planes, tmp_path, which, model):
    server = request.getfixturevalue(which)
    label_all(server, planes, tmp_path)
    before = server.mask("flat", model).read_bytes()
    models = server.app / "model" / "seg_student" / "models"
    weights = (models / "model.pt").read_bytes()
    # 3D Slicer sends every option back, lists as what is chosen in them.
    options = server.client.info()["trainers"][model]["config"] if which == "own" else {}
    chosen = {name: value[0] if isinstance(value, list) else value for name, value in options.items()}
    said = server.train(model, **{**chosen, "max_epochs": 3})
    assert (models / "model.pt").read_bytes() != weights
    # What was served is validated first, as epoch 0.
    assert [line.split(",")[0] for line in (models / "log.csv").read_text().splitlines()] == ["epoch", *"0123"]
    assert said.count("epoch 3/3") == 1
    # The stock app has no teacher; ours distils.
    assert ("attention" in (models / "log.csv").read_text()) == (which == "own")
    after = server.mask("flat", model).read_bytes()
    assert after != before
    student = BundlePredictor(server.app / "model" / "seg_student", models / "model.pt", device="cpu")
    image, meta = read_image(path_of(server.studies, "flat"))
    published = np.asarray(torch.as_tensor(student(image, meta)["pred"])[0])
    found = np.asanyarray(nib.load(server.mask("flat", model)).dataobj).reshape(published.shape)
    np.testing.assert_array_equal(found, published)
