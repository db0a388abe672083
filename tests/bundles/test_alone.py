"""Runs into one folder, one at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from locks import taken
from monai.bundle import ConfigParser, create_workflow
from tiny import OVERRIDES, cause, config

from data_prep.lock import only_writer
from monai_kd.bundle import run_alone


class Engine:
    """Remembers whether its folder was locked, when it was built and when it ran."""

    log: list[tuple[str, bool]] = []  # noqa: RUF012

    def __init__(self, folder: str, fail: bool = False) -> None:
        self.folder, self.fail = Path(folder), fail
        self.log.append(("built", taken(self.folder)))

    def run(self) -> None:
        self.log.append(("run", taken(self.folder)))
        if self.fail:
            raise ValueError("out of memory")


def run(folder: Path, is_main: bool = True, fail: bool = False) -> list[tuple[str, bool]]:
    Engine.log.clear()
    parser = ConfigParser(
        {
            "imports": ["$import monai_kd.bundle as kd"],
            "folder": str(folder),
            "engine": {"_target_": f"{__name__}.Engine", "folder": "@folder", "fail": fail},
            "run": [f"$kd.run_alone('engine', @folder, {is_main})"],
            "training": "$@run",
        }
    )
    parser.get_parsed_content("training")
    return Engine.log


def test_folder_is_locked_while_the_engine_is_built_and_runs(tmp_path):
    assert run(tmp_path / "out") == [("built", True), ("run", True)]
    assert not taken(tmp_path / "out")


def test_a_process_that_does_not_write_locks_nothing(tmp_path):
    with only_writer(tmp_path):
        assert [what for what, _ in run(tmp_path, is_main=False)] == ["built", "run"]
    assert run(tmp_path, is_main=False) == [("built", False), ("run", False)]


def test_a_failed_run_leaves_the_folder_free(tmp_path):
    with pytest.raises(RuntimeError) as caught:
        run(tmp_path, fail=True)
    assert cause(caught.value) == "ValueError: out of memory"
    assert not taken(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_outside_of_a_config(tmp_path):
    with pytest.raises(RuntimeError, match="for configs"):
        run_alone("engine", tmp_path)


@pytest.mark.parametrize("name", ["train", "evaluate", "inference"])
@pytest.mark.parametrize("bundle", sorted(OVERRIDES))
def test_every_run_of_a_bundle_into_a_folder_in_use_is_refused(tmp_path, class_dataset, bundle, name):
    """Nothing is built: neither the network, at full size, nor the teacher."""
    given = {"output_dir": str(tmp_path / "out"), "dataset_dir": str(class_dataset), "logging_file": False}
    workflow = create_workflow(config_file=config(bundle, name), workflow_type="train", **given)
    with only_writer(tmp_path / "out"), pytest.raises(RuntimeError) as caught:
        workflow.run()
    said = f"another process is writing into {tmp_path / 'out'}: wait until it has ended, or choose another output_dir"
    assert cause(caught.value) == f"FolderInUse: {said}"
    assert list((tmp_path / "out").iterdir()) == []
