"""Which config is asked where it lies and how it was overridden: of MONAI's workflows and commands, and of ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, create_workflow, verify_net_in_out
from tiny import BUNDLES, NETWORKS, cause, config, untrained

from monai_kd.bundle import Workflow, given_data, root
from monai_kd.bundle.workflow import Running, running

SEEN: list[Running] = []

ASKING = {
    "imports": ["$import monai_kd.bundle as kd", "$import test_workflow as here"],
    "name": "outer",
    "root": "$kd.root()",
    "given": "$kd.given_data()",
    "width": 3,
    "network_def": {"_target_": "torch.nn.Conv2d", "in_channels": "@width", "out_channels": 1, "kernel_size": 1},
    "definition": "$kd.definition('network_def')",
    "asked": "$here.note()",
    "train": {"dataset": {"data": "$[]"}},
    "initialize": ["@asked"],
    "run": ["@asked"],
    "finalize": ["@asked"],
}


def note() -> Running:
    SEEN.append(running())
    return SEEN[-1]


@pytest.fixture(autouse=True)
def nothing_seen():
    SEEN.clear()


def written(folder: Path, content: dict[str, Any] = ASKING, name: str = "train.json") -> Path:
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "configs" / name).write_text(json.dumps(content))
    return folder / "configs" / name


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return written(tmp_path / "bundle")


def by_monai(file: Path | list[str], **values: Any) -> ConfigWorkflow:
    """As MONAI's command makes one, without initializing it."""
    files = file if isinstance(file, list) else str(file)
    return ConfigWorkflow(config_file=files, workflow_type="train", logging_file=False, **values)


def by_us(file: Path | list[str], **values: Any) -> Workflow:
    files = file if isinstance(file, list) else str(file)
    return Workflow(files, workflow_type="train", logging_file=False, **values)


EITHER = pytest.mark.parametrize("make", [by_monai, by_us], ids=["monai", "monai_kd"])


@EITHER
def test_the_config_is_known_while_it_is_initialized_run_and_ended(bundle, make):
    workflow = make(bundle, name="given", width=5)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    # resolved once, as MONAI does with all that is referred to
    (seen,) = SEEN
    assert seen.parser is workflow.parser
    assert seen.folder.resolve() == bundle.parent.resolve()


def test_overrides_and_files_are_known_to_the_first_step(bundle, tmp_path):
    more = written(tmp_path / "bundle", {"width": 4}, "more.json")
    files = [str(bundle), str(more)]
    for make in (by_us, lambda files, **values: create_workflow(config_file=files, workflow_type="train", **values)):
        SEEN.clear()
        workflow = make(files, name="given", width="$2 + 3")
        if isinstance(workflow, Workflow):
            workflow.initialize()
        (seen,) = SEEN
        assert list(seen.config_files) == files
        assert {key: seen.overrides[key] for key in ("name", "width")} == {"name": "given", "width": "$2 + 3"}
        assert not {"config_file", "workflow_type", "logging_file"} & seen.overrides.keys()


def test_arguments_of_the_workflow_are_no_overrides(bundle):
    by_us(bundle, run_id="run", init_id="initialize", tracking=None, name="given").initialize()
    assert SEEN[0].overrides == {"name": "given"}


class TestValue:
    def test_references_expressions_and_questions(self, bundle):
        workflow = by_us(bundle, width=5)
        assert workflow.value("root") == str(bundle.parents[1].resolve())
        assert workflow.value("definition")["in_channels"] == 5
        assert workflow.value("given") is False
        assert SEEN == []

    def test_slices_given_one_by_one(self, bundle):
        given = by_us(bundle, **{"train#dataset#data": [{"image": "a", "label": "b"}]})
        assert given.value("given") is True
        assert by_us(bundle).value("given") is False

    def test_nothing_is_left_behind(self, bundle):
        by_us(bundle).value("root")
        failing = by_us(bundle, name="$1 / 0")
        with pytest.raises(RuntimeError):
            failing.value("name")
        assert running() == Running()


