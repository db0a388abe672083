"""All handlers of a training in one: the same as one by one, in the order that they need, on one process alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.optimizers import WarmupCosineSchedule
from test_training_run import network, plateau, run, table, without_clock

from monai_kd.handlers import TrainingRun
from monai_kd.io import save_checkpoint
from monai_kd.io.checksum import file_sha256


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} if folder.is_dir() else {}


@pytest.mark.parametrize("schedule", [True, "cosine", False])
def test_it_trains_as_the_handlers_one_by_one(tmp_path, schedule):
    run(tmp_path / "by_hand", 4, schedule=schedule)
    run(tmp_path / "in_one", 4, schedule=schedule, in_one={})
    assert without_clock(table(tmp_path / "in_one")) == without_clock(table(tmp_path / "by_hand"))
    for name in ("model.pt", "last.ckpt"):
        one, other = (torch.load(tmp_path / folder / name, weights_only=True) for folder in ("by_hand", "in_one"))
        one, other = (state.get("network", state) for state in (one, other))
        assert all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.parametrize("schedule", [True, "plateau"])
def test_it_goes_on_as_if_it_had_not_stopped(tmp_path, schedule):
    run(tmp_path / "straight", 4, schedule=schedule, in_one={})
    run(tmp_path / "parts", 2, schedule=schedule, in_one={})
    run(tmp_path / "parts", 4, init=1, resume=True, schedule=schedule, in_one={})
    assert without_clock(table(tmp_path / "parts")) == without_clock(table(tmp_path / "straight"))


def test_a_rate_that_follows_the_loss_follows_that_of_the_log(tmp_path):
    run(tmp_path, 8, schedule="plateau", in_one={})
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.05)
    scheduler, rates = plateau(optimizer), []
    rows = table(tmp_path)
    for row in rows:
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(float(row["loss"]))
    assert [float(row["learning_rate"]) for row in rows] == rates
    assert 1 < len(set(rates)) < len(rates)


def one_cycle(steps: int):
    return lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=steps)


def test_a_schedule_that_steps_each_batch(tmp_path, caplog):
    """Three batches an epoch: the rates of the log are those of the first batch of each."""
    run(tmp_path, 4, schedule=one_cycle(12), in_one={"lr_step": "iteration"})
    assert "lr_scheduler:" not in caplog.text
    optimizer = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=0.05)
    scheduler, rates = one_cycle(12)(optimizer), []
    for step in range(12):
        rates += [optimizer.param_groups[0]["lr"]] * (step % 3 == 0)
        optimizer.step()
        scheduler.step()
    assert [float(row["learning_rate"]) for row in table(tmp_path)] == pytest.approx(rates)
    assert json.loads((tmp_path / "settings.json").read_text())["lr_step"] == "iteration"


@pytest.mark.parametrize("planned", [4, 2])
def test_it_is_resumed_also_for_more_epochs(tmp_path, planned):
    def cosine(epochs: int):
        return lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=3 * epochs)

    given = {"in_one": {"lr_step": "iteration"}}
    run(tmp_path / "straight", 4, schedule=cosine(4), **given)
    run(tmp_path / "parts", 2, schedule=cosine(planned), **given)
    run(tmp_path / "parts", 4, init=1, resume=True, schedule=cosine(4), **given)
    straight, parts = ([row["learning_rate"] for row in table(tmp_path / name)] for name in ("straight", "parts"))
    assert parts[2:] == pytest.approx(straight[2:])
    with pytest.raises(ValueError, match="lr_step was 'iteration' and is None"):
        run(tmp_path / "parts", 5, init=1, resume=True, schedule=cosine(5), in_one={})


@pytest.mark.parametrize(
    ("schedule", "value", "message"),
    [
        (True, "batch", "lr_step must be 'epoch' or 'iteration', got 'batch'"),
        ("plateau", "iteration", "mean loss of an"),
    ],
)
def test_steps_that_there_are_not(schedule, value, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(tmp_path, 1, schedule=schedule, in_one={"lr_step": value})


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (
            lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, 6),
            "its total_steps is 6, and this run",
        ),
        (lambda optimizer: WarmupCosineSchedule(optimizer, 1, 1), "its t_total is 1, and this run has 2 epochs"),
        (lambda optimizer: WarmupCosineSchedule(optimizer, 1, 2), None),
    ],
)
def test_a_schedule_of_other_steps_than_epochs_is_said(schedule, said, tmp_path, caplog):
    run(tmp_path, 2, schedule=schedule, in_one={})
    assert (said or "") in caplog.text
    assert ("It steps once in each" in caplog.text) is (said is not None)


def test_settings_are_written_with_the_checksum_of_the_weights(tmp_path):
    run(tmp_path, 1, in_one={"settings": {"name": "A", "epochs": 1}, "best_epoch_by": "last epoch"})
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings.items() >= {"name": "A", "epochs": 1, "best_epoch_by": "last epoch"}.items()
    assert settings["weights_sha256"] == file_sha256(tmp_path / "model.pt")


def test_settings_have_the_batch_size_of_the_loader(tmp_path):
    run(tmp_path, 1, in_one={"settings": {"batch_size": 8}})  # the loader of `run` has another one
    assert json.loads((tmp_path / "settings.json").read_text())["batch_size"] == 2


@pytest.mark.parametrize("schedule", [True, False])
@pytest.mark.parametrize("init", [True, False])
def test_order(tmp_path, schedule, init, monkeypatch):
    """Seeds first; the rate moves before it is logged; weights are loaded before checkpoint and settings are begun."""
    given = {}
    if init:
        save_checkpoint(network(3, 7).state_dict(), tmp_path / "init.pt")
        given = {"init_checkpoint": tmp_path / "init.pt"}
    attached: list[str] = []
    original = TrainingRun.attach

    def attach(self: TrainingRun, engine) -> None:
        attached.extend(type(handler).__name__ for handler in self.handlers)
        original(self, engine)

    monkeypatch.setattr(TrainingRun, "attach", attach)
    run(tmp_path / "run", 1, schedule=schedule, in_one=given)
    expected = [
        "EpochSeed",
        *(["LrScheduleHandler"] if schedule else []),
        "EpochLog",
        *(["LoadWeights"] if init else []),
    ]
    assert attached == [*expected, "TrainingCheckpoint", "RunSettings", "FillTeacherStore"]


def test_weights_to_start_from_are_held_against_the_epochs(tmp_path):
    save_checkpoint(network(3, 7).state_dict(), tmp_path / "init.pt")
    seen = []
    run(tmp_path / "run", 2, in_one={"init_checkpoint": tmp_path / "init.pt"}, first=(_AtStart(seen),))
    rows = table(tmp_path / "run")
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert {name for name, cell in rows[0].items() if cell} == {"epoch", "val/dice"}
    saved = torch.load(tmp_path / "init.pt", weights_only=True)
    assert all(torch.equal(value, saved[name]) for name, value in seen[0].items())


class _AtStart:
    """Keeps the weights that the first iteration sees."""

    def __init__(self, seen: list[dict[str, torch.Tensor]]) -> None:
        self.seen = seen

    def attach(self, engine) -> None:
        def keep(engine) -> None:
            state = engine.network.student.state_dict()
            self.seen.append({name: value.clone() for name, value in state.items()})

        engine.add_event_handler(Events.ITERATION_STARTED(once=1), keep)


def test_gone_on_with_it_does_not_start_from_them_again(tmp_path):
    save_checkpoint(network(3, 7).state_dict(), tmp_path / "init.pt")
    given = {"init_checkpoint": tmp_path / "init.pt"}
    run(tmp_path / "straight", 3, in_one=given)
    run(tmp_path / "parts", 1, in_one=given)
    run(tmp_path / "parts", 3, resume=True, in_one=given)
    assert without_clock(table(tmp_path / "parts")) == without_clock(table(tmp_path / "straight"))


@pytest.mark.parametrize("rank", [1, 3])
def test_other_processes_than_the_first_write_nothing(tmp_path, rank):
    done = run(tmp_path / "run", 2, in_one={"rank": rank})
    assert len(done.reports) == 6
    assert content(tmp_path / "run") == {}
    assert not list((tmp_path / "run").glob("*"))


def test_processes_draw_other_random_numbers(tmp_path):
    """Flips and dropout of each part of a batch are its own; the order of the slices is the sampler's."""
    totals = [
        [float(report.total) for _, report in run(tmp_path / str(rank), 1, in_one={"rank": rank}).reports]
        for rank in (0, 1, 1)
    ]
    assert totals[0] != totals[1]
    assert totals[1] == totals[2]


def test_a_start_that_fails_leaves_the_earlier_run_as_it_is(tmp_path):
    run(tmp_path, 2, in_one={})
    before = content(tmp_path)
    with pytest.raises(ValueError, match="does not fit"):
        run(tmp_path, 3, width=4, resume=True, in_one={})
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        run(tmp_path, 3, in_one={"init_checkpoint": tmp_path / "absent.pt"})
    assert content(tmp_path) == before
    assert not list(tmp_path.glob("earlier-*"))
