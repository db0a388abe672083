"""Paths are what was typed, at MONAI's own command line and from Python; unknown names are refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fire
import nibabel as nib
import numpy as np
import pytest
from monai.bundle import create_workflow
from PIL import Image
from tiny import OVERRIDES, cause, config, untrained

from monai_kd.bundle import Workflow
from monai_kd.bundle.overrides import PATHS
from monai_kd.config import literal
from monai_kd.io.trained import read_settings

# Names of folders that MONAI's command line takes for something else. Those that begin with % it looks up before
# anything of a config is evaluated.
TYPED = [
    *("pat#2/B.nii.gz", "100360", "2024_11", "1e3", "0x10", "1.50", "a,b", "[x]", "{a}", "(1)", "@home", "@home#1"),
    *("$x", "$__import__('os')", "~", "~/runs", "None", "True", "'quoted'", '"a b"'),
    *("runs/", "./runs", "./%x", "..", "a b", "é", "--name", "-1", "a=b", "#1", "::", "a::b", "\\"),
]
EVERY_PATH = pytest.mark.parametrize("typed", TYPED)
SOME_PATHS = pytest.mark.parametrize("typed", ["pat#2/B.nii.gz", "2024_11", "a,b", "@home", "$x", "~/runs", "None"])

CONFIG = {
    "imports": ["$import monai_kd.bundle as kd"],
    "bundle_root": "/bundle",
    "input": None,
    "dataset_dir": None,
    "output_dir": "$@bundle_root + '/models'",
    "checkpoint": "$@output_dir + '/model.pt'",
    "threshold": 0.5,
    "deeper": {"folder": "@input", "text": "$'in ' + str(@input)"},
    "home": "this is no folder",
    "initialize": ["$kd.accept_overrides()"],
}


def expected(typed: str) -> str:
    return os.path.normpath(os.path.expanduser(typed)) if typed.startswith(("~", "./", "runs/")) else typed


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    (tmp_path / "bundle" / "configs" / "inference.json").write_text(json.dumps(CONFIG))
    return tmp_path / "bundle" / "configs" / "inference.json"


@pytest.fixture(autouse=True)
def user_home(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def shell(bundle, monkeypatch) -> Callable[..., Any]:
    """A workflow as ``python -m monai.bundle run inferring --config_file …`` makes it: by Fire, of this line."""

    def run(*words: str):
        line = ["run", "inferring", "--config_file", str(bundle), "--logging_file", "False", *words]
        monkeypatch.setattr(sys, "argv", ["-m", *line])
        made = []

        def command(run_id: str, config_file: str, **override: Any) -> None:
            made.append(create_workflow(config_file=config_file, workflow_type="infer", **override))

        fire.Fire({"run": command}, command=line)
        return made[0].parser

    return run


class TestCommandLine:
    @SOME_PATHS
    def test_a_path_in_a_word_of_its_own(self, shell, typed):
        wanted = None if typed == "None" else expected(typed)
        assert shell("--input", typed).get_parsed_content("input") == wanted

    @EVERY_PATH
    def test_a_path_is_what_was_typed(self, shell, typed):
        parser = shell(f"--input={typed}")
        wanted = None if typed == "None" else expected(typed)
        assert parser.get_parsed_content("input") == wanted
        # what refers to it too, though MONAI has looked at it before
        assert parser.get_parsed_content("deeper") == {"folder": wanted, "text": f"in {wanted}"}

    @pytest.mark.parametrize("words", [["--home", "None"], ["--home=None"]])
    def test_none_removes_a_default(self, shell, words):
        """MONAI's command line drops it, and the default would stay."""
        assert shell().get_parsed_content("home") == "this is no folder"
        assert shell(*words).get_parsed_content("home") is None

    @pytest.mark.parametrize("typed", ["2024_11", "a,b", "exp#2", "~/runs"])
    def test_ids_that_are_made_of_a_path_follow_it(self, shell, typed):
        parser = shell("--output_dir", typed)
        assert parser.get_parsed_content("checkpoint") == f"{expected(typed)}/model.pt"

    def test_the_last_one_counts(self, shell):
        assert shell("--input=1", "--input", "2").get_parsed_content("input") == "2"
        assert shell("--input", "2", "--input=1").get_parsed_content("input") == "1"

    def test_hyphens_as_fire_takes_them(self, shell):
        assert shell("--output-dir", "2024_11").get_parsed_content("output_dir") == "2024_11"

    def test_other_values_are_read_as_ever(self, shell):
        parser = shell("--threshold", "0.3", "--input", "1", "--dataset_dir=100360")
        assert parser.get_parsed_content("threshold") == 0.3
        assert parser.get_parsed_content("dataset_dir") == "100360"
        assert shell("--threshold", "$1 / 4").get_parsed_content("threshold") == 0.25

    def test_what_was_not_given_stays(self, shell):
        assert shell("--threshold", "0.3").get_parsed_content("output_dir") == "/bundle/models"

    def test_a_path_that_begins_with_a_percent_sign_is_an_error(self, shell):
        """MONAI reads the file of the name before anything of the config is evaluated; ``./%x`` is the path."""
        with pytest.raises(KeyError, match=r"query key: x/A\.nii\.gz"):
            shell("--input=%x/A.nii.gz")

    def test_a_tilde_in_a_config_file(self, shell, bundle):
        bundle.write_text(json.dumps({**CONFIG, "output_dir": "~/runs", "input": "~/pat"}))
        parser = shell("--dataset_dir", "~/data")
        given = ("output_dir", "checkpoint", "input", "dataset_dir")
        wanted = ("~/runs", "~/runs/model.pt", "~/pat", "~/data")
        assert [parser.get_parsed_content(name) for name in given] == [os.path.expanduser(path) for path in wanted]

    @pytest.mark.parametrize(
        "words", [["--input="], ["--input", ""], ["--input"], ["--threshold", "0.3", "--output_dir"]]
    )
    def test_a_path_without_a_value(self, shell, words):
        with pytest.raises((ValueError, RuntimeError)) as caught:
            shell(*words)
        name = "output_dir" if "--output_dir" in words else "input"
        assert cause(caught.value).startswith(f"ValueError: --{name} has no value: give a path.")

    def test_a_home_folder_of_nobody(self, shell):
        with pytest.raises((ValueError, RuntimeError)) as caught:
            shell("--input=~nobody_of_this_name/a")
        said = "input is '~nobody_of_this_name/a', and there is no user of this name"
        assert cause(caught.value).startswith(f"ValueError: {said}")

    @pytest.mark.parametrize(
        ("word", "said"),
        [
            ("--inptu=a", "--inptu (did you mean --input"),
            ("--treshold=0.3", "--treshold (did you mean --threshold"),
            ("--deeper#file=1", "--deeper#file"),
        ],
    )
    def test_unknown_names_are_refused(self, shell, bundle, word, said):
        with pytest.raises((ValueError, RuntimeError)) as caught:
            shell(word)
        assert cause(caught.value).startswith(f"ValueError: unknown override: {said}")
        assert f"The config {bundle} has no such id" in cause(caught.value)


