"""Text from outside stays text, at every door: names of files and folders, settings.json, data lists, requests.

MONAI's ``ConfigParser`` evaluates text that begins with ``$``, looks up ``@`` and ``%``, and writes ``::`` for ``#``.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from disc_slices import write_disc_slices
from monai.bundle import ConfigParser, create_workflow
from students import SIZE, UNET, classification_student, segmentation_student

from monai_kd.__main__ import main
from monai_kd.bundle import Teacher, find_bundle
from monai_kd.bundle import teacher as teacher_module
from monai_kd.bundle.students import load_students
from monai_kd.config import cause_of, literal
from monai_kd.data import class_names, load_fold
from monai_kd.export import package
from monai_kd.inference import BundlePredictor, read_image
from monai_kd.io.table import read_table
from monai_kd.io.trained import read_settings
from monai_kd.label.request import literal_overrides, requested_device, training_request
from monai_kd.label.served import ServedBundle
from monai_kd.networks import HybridUNet
from monai_kd.serve.uploads import examine_uploads

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
CODE = "$__import__('pathlib').Path('marker').touch()"
# Without a slash, so that files can be called so too.
NAMES = {"expression": CODE, "reference": "@device", "macro": "%device", "separator": "a#b", "relative": "@#x%##y"}
EVERY_NAME = pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
COMPONENT = {"_target_": "pathlib.Path.touch", "self": "$__import__('pathlib').Path('marker')"}


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Paths are relative, so that the four characters come first; what is run leaves a file."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / "marker").exists()


@pytest.fixture(scope="module")
def students(tmp_path_factory) -> dict[str, Path]:
    """Folders of a checkpoint and its settings.json each, to be copied."""
    folders = {what: tmp_path_factory.mktemp(what) for what in ("segmentation", "classification")}
    segmentation_student(folders["segmentation"])
    classification_student(folders["classification"], class_names=[CODE, "@device", "a#b"])
    return folders


def bundle(name: str, folder: str) -> Path:
    return Path(shutil.copytree(BUNDLES / name, Path(folder) / name))


def save_slice(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(0).normal(100, 30, (SIZE, SIZE)).clip(0)
    image[8:16, 8:16] = 900
    nib.save(nib.Nifti1Image(image.astype(np.int16), np.diag([-0.5, -0.5, 4.0, 1.0])), path)
    return path


def test_the_text_would_run(tmp_path):
    """Otherwise nothing here would be a test."""
    ConfigParser({"a": CODE}).get_parsed_content("a")
    assert (tmp_path / "marker").exists()
    (tmp_path / "marker").unlink()
    ConfigParser({"a": COMPONENT}).get_parsed_content("a")
    assert (tmp_path / "marker").exists()
    (tmp_path / "marker").unlink()


@EVERY_NAME
def test_predictor_of_a_bundle_and_a_checkpoint_in_such_folders(students, name):
    folder = bundle("seg_student", name)
    shutil.copytree(students["segmentation"], Path(name) / "run")
    predict = BundlePredictor(folder, Path(name) / "run" / "model.pt", output_dir=name, device="cpu")
    assert predict.value("bundle_root") == str(folder.resolve())
    assert predict.value("checkpoint") == f"{name}/run/model.pt"
    assert predict.value("trained").items() >= {"network_def": UNET, "image_size": SIZE}.items()
    assert predict.value("output_dir") == name
    assert predict(*read_image(save_slice(Path(name) / f"{name}.nii.gz")))["pred"].sum() == 64


@EVERY_NAME
@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("device", "device must be one of cpu"),
        ("threshold", "threshold must be a number"),
        ("smallest_area_mm2", "smallest_area_mm2 must be a number from 0"),
        ("batch_size", "batch_size must be a whole number from 1"),
        ("trained#image_size", "unknown override: --trained#image_size"),
    ],
)
def test_predictor_refuses_values_of_another_kind(students, name, key, message):
    values = {"device": "cpu", key: name}
    with pytest.raises(ValueError, match=message):
        BundlePredictor(BUNDLES / "seg_student", students["segmentation"] / "model.pt", **values)


def test_predictor_builds_nothing_from_a_value(students):
    values = {"device": "cpu", "input": COMPONENT, "output_dir": [COMPONENT, {"a": COMPONENT}]}
    predict = BundlePredictor(BUNDLES / "cls_student", students["classification"] / "model.pt", **values)
    assert predict.value("input") == COMPONENT
    assert predict.value("output_dir") == [COMPONENT, {"a": COMPONENT}]


def begun(file: Path, **values: Any) -> None:
    """What a training builds before it trains."""
    workflow = create_workflow(config_file=str(file), workflow_type="train", **values)
    for part in ("network", "train#dataset"):
        workflow.parser.get_parsed_content(part)


@pytest.mark.parametrize("value", [*NAMES.values(), COMPONENT], ids=[*NAMES, "component"])
@pytest.mark.parametrize(
    ("what", "key"),
    [
        *(("segmentation", key) for key in ("network_def", "network_def._target_", "network_def.norm", "image_size")),
        *(("segmentation", key) for key in ("network_def.features", "mean", "std", "activation", "multiclass")),
        *(("classification", key) for key in ("network_def", "network_def.name", "image_size", "class_names")),
    ],
)
def test_settings_of_another_kind_are_an_error(students, what, key, value):
    folder = Path(shutil.copytree(students[what], "run"))
    settings = json.loads((folder / "settings.json").read_text())
    *outer, last = key.split(".")
    (settings[outer[0]] if outer else settings)[last] = value
    (folder / "settings.json").write_text(json.dumps(settings))
    name = {"segmentation": "seg_student", "classification": "cls_student"}[what]
    with pytest.raises((ValueError, RuntimeError)):
        BundlePredictor(BUNDLES / name, folder / "model.pt", device="cpu")
    # Also where a training begins with it.
    if what == "segmentation":
        values = {"init_checkpoint": str(folder / "model.pt"), "recipe": "none", "device": "cpu", "logging_file": False}
        values["dataset_dir"] = str(write_disc_slices(Path("data").absolute(), count=6))
        with pytest.raises((ValueError, RuntimeError)):
            begun(BUNDLES / name / "configs" / "train.json", **values)


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "pathlib.Path.touch", "torch.nn.Conv2d"])
def test_a_network_of_a_stranger_is_not_built_where_a_training_begins_with_it(students, target):
    folder = Path(shutil.copytree(students["segmentation"], "run"))
    settings = json.loads((folder / "settings.json").read_text())
    settings["network_def"] = {"_target_": target, **({} if target.startswith("torch") else {"self": "marker"})}
    (folder / "settings.json").write_text(json.dumps(settings))
    values = {"init_checkpoint": "run/model.pt", "recipe": "none", "device": "cpu", "logging_file": False}
    values["dataset_dir"] = str(write_disc_slices(Path("data").absolute(), count=6))
    file = str(BUNDLES / "seg_student" / "configs" / "train.json")
    workflow = create_workflow(config_file=file, workflow_type="train", **values)
    with pytest.raises(RuntimeError) as caught:
        workflow.run()
    assert f"{target} is no network of monai.networks.nets or monai_kd.networks" in str(cause_of(caught.value))


def test_class_names_of_settings_are_text(students):
    predict = BundlePredictor(BUNDLES / "cls_student", students["classification"] / "model.pt", device="cpu")
    assert predict.value("class_names") == [CODE, "@device", "a#b"]


@EVERY_NAME
def test_report(students, name):
    folder = Path(name)
    for each in ("seg_student", "cls_student"):
        bundle(each, f"{name}/bundles")
    for what, source in students.items():
        shutil.copytree(source, folder / what)
    save_slice(folder / "in" / f"{name}.nii.gz")
    given = ["--device", "cpu", "--bundles", f"{name}/bundles"]
    for what in students:
        given += [f"--{what}", f"{name}/{what}/model.pt"]
    assert main(["report", f"{name}/in", "--output_dir", f"{name}/out", *given]) == 0
    (row,) = read_table(folder / "out" / "report.csv")
    assert (row["file"], row["status"], row["area_px"]) == (f"{name}.nii.gz", "ok", "64")
    assert row["class"] in (CODE, "@device", "a#b")
    assert (folder / "out" / row["mask"]).is_file()


@EVERY_NAME
def test_report_on_a_device_that_is_none(students, name, capsys):
    save_slice(Path("in") / "slice.nii.gz")
    checkpoints = [word for what, folder in students.items() for word in (f"--{what}", str(folder / "model.pt"))]
    assert main(["report", "in", "--output_dir", "out", "--device", name, *checkpoints]) == 2
    assert "--device must be one of cpu" in capsys.readouterr().err


def test_uploads(students):
    paths = {what: folder / "model.pt" for what, folder in students.items()}
    networks = load_students(**paths, device="cpu")
    content = save_slice(Path("slice.nii.gz")).read_bytes()
    uploads = [(f"{name}.nii.gz", io.BytesIO(content)) for name in NAMES.values()]
    answers = {answer["file"]: answer for answer in examine_uploads(uploads, networks)}
    assert answers.keys() == {f"{name}.nii.gz" for name in NAMES.values()}
    for name, answer in answers.items():
        assert (answer["status"], answer["area_px"]) == ("ok", 64)
        assert answer["mask"]["name"] == name.replace(".nii.gz", "_mask.nii.gz")
        assert set(answer["probabilities"]) == {CODE, "@device", "a#b"}


def test_export(students, monkeypatch, capsys):
    """Without the network itself, which takes long."""
    monkeypatch.setattr(package, "require_extra", lambda *arguments: None)
    monkeypatch.setattr(package, "write_onnx", lambda *arguments: None)
    monkeypatch.setattr(package, "_check", lambda *arguments: 0.0)
    bundle("cls_student", CODE)
    shutil.copytree(students["classification"], Path("@device") / "a#b")
    assert main(["export", "cls_student", "@device/a#b/model.pt", "%out#1", "--bundles", CODE]) == 0, (
        capsys.readouterr()
    )
    assert json.loads(Path("%out#1/settings.json").read_text())["class_names"] == [CODE, "@device", "a#b"]


@EVERY_NAME
def test_label_app(students, name):
    shutil.copytree(students["segmentation"], Path(name) / "run")
    assert main(["label_app", f"{name}/app", "--segmentation", f"{name}/run/model.pt"]) == 0
    served = ServedBundle(Path(name) / "app" / "model" / "seg_student")
    assert served.predictor("cpu").value("checkpoint") == f"{name}/app/model/seg_student/models/model.pt"
    with pytest.raises(ValueError, match="device must be one of"):
        served.predictor(name)


@EVERY_NAME
def test_label_requests(name):
    with pytest.raises(ValueError, match="device must be one of"):
        requested_device(name, {})
    for option in ("device", "max_epochs", "val_split", "multi_gpu", "gpus", "pretrained", "run_id", "tracking"):
        with pytest.raises(ValueError, match=f"^{option} must be"):
            training_request({"model": "segmentation", option: name}, {})
    items = [{"image": f"/{name}/1.nii.gz", "label": f"/{name}/2.nii.gz"}]
    overrides = {"bundle_root": name, "device": name, "train#dataset#data": items, "validate#dataset#data": []}
    parser = ConfigParser({"train": {"dataset": {}}, "validate": {"dataset": {}}})
    parser.update(literal_overrides(overrides))
    # As a list, or train.json takes it for its own expression.
    assert isinstance(parser["train#dataset#data"], list)
    assert {key: parser.get_parsed_content(key) for key in overrides} == overrides


TEACHER = {
    **{"epochs": 1, "batch_size": 4, "image_size": 32, "learning_rate": 1e-3, "amp": False, "device": "cpu", "seed": 0},
    **{"features": [4, 8, 8, 8, 16, 4], "norm": "batch", "vit_name": "test_vit", "vit_image_size": 32},
}


def run_of(data: Path | str) -> dict[str, Any]:
    return {"dataset_dir": str(data), "fold": 0, "leave_out": [], "preset": "full"}


def test_a_teacher_is_trained_in_such_folders(tmp_path):
    data = write_disc_slices(Path("%data#1").absolute())
    teacher = Teacher(None, bundle("seg_teacher", "@bundles"), CODE, run_of(data), TEACHER)
    assert isinstance(teacher.load(), HybridUNet)
    expected = Path(teacher.settings["checkpoint"])
    assert expected.is_file()
    assert expected.parent.parent == tmp_path / CODE
    assert read_settings(expected.parent / "settings.json")["dataset_dir"] == str(data)


@EVERY_NAME
def test_what_a_teacher_is_trained_with_is_the_values_themselves(name, monkeypatch):
    """Also those that come out of a settings.json, and with the folder named after them as before."""
    workflows: list[Any] = []

    class Workflow(teacher_module.Workflow):
        def __init__(self, *args: Any, **given: Any) -> None:
            super().__init__(*args, **given)
            workflows.append(self)

    monkeypatch.setattr(teacher_module, "Workflow", Workflow)
    built = [object()]
    write_disc_slices(Path(name).absolute())
    overrides = {**TEACHER, "device": name, "norm": [name, COMPONENT], "vit_name": name, "augmentation": built}
    teacher = Teacher(None, bundle("seg_teacher", "bundles"), name, run_of(name), overrides)
    network = teacher.trained["network_def"]
    assert (network["norm"], network["vit_name"]) == ([name, COMPONENT], name)
    (workflow,) = workflows
    given = {**run_of(name), **overrides}
    assert {key: workflow.value(key) for key in given} == given
    assert workflow.value("augmentation")[0] is built[0]
    assert Path(workflow.value("output_dir")).resolve() == Path(teacher.settings["checkpoint"]).parent


@EVERY_NAME
@pytest.mark.parametrize("key", ["fold", "epochs", "image_size", "features", "amp"])
def test_what_a_teacher_is_trained_with_is_checked(name, key):
    write_disc_slices(Path("data").absolute())
    teacher = Teacher(None, bundle("seg_teacher", "bundles"), "out", run_of("data"), {**TEACHER, key: name})
    with pytest.raises(ValueError, match=f"teacher_overrides: {key} must be"):
        teacher.untrained()


@EVERY_NAME
@pytest.mark.parametrize("names", ["files", "classes"])
def test_data_lists(name, names):
    data = write_disc_slices(Path(name).absolute(), count=6)
    datalist = json.loads((data / "datalist.json").read_text())
    if names == "files":
        for entry in datalist["training"]:
            for key in ("image", "label"):
                path = data / entry[key]
                entry[key] = str(path.rename(path.with_name(f"{name}{path.name}")).relative_to(data))
            entry["source"] = name
    else:
        datalist["labels"] = {"1": CODE, "2": "@device", "3": "a#b"}
    (data / "datalist.json").write_text(json.dumps(datalist))
    bundle("seg_teacher", "bundles")
    workflow = create_workflow(
        config_file=str(bundle("seg_student", "bundles") / "configs" / "train.json"),
        workflow_type="train",
        logging_file=False,
        device="cpu",
        image_size=32,
        dataset_dir=literal(data),
        output_dir=literal(name),
    )
    assert workflow.parser.get_parsed_content("data_dir") == str(data)
    dataset = workflow.parser.get_parsed_content("train#dataset")
    expected = load_fold(data, 0, "training")
    assert [{key: item[key] for key in expected[0]} for item in dataset.data] == expected
    assert class_names(data) == list(datalist["labels"].values())
    assert workflow.parser.get_parsed_content("validate#handlers#0").class_names == class_names(data)


@EVERY_NAME
def test_bundles_in_such_folders(name):
    """``bundle_root`` is an expression, and what an expression gives is not parsed."""
    copied = bundle("cls_student", name)
    assert find_bundle("cls_student", name) == copied.resolve()
    workflow = create_workflow(
        config_file=str(copied / "configs" / "inference.json"), workflow_type="infer", logging_file=False
    )
    found = {key: workflow.parser.get_parsed_content(key) for key in ("bundle_root", "checkpoint", "output_dir")}
    root = str(copied.resolve())
    assert found == {"bundle_root": root, "checkpoint": f"{root}/models/model.pt", "output_dir": f"{root}/eval"}
