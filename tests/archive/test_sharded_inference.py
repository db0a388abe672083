"""Inference on an archive in shards: every image once, whatever happens to the workers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from students import segmentation_student

from data_prep.lock import FolderInUse, only_writer
from monai_kd.__main__ import main
from monai_kd.archive import Plan, is_done, make_plan, read_plan, shard
from monai_kd.io.table import write_table


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> Path:
    return segmentation_student(tmp_path_factory.mktemp("student"))


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    (folder / "sub").mkdir()
    random = np.random.default_rng(0)
    for number in range(10):
        name = f"sub/{number}.png" if number % 2 else f"{number}.png"
        Image.fromarray(random.integers(0, 255, (40, 30)).astype(np.uint8)).save(folder / name)
    (folder / "4a.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("x")
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_plan(archive, tmp_path):
    plan = make_plan(archive, tmp_path, {"checkpoint": "a"}, 4)
    assert [len(plan.of_shard(number)) for number in range(plan.shards)] == [4, 4, 3]
    assert plan.skipped == ["notes.txt"]
    again = read_plan(tmp_path)
    assert again == plan == make_plan(archive, tmp_path, {"checkpoint": "a"}, 4)
    write_done(plan, 2)
    for settings, size, name in (({"checkpoint": "b"}, 4, "checkpoint"), ({"checkpoint": "a"}, 5, "shard_size")):
        with pytest.raises(ValueError, match=f"begun with another {name}"):
            make_plan(archive, tmp_path, settings, size)
    with pytest.raises(ValueError, match="shard_size must be 1 or more"):
        make_plan(archive, tmp_path / "other", {}, 0)
    (tmp_path / "plan.jsonl").write_text('{"settings": ')
    with pytest.raises(ValueError, match="is damaged"):
        read_plan(tmp_path)


def write_done(plan: Plan, number: int) -> None:
    rows = [{"file": image.label, "status": "ok"} for image in plan.of_shard(number)]
    write_table(rows, ["file", "status"], plan.folder(number) / "findings.csv")


def test_a_plan_of_which_nothing_is_done_is_made_anew_with_other_settings(archive, tmp_path, caplog):
    plan = make_plan(archive, tmp_path, {"checkpoint": "a"}, 4)
    rows = [{"file": image.label, "status": "unfinished"} for image in plan.of_shard(2)]
    write_table(rows, ["file", "status"], plan.folder(2) / "findings.csv")
    with only_writer(plan.folder(2)), pytest.raises(FolderInUse):
        make_plan(archive, tmp_path, {"checkpoint": "b"}, 6)
    assert read_plan(tmp_path) == plan
    assert make_plan(archive, tmp_path, {"checkpoint": "b"}, 6).shards == 2
    assert "begun with another checkpoint, shard_size, and no shard of it is done: it begins anew" in caplog.text
    assert not plan.folder(2).exists()


def test_a_plan_that_is_continued_says_of_how_many_images_it_is(archive, tmp_path, caplog):
    make_plan(archive, tmp_path, {}, 4)
    assert "is continued" not in caplog.text
    make_plan(archive, tmp_path, {}, 4)
    assert "is continued by its plan of 11 images: those that came since are not seen" in caplog.text


def test_a_plan_names_its_images_wherever_it_is_continued(archive, tmp_path, monkeypatch):
    monkeypatch.chdir(archive.parent)
    make_plan(Path(archive.name), tmp_path / "out", {}, 4)
    monkeypatch.chdir(tmp_path)
    assert all(
        path.is_absolute() and path.is_file() for image in read_plan(tmp_path / "out").images for path in image.paths
    )


@pytest.mark.parametrize(("files", "done"), [(None, False), (-1, False), (0, True), (1, False)])
def test_a_shard_is_done_when_its_table_has_all_its_images(files, done, archive, tmp_path):
    plan = make_plan(archive, tmp_path, {}, 4)
    if files is not None:
        labels = [image.label for image in plan.images[4 : 8 + files]]
        rows, table = [{"file": label, "status": "ok"} for label in labels], plan.folder(1) / "findings.csv"
        write_table(rows, ["file", "status"], table)
    assert is_done(plan, 1) == done
    if done:
        write_table([*rows[1:], {**rows[0], "status": "unfinished"}], ["file", "status"], table)
        assert not is_done(plan, 1)


def test_every_image_once_though_a_worker_is_killed(archive, student, tmp_path, monkeypatch, caplog, capsys):
    pytest.importorskip("submitit")
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{Path(__file__).parents[2]}")
    dying = {"_target_": "dying.DyingDataset", "data": "@inputs", "transform": "@preprocessing"}
    config = {"dataset": {**dying, "at": "8.png", "mark": str(tmp_path / "mark")}, "overlays": False}
    (tmp_path / "more.json").write_text(json.dumps(config))
    out = tmp_path / "out"
    line = ["archive", "seg_student", student, archive, out, "--shard_size", 4, "--device", "cpu"]
    line += ["--config", tmp_path / "more.json"]
    assert main([str(each) for each in line]) == 0
    assert (tmp_path / "mark").exists()
    assert "ended early" in caplog.text
    table = rows(out / "findings.csv")
    assert sorted(row["file"] for row in table) == sorted(
        [*(f"{n}.png" for n in range(0, 10, 2)), *(f"sub/{n}.png" for n in range(1, 10, 2)), "4a.png", "notes.txt"]
    )
    status = {row["file"]: row["status"] for row in table}
    assert {file for file, each in status.items() if each != "ok"} == {"4a.png", "notes.txt"}
    masks = [row["mask"] for row in table if row["status"] == "ok"]
    assert all((out / mask).is_file() for mask in masks)
    assert len(set(masks)) == len(list(out.rglob("*_mask.png"))) == 10
    assert "10 ok, 1 failed, 1 skipped" in capsys.readouterr().out

    # Once more, nothing is left to do; with another network, it is refused.
    written = {mask: (out / mask).stat().st_mtime_ns for mask in masks}
    jobs = len(list((out / "jobs").iterdir()))
    assert main([str(each) for each in line]) == 0
    assert {mask: (out / mask).stat().st_mtime_ns for mask in masks} == written
    assert len(list((out / "jobs").iterdir())) == jobs
    assert main([str(each) for each in line[:-2]]) == 2
    assert "begun with another configs" in capsys.readouterr().err


def test_options_of_a_cluster_need_one(archive, student, tmp_path, capsys):
    pytest.importorskip("submitit")
    line = ["archive", "seg_student", student, archive, tmp_path / "out", "--slurm", "partition=gpu"]
    assert main([str(each) for each in line]) == 2
    assert "--slurm partition=gpu is for a cluster: give --cluster slurm too" in capsys.readouterr().err


def test_a_shard_that_fails_holds_no_other_up(archive, student, tmp_path, monkeypatch):
    plan = make_plan(archive, tmp_path, {"device": None}, 4)
    tried: list[tuple[int, str | None]] = []

    def run(_, number: int, device: str | None) -> None:
        tried.append((number, device))
        if number < 2:
            raise OSError(f"shard {number}")

    monkeypatch.setattr(shard, "run_shard", run)
    errors = shard.run_shards(str(tmp_path), list(range(plan.shards)))
    assert errors == {0: "OSError: shard 0", 1: "OSError: shard 1"}
    assert tried == [(number, None) for number in range(plan.shards)]


def test_jobs_of_one_computer_share_its_cores_and_gpus(archive, tmp_path, monkeypatch):
    make_plan(archive, tmp_path, {"device": None}, 4)
    threads, devices = [], []
    monkeypatch.setattr(shard, "run_shard", lambda _plan, _number, device: devices.append(device))
    monkeypatch.setattr(shard, "choose_threads", threads.append)
    monkeypatch.setattr(shard, "available_cores", lambda: 7)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for place in range(3):
        shard.run_shards(str(tmp_path), [0], place, sharing=3)
    shard.run_shards(str(tmp_path), [0], 5, sharing=1)
    assert threads == [2, 2, 2, 7]
    assert devices == ["cuda:0", "cuda:1", "cuda:0", None]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    shard.run_shards(str(tmp_path), [0], 0, sharing=9)
    assert threads == [2, 2, 2, 7]


def test_a_config_with_another_content_is_another_archive(archive, student, tmp_path, capsys):
    pytest.importorskip("submitit")
    (tmp_path / "more.json").write_text('{"overlays": false}')
    line = ["archive", "seg_student", student, archive, tmp_path / "out", "--config", tmp_path / "more.json"]
    line = [str(each) for each in [*line, "--workers", 1, "--device", "cpu"]]
    assert main(line) == 0
    (tmp_path / "more.json").write_text('{"overlays": false, "threshold": 0.9}')
    assert main(line) == 2
    assert "begun with another configs_sha256" in capsys.readouterr().err


def test_submitit_is_named_where_it_is_absent(archive, student, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "submitit" else object())
    assert main(["archive", "seg_student", str(student), str(archive), str(tmp_path / "out")]) == 2
    assert "archive needs submitit: pip install 'monai_kd[cluster]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