class TestPython:
    @pytest.mark.parametrize("make", [create_workflow, Workflow], ids=["monai", "monai_kd"])
    @SOME_PATHS
    def test_a_literal_is_the_path(self, bundle, typed, make):
        workflow = made(make, bundle, input=literal(typed))
        assert workflow.parser.get_parsed_content("input") == typed

    @pytest.mark.parametrize("make", [create_workflow, Workflow], ids=["monai", "monai_kd"])
    @pytest.mark.parametrize("typed", ["pat#2", "2024_11", "a,b", "[x]", "None", "~/runs", "a::b", "-1"])
    def test_text_is_a_path_and_a_tilde_the_home_folder(self, bundle, typed, make):
        workflow = made(make, bundle, input=typed)
        assert workflow.parser.get_parsed_content("input") == expected(typed)

    def test_a_path_of_pathlib_too(self, bundle):
        assert made(Workflow, bundle, input=Path("~/a#1")).parser.get_parsed_content("input") == expected("~/a#1")

    def test_expressions_and_references_are_those_of_the_caller(self, bundle):
        values = {"input": "$@threshold * 2", "dataset_dir": "@home"}
        parser = made(Workflow, bundle, **values).parser
        assert (parser.get_parsed_content("input"), parser.get_parsed_content("dataset_dir")) == (1.0, CONFIG["home"])

    def test_the_command_line_of_another_program_is_none_of_theirs(self, bundle, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["server", "--input", "uploads", "--output_dir=results"])
        parser = made(Workflow, bundle, input="1").parser
        assert parser.get_parsed_content("input") == "1"
        assert parser.get_parsed_content("output_dir") == "/bundle/models"