class TestRoot:
    @pytest.mark.parametrize("name", NETWORKS)
    def test_of_every_bundle_from_any_folder(self, name, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        workflow = by_us([config(name, "inference")[0]])
        assert workflow.value("bundle_root") == str(BUNDLES / name)

    def test_of_a_relative_path(self, bundle, monkeypatch):
        monkeypatch.chdir(bundle.parents[2])
        for make in (by_us, by_monai):
            workflow = make(Path("bundle/configs/train.json"))
            workflow.parser["initialize"] = ["@root"]
            (found,) = workflow.initialize()
            assert found == str(bundle.parents[1].resolve())

    def test_by_hand_it_is_the_working_directory_or_an_error(self, bundle, tmp_path, monkeypatch):
        parser = ConfigParser({"imports": ASKING["imports"], "root": "$kd.root()"})
        with pytest.raises(RuntimeError) as caught:
            parser.get_parsed_content("root")
        assert "bundle_root is not known here: set `bundle_root` to the folder" in cause(caught.value)
        with pytest.raises(RuntimeError, match="set `bundle_root`"):
            root()
        (bundle.parent / "metadata.json").write_text("{}")
        monkeypatch.chdir(bundle.parents[1])
        assert parser.get_parsed_content("root") == root() == str(bundle.parents[1].resolve())

    def test_elsewhere_nothing_was_given(self):
        assert given_data() is False


class TestNested:
    """A config that evaluates another one, as a student's does its teacher's: each is asked about itself."""

    @pytest.fixture
    def inner(self, tmp_path) -> Path:
        asked = "$here.KEPT.append([@asked, @root, @definition, @name])"
        return written(tmp_path / "inner", {**ASKING, "name": "inner", "width": 7, "initialize": [asked]})

    def outer(self, folder: Path, inner: str) -> Path:
        return written(
            folder / "outer", {**ASKING, "inner": f"$here.{inner}", "all": "$[@inner, kd.root(), @definition]"}
        )

    @EITHER
    @pytest.mark.parametrize("kind", ["monai", "monai_kd"])
    def test_workflow_in_a_workflow(self, tmp_path, inner, make, kind):
        outer = make(self.outer(tmp_path, f"nest('{kind}', {str(inner)!r})"))
        outer.parser["initialize"] = ["@all"]
        (((folder, definition, name), own_root, own_definition),) = outer.initialize()
        assert (folder, name) == (str(inner.parents[1].resolve()), "given to the inner one")
        assert definition["in_channels"] == 7
        assert own_root == str((tmp_path / "outer").resolve())
        assert own_definition["in_channels"] == 3
        assert SEEN[0].overrides.items() >= {"name": "given to the inner one"}.items()

    @EITHER
    def test_parser_by_hand_in_a_workflow(self, tmp_path, inner, make):
        outer = make(self.outer(tmp_path, f"by_hand({str(inner)!r})"), width=9)
        outer.parser["initialize"] = ["@all"]
        ((definition, own_root, own_definition),) = outer.initialize()
        assert (definition["in_channels"], own_definition["in_channels"]) == (7, 9)
        assert own_root == str((tmp_path / "outer").resolve())

    @EITHER
    def test_the_folder_of_the_outer_one_is_not_that_of_a_parser_by_hand(self, tmp_path, inner, make):
        outer = make(self.outer(tmp_path, f"root_by_hand({str(inner)!r})"))
        outer.parser["initialize"] = ["@inner"]
        with pytest.raises(RuntimeError) as caught:
            outer.initialize()
        assert "bundle_root is not known here" in cause(caught.value)


KEPT: list[list[Any]] = []


def nest(kind: str, file: str) -> tuple[str, dict, str]:
    """What the inner config says of itself while it is initialized."""
    values = {"workflow_type": "train", "logging_file": False, "name": "given to the inner one"}
    if kind == "monai":
        create_workflow(config_file=file, **values)
    else:
        Workflow(file, **values).initialize()
    _, folder, definition, name = KEPT.pop()
    return folder, definition, name


def by_hand(file: str) -> dict:
    parser = ConfigParser()
    parser.read_config(file)
    return parser.get_parsed_content("definition")


def root_by_hand(file: str) -> str:
    parser = ConfigParser()
    parser.read_config(file)
    return parser.get_parsed_content("root")


class TestCommandsOfMonai:
    """Those that parse a config by themselves, without a workflow."""

    def commands(self, bundle: str, checkpoint: Path, folder: Path) -> dict[str, Callable[[], Any]]:
        meta = str(BUNDLES / bundle / "configs" / "metadata.json")
        given = {"net_id": "network_def", "meta_file": meta, "config_file": config(bundle, "inference")}
        return {
            "verify_net_in_out": lambda: verify_net_in_out(device="cpu", checkpoint=str(checkpoint), **given),
            "ckpt_export": lambda: ckpt_export(
                filepath=str(folder / "m.ts"), ckpt_file=str(checkpoint), checkpoint=str(checkpoint), **given
            ),
        }

    @pytest.mark.parametrize("command", ["verify_net_in_out", "ckpt_export"])
    def test_they_find_the_bundle_from_any_folder(self, command, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        self.commands("seg_student", untrained("seg_student", tmp_path), tmp_path)[command]()
        if command == "ckpt_export":
            exported = torch.jit.load(tmp_path / "m.ts")
            assert exported(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)

    def test_the_config_of_a_training_too(self, tmp_path, disc_dataset, monkeypatch):
        """``definition`` of train.json is made by looking at the parser."""
        monkeypatch.chdir(tmp_path)
        checkpoint = untrained("seg_student", tmp_path)
        ckpt_export(
            net_id="network",
            filepath=str(tmp_path / "m.ts"),
            ckpt_file=str(checkpoint),
            meta_file=str(BUNDLES / "seg_student" / "configs" / "metadata.json"),
            config_file=config("seg_student", "train"),
            **{"features": NETWORKS["seg_student"]["features"], "dataset_dir": str(disc_dataset), "device": "cpu"},
        )
        assert torch.jit.load(tmp_path / "m.ts")(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)


def test_by_name_at_the_command_line_of_monai(bundle, tmp_path):
    """``--workflow_name`` takes the class in place of MONAI's."""
    content = {**ASKING, "imports": ASKING["imports"][:1], "initialize": [], "finalize": []}
    content |= {"asked": "$print(kd.root(), @width)"}
    written(tmp_path / "bundle", content)
    line = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(bundle), "--width", "5"]
    line += ["--workflow_name", "monai_kd.bundle.Workflow", "--workflow_type", "train", "--logging_file", "False"]
    run = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=dict(os.environ))
    assert run.returncode == 0, run.stderr[-2000:]
    assert f"{bundle.parents[1].resolve()} 5" in run.stdout