def made(make: Callable, file: Path, **values: Any):
    workflow = make(config_file=str(file), workflow_type="infer", logging_file=False, **values)
    if make is Workflow:
        workflow.initialize()
    return workflow


@pytest.mark.parametrize("bundle_name", OVERRIDES)
@pytest.mark.parametrize("name", ["train", "evaluate", "inference"])
def test_every_path_of_the_bundles_is_known_to_be_one(bundle_name, name):
    content = json.loads(Path(config(bundle_name, name)[0]).read_text())
    folders = {key for key in content if key.endswith(("_dir", "_root", "_checkpoint", "_bundle", "_store"))}
    assert folders | set(content) & {"input", "checkpoint"} <= PATHS | {"data_dir"}


def test_a_teacher_within_a_student_s_run_has_a_folder_of_its_own(disc_dataset, tmp_path, monkeypatch):
    """The teacher's workflow runs in the process whose command line names the student's output_dir."""
    monkeypatch.chdir(tmp_path)
    shown = str(disc_dataset)
    line = ["--output_dir", "2024_11", f"--dataset_dir={shown}", "--seed", "3"]
    monkeypatch.setattr(sys, "argv", ["-m", "run", "training", *line])
    # as Fire reads them
    given = {**OVERRIDES["seg_student"], "epochs": 1, "output_dir": 202411, "dataset_dir": shown, "seed": 3}
    workflow = create_workflow(config_file=config("seg_student", "train"), workflow_type="train", **given)
    workflow.run()
    assert {path.name for path in tmp_path.iterdir()} == {"2024_11"}
    (teacher,) = (tmp_path / "2024_11").glob("teacher-*")
    settings = read_settings(tmp_path / "2024_11" / "settings.json")
    assert settings["teacher"]["checkpoint"] == str(teacher / "model.pt")
    assert "HybridUNet" in (teacher / "settings.json").read_text()
    assert "BasicUNet" in (tmp_path / "2024_11" / "settings.json").read_text().replace("HybridUNet", "")


@pytest.mark.parametrize("bundle", ["seg_student", "cls_teacher"])
@pytest.mark.parametrize("name", ["inference", "evaluate", "train"])
def test_devices_that_are_not_there(bundle, name, tmp_path):
    options = {"device": "gpu", "output_dir": str(tmp_path / "out"), "logging_file": False}
    with pytest.raises(RuntimeError) as caught:
        create_workflow(config_file=config(bundle, name), workflow_type="train", **options)
    assert "device must be one of cpu" in cause(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("files", "given", "said"),
    [
        ([], {}, ""),
        (
            ["students/unetpp"],
            {"norm": "instance"},
            "--features, --norm: NOT used, since network_def does not refer to it",
        ),
        ([], {"init_checkpoint": "model.pt"}, "--features: NOT used, since the network is that of init_checkpoint"),
    ],
)
def test_widths_that_have_no_effect_are_said(files, given, said, disc_dataset, tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    untrained("seg_student", tmp_path)
    values = {
        **OVERRIDES["seg_student"],
        "recipe": "none",
        "dataset_dir": str(disc_dataset),
        "output_dir": "out",
        **given,
    }
    workflow = create_workflow(config_file=config("seg_student", "train", *files), workflow_type="train", **values)
    workflow.finalize()
    assert ("NOT used" in caplog.text) == bool(said)
    assert said in caplog.text


@pytest.mark.parametrize(
    ("names", "given", "said"),
    [
        (("cls_student", "train"), {"num_classes": 5}, "--num_classes can't be set: it follows from the classes of"),
        (("seg_student", "train"), {"given_data": True}, "--given_data can't be set: it follows from whether train#d"),
        (("cls_teacher", "train"), {"num_classes": 3}, "--num_classes"),
        (
            ("seg_student", "train", "volumes"),
            {"modalities": ["T1"]},
            "--modalities can't be set: it follows from 'modality' in d",
        ),
    ],
)
def test_what_the_data_set_holds_is_not_set(names, given, said, tmp_path):
    with pytest.raises(RuntimeError) as caught:
        create_workflow(config_file=config(*names), workflow_type="train", output_dir=str(tmp_path / "out"), **given)
    assert re.search(said, cause(caught.value))
    assert not list(tmp_path.iterdir())


class TestFromTheShell:
    """The very command, once for all: each run takes seconds."""

    def test_files_that_the_shell_put_behind_an_option_are_not_ignored(self, tmp_path):
        files = [tmp_path / f"s{number}.png" for number in range(3)]
        for file in files:
            Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(file)
        given = ["--config_file", *config("seg_student", "inference"), "--output_dir", tmp_path / "out"]
        command = [sys.executable, "-m", "monai.bundle", "run", "inferring", *given, "--input", *files]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 1
        assert f"'{files[1]}' is no id of the config, and was given as init_id" in ended.stderr
        assert "Traceback" not in ended.stderr
        assert not (tmp_path / "out").exists()

    def test_the_file_that_was_named_is_segmented_into_the_folder_that_was_named(self, tmp_path):
        random = np.random.default_rng(0)
        for folder, name in (("pat", "A"), ("pat#2", "B")):
            (tmp_path / folder).mkdir()
            image = nib.Nifti1Image(random.normal(size=(64, 64, 1)).astype(np.float32), np.diag([-1.0, -1.0, 5.0, 1.0]))
            nib.save(image, tmp_path / folder / f"{name}.nii.gz")
        checkpoint = untrained("seg_student", tmp_path / "1e3")
        line = [sys.executable, "-m", "monai.bundle", "run", "inferring"]
        line += ["--config_file", *config("seg_student", "inference"), "--checkpoint", "1e3/model.pt"]
        line += ["--input", "pat#2/B.nii.gz", "--output_dir=~/2024_11", "--overlays", "False", "--device", "cpu"]
        home = {"HOME": str(tmp_path / "home")}
        run = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **home})
        assert run.returncode == 0, run.stderr[-2000:]
        assert checkpoint.is_file()
        out = tmp_path / "home" / "2024_11"
        assert (out / "B_mask.nii.gz").is_file()
        assert "A.nii.gz" not in (out / "findings.csv").read_text()
        assert {path.name for path in tmp_path.iterdir()} == {"1e3", "home", "pat", "pat#2"}


def test_no_path_is_evaluated_where_another_value_is_looked_at(tmp_path, monkeypatch):
    """`--temperature` looks up the recipe, which depends on whether there is a teacher."""
    monkeypatch.chdir(tmp_path)
    typed = "$__import__('pathlib').Path('marker').touch()"
    values = {"teacher_checkpoint": typed, "temperature": 4.0, "device": "cpu", "dataset_dir": "data"}
    line = [f"--{name}={value}" for name, value in values.items()]
    monkeypatch.setattr(sys, "argv", ["-m", "run", "training", *line])
    (file,) = config("seg_student", "train")
    with contextlib.suppress(Exception):
        create_workflow(config_file=file, workflow_type="train", logging_file=False, **values).initialize()
    assert not (tmp_path / "marker").exists()
