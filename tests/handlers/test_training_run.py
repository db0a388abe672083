"""A small training with all handlers: logged, saved, interrupted, and gone on with exactly."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.handlers import LrScheduleHandler, ValidationHandler, from_engine
from monai.transforms import Activationsd, AsDiscreted, Compose, RandFlipd
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from monai_kd.distillation import Distiller
from monai_kd.engines import DistillationTrainer, PlanarInferer
from monai_kd.handlers import DefinedDice, EpochLog, EpochSeed, TrainingCheckpoint, TrainingRun, not_worse
from monai_kd.losses import DistillationLoss, FeatureLoss, LogitKL, Projections


def items(count: int, seed: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 8, 8, generator=generator)
    return [{"image": image, "label": (image > 0.5).float()} for image in images]


def network(width: int, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(width, 1, 1)
    )


def plateau(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.ReduceLROnPlateau:
    """The rate is halved unless the loss is lower by a tenth."""
    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.1)


def run(
    folder: Path,
    epochs: int,
    resume: bool = False,
    init: int = 0,
    width: int = 3,
    projected: bool = True,
    schedule: bool | str = True,
    workers: int = 0,
    val_interval: int = 1,
    save: bool = True,
    before: tuple = (),
    tumours: bool = True,
    first: tuple = (),
    in_one: dict | None = None,
) -> SimpleNamespace:
    """Everything built anew, as in a new process, with flips, dropout, momentum and a schedule to be restored.

    By handlers of their own; or by a `TrainingRun` with the arguments ``in_one``.
    """
    student = network(width, init)
    distiller = Distiller(student, network(5, 100), student_taps={"conv": "0"}, teacher_taps={"conv": "0"})
    terms = {"bce": nn.BCEWithLogitsLoss(), "kl": LogitKL(2.0)} | ({"f": FeatureLoss()} if projected else {})
    projections = Projections({"conv": (width, 5)}, side="student") if projected else None
    loss = DistillationLoss(terms, dict.fromkeys(terms, 0.5), projections)
    optimizer = torch.optim.Adam([*student.parameters(), *loss.parameters()], lr=0.05)
    if schedule == "cosine":
        lr_scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs, eta_min=0.001)
    elif callable(schedule):
        lr_scheduler = schedule(optimizer)
    elif schedule == "plateau":
        lr_scheduler = plateau(optimizer)
    else:
        lr_scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5) if schedule else None
    data = Dataset(items(6, 1), RandFlipd(["image", "label"], prob=0.5, spatial_axis=0))
    loader = DataLoader(data, batch_size=2, shuffle=True, num_workers=workers, generator=torch.Generator())
    validation = [{**item, "label": item["label"] * tumours} for item in items(3, 2)]
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(validation), batch_size=2),
        network=student,
        inferer=PlanarInferer(),
        postprocessing=Compose([Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5)]),
        key_val_metric={"dice": DefinedDice(output_transform=from_engine(["pred", "label"]))},
        metric_cmp_fn=not_worse,
    )
    if in_one is None:
        log = EpochLog(folder, evaluator, optimizer, title="small", save=save)
        checkpoint = TrainingCheckpoint(
            folder, student, loss, optimizer, evaluator, log, lr_scheduler=lr_scheduler, resume=resume, save=save
        )
        handlers = [
            *first,
            EpochSeed(3, loader),
            ValidationHandler(val_interval, evaluator),
            *([LrScheduleHandler(lr_scheduler, print_lr=False)] if schedule else []),
            log,
            checkpoint,
            *before,
        ]
    else:
        given = {"settings": {"name": "A"}, "seed": 3, "resume": resume, "title": "small", **in_one}
        whole = TrainingRun(
            folder, given.pop("settings"), student, loss, optimizer, loader, evaluator, lr_scheduler, **given
        )
        log, checkpoint = whole.log, whole.checkpoint
        handlers = [*first, ValidationHandler(val_interval, evaluator), whole, *before]
    trainer = DistillationTrainer("cpu", epochs, loader, distiller, optimizer, loss, train_handlers=handlers)
    reports, rates, dices = [], [], {}

    @trainer.on(Events.ITERATION_COMPLETED)
    def _collect(engine) -> None:
        reports.append((engine.state.epoch, engine.state.loss_report))
        rates.append((engine.state.epoch, optimizer.param_groups[0]["lr"]))

    @evaluator.on(Events.COMPLETED)
    def _validated(engine) -> None:
        dices[engine.state.epoch] = float(engine.state.metrics["dice"])

    trainer.run()
    return SimpleNamespace(
        student=student,
        loss=loss,
        optimizer=optimizer,
        trainer=trainer,
        evaluator=evaluator,
        log=log,
        checkpoint=checkpoint,
        reports=reports,
        rates=dict(rates),
        dices=dices,
    )


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "log.csv", newline="") as file:
        return list(csv.DictReader(file))


def without_clock(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


class Stop:
    """Ends the run as a crash would, in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def attach(self, engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine) -> None:
        if engine.state.epoch == self.epoch and engine.state.iteration % 3 == 2:
            raise RuntimeError("power cut")


@pytest.mark.parametrize("schedule", [True, False])
def test_resumed_run_equals_the_straight_one(tmp_path, schedule):
    straight = run(tmp_path / "a", 4, schedule=schedule)
    run(tmp_path / "b", 2, schedule=schedule)
    # Other initial weights, and a random state that has gone elsewhere: all must come from the file.
    resumed = run(tmp_path / "b", 4, resume=True, init=77, schedule=schedule)
    assert [epoch for epoch, _ in resumed.reports] == [3] * 3 + [4] * 3
    tail = straight.reports[6:]
    assert [float(r.total) for _, r in resumed.reports] == [float(r.total) for _, r in tail]
    assert [r.terms for _, r in resumed.reports] == [r.terms for _, r in tail]
    assert without_clock(resumed.log.rows) == without_clock(straight.log.rows)
    for one, other in ((resumed.student, straight.student), (resumed.loss, straight.loss)):
        for name, value in other.state_dict().items():
            assert torch.equal(one.state_dict()[name], value), name
    best = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in "ab"]
    assert all(torch.equal(best[0][key], best[1][key]) for key in best[0])
    assert without_clock(table(tmp_path / "b")) == without_clock(table(tmp_path / "a"))


def test_resumed_run_with_workers(tmp_path):
    straight = run(tmp_path / "a", 3, workers=1)
    run(tmp_path / "b", 2, workers=1)
    resumed = run(tmp_path / "b", 3, resume=True, init=77, workers=1)
    assert [float(r.total) for _, r in resumed.reports] == [float(r.total) for _, r in straight.reports[6:]]


class Scaler:
    """Gives the trainer a gradient scaler, as MONAI does when a run begins on a GPU without bfloat16."""

    def attach(self, engine) -> None:
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine) -> None:
        engine.scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=4)


def test_gradient_scaler_goes_on_where_it_was(tmp_path):
    straight = run(tmp_path / "a", 4, first=(Scaler(),))
    half = run(tmp_path / "b", 2, first=(Scaler(),))
    resumed = run(tmp_path / "b", 4, resume=True, init=77, first=(Scaler(),))
    # Three steps an epoch: doubled after every fourth, 6 of 12 before the interruption.
    states = [each.trainer.scaler.state_dict() for each in (half, resumed)]
    assert [(state["scale"], state["_growth_tracker"]) for state in states] == [(4.0, 2), (16.0, 0)]
    assert resumed.trainer.scaler.state_dict() == straight.trainer.scaler.state_dict()
    assert [float(r.total) for _, r in resumed.reports] == [float(r.total) for _, r in straight.reports[6:]]


@pytest.mark.parametrize("schedule", [True, "cosine", False])
def test_more_epochs_follow_the_longer_schedule(tmp_path, schedule, caplog):
    whole = run(tmp_path / "whole", 5, schedule=schedule)
    run(tmp_path / "parts", 2, schedule=schedule)
    # In two epochs, a network may find nothing.
    assert [record for record in caplog.records if "val dice is 0" not in record.message] == []
    resumed = run(tmp_path / "parts", 5, schedule=schedule, resume=True)
    assert set(resumed.rates) == {3, 4, 5}
    for epoch, rate in resumed.rates.items():
        assert rate == pytest.approx(whole.rates[epoch], rel=1e-9)
    # The log has the rates of the first part as they were.
    logged = [float(row["learning_rate"]) for row in table(tmp_path / "parts")]
    assert logged[2:] == pytest.approx([whole.rates[epoch] for epoch in (3, 4, 5)], rel=1e-9)
    assert ("epochs was 2 and is 5" in caplog.text) == bool(schedule)


def test_crash_in_the_middle_of_an_epoch(tmp_path):
    straight = run(tmp_path / "a", 4)
    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path / "b", 4, before=(Stop(3),))
    assert len(table(tmp_path / "b")) == 2
    resumed = run(tmp_path / "b", 4, resume=True, init=77)
    assert without_clock(resumed.log.rows) == without_clock(straight.log.rows)
    assert all(torch.equal(v, straight.student.state_dict()[k]) for k, v in resumed.student.state_dict().items())


def test_the_randomness_of_the_training_is_real(tmp_path):
    # Without dropout and flips, exact resuming would be no feat.
    found = run(tmp_path, 1)
    found.student.train()
    image = torch.rand(2, 1, 8, 8)
    assert not torch.equal(found.student(image), found.student(image))


def test_model_is_the_best_bare_student(tmp_path):
    found = run(tmp_path, 4)
    best = max(found.dices, key=found.dices.get)
    assert found.evaluator.state.best_metric_epoch == best
    again = run(tmp_path / "until-best", best)
    bare = network(3, 55)
    bare.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    assert all(torch.equal(v, again.student.state_dict()[k]) for k, v in bare.state_dict().items())


def test_best_metric_survives_a_resume(tmp_path):
    first = run(tmp_path, 2)
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert last["best_metric"] == pytest.approx(max(first.dices.values()))
    last["best_metric"] = 0.999  # no later epoch reaches that
    torch.save(last, tmp_path / "last.ckpt")
    model = (tmp_path / "model.pt").read_bytes()
    resumed = run(tmp_path, 4, resume=True)
    assert resumed.evaluator.state.best_metric == 0.999
    assert resumed.evaluator.state.best_metric_epoch == last["best_metric_epoch"]
    assert (tmp_path / "model.pt").read_bytes() == model


def test_resume_without_a_checkpoint_starts_at_the_beginning(tmp_path, caplog):
    with caplog.at_level("INFO", logger="monai_kd.handlers.checkpoint"):
        resumed = run(tmp_path, 1, resume=True)
    assert "so training starts from the first epoch" in caplog.text
    assert [epoch for epoch, _ in resumed.reports] == [1] * 3


def test_without_resume_a_checkpoint_is_ignored(tmp_path):
    first = run(tmp_path, 2)
    second = run(tmp_path, 2)
    assert without_clock(second.log.rows) == without_clock(first.log.rows)


@pytest.mark.parametrize("epochs", [1, 2])
def test_all_epochs_done(tmp_path, epochs):
    run(tmp_path, 2)
    with pytest.raises(ValueError, match=rf"last\.ckpt has run 2 of {epochs} epochs already: increase `epochs`"):
        run(tmp_path, epochs, resume=True)


@pytest.mark.parametrize(
    ("settings", "item"),
    [
        ({"width": 4}, "network"),
        ({"projected": False}, "loss"),
    ],
)
def test_checkpoint_of_another_run(tmp_path, settings, item):
    run(tmp_path, 1)
    with pytest.raises(
        ValueError, match=rf"last\.ckpt does not fit this run \({item}\): it was trained with other settings"
    ):
        run(tmp_path, 2, resume=True, **settings)


def test_checkpoint_without_a_schedule(tmp_path):
    run(tmp_path, 1, schedule=False)
    with pytest.raises(ValueError, match=r"last\.ckpt does not fit this run \(lr_scheduler\)"):
        run(tmp_path, 2, resume=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(network(3, 0).state_dict(), r"last\.ckpt is not a training checkpoint", id="weights"),
        pytest.param([1, 2], r"last\.ckpt is not a training checkpoint", id="list"),
        pytest.param(b"", r"last\.ckpt can't be read as a checkpoint", id="empty-file"),
    ],
)
def test_file_that_is_no_training_checkpoint(tmp_path, content, message):
    if isinstance(content, bytes):
        (tmp_path / "last.ckpt").write_bytes(content)
    else:
        torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=message):
        run(tmp_path, 2, resume=True)


def test_log_averages_by_hand(tmp_path):
    found = run(tmp_path, 3, val_interval=2)
    rows = table(tmp_path)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    for epoch, row in enumerate(rows, start=1):
        reports = [report for when, report in found.reports if when == epoch]
        assert len(reports) == 3
        columns = {"loss": [r.total for r in reports]}
        for name in ("bce", "kl", "f"):
            columns[f"loss/{name}"] = [r.terms[name] for r in reports]
            columns[f"weighted/{name}"] = [r.terms[name] * 0.5 for r in reports]
        for name, values in columns.items():
            assert float(row[name]) == pytest.approx(sum(float(v) for v in values) / 3, rel=1e-5), name
        assert float(row["loss"]) == pytest.approx(
            sum(float(row[f"weighted/{n}"]) for n in ("bce", "kl", "f")), rel=1e-5
        )
        # The rate that the epoch was trained with, not the one that its end set for the next.
        assert float(row["learning_rate"]) == found.rates[epoch]
    assert {row["learning_rate"] for row in rows} == {"0.05", "0.025"}
    assert [row["val/dice"] for row in rows] == ["", str(found.dices[2]), ""]


def test_log_writes_curves_and_tensorboard(tmp_path):
    found = run(tmp_path, 2)
    assert Image.open(tmp_path / "curves.png").format == "PNG"
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert set(events.Tags()["scalars"]) == set(found.log.rows[0]) - {"epoch"}
    scalars = events.Scalars("weighted/kl")
    assert [s.step for s in scalars] == [1, 2]
    assert [s.value for s in scalars] == pytest.approx([row["weighted/kl"] for row in found.log.rows])


def test_log_says_it_on_the_console(tmp_path, caplog):
    with caplog.at_level("INFO", logger="monai_kd.handlers.epoch_log"):
        found = run(tmp_path, 2)
    lines = [record.getMessage() for record in caplog.records if record.name == "monai_kd.handlers.epoch_log"]
    assert len(lines) == 2
    for epoch, (line, row) in enumerate(zip(lines, found.log.rows, strict=True), start=1):
        assert line.startswith(f"epoch {epoch}/2  loss {row['loss']:.4f} (bce {row['weighted/bce']:.4f}, kl ")
        assert f"val dice {row['val/dice']:.4f}" in line
    assert lines[-1].endswith("0:00 left")


def same_weights(network: nn.Module, path: Path) -> bool:
    saved = torch.load(path, weights_only=True)
    return all(torch.equal(value, saved[name]) for name, value in network.state_dict().items())


def test_undefined_metric_is_logged_as_undefined_and_the_last_epoch_is_kept(tmp_path, caplog):
    with caplog.at_level("INFO", logger="monai_kd.handlers.epoch_log"):
        found = run(tmp_path, 3, tumours=False)
    assert [record.getMessage().partition("  val ")[2][:14] for record in caplog.records] == ["dice undefined"] * 3
    assert "best" not in caplog.text
    assert all("val/dice" not in row for row in table(tmp_path))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert "val/dice" not in events.Tags()["scalars"]
    assert found.evaluator.state.best_metric_epoch == 3
    assert same_weights(found.student, tmp_path / "model.pt")
    resumed = run(tmp_path, 4, tumours=False, resume=True, init=77)
    assert resumed.evaluator.state.best_metric_epoch == 4
    assert same_weights(resumed.student, tmp_path / "model.pt")


def test_process_that_does_not_save(tmp_path):
    found = run(tmp_path, 1, save=False)
    assert not list(tmp_path.iterdir())
    assert len(found.log.rows) == 1  # it took part in the averages


def test_error_in_training_comes_out_as_it_is(tmp_path):
    with pytest.raises(RuntimeError, match="power cut"):
        run(tmp_path, 2, before=(Stop(1),))


class _MarksNothing:
    """At the end of each epoch, before the validation, the student is made to mark nothing."""

    def attach(self, engine) -> None:
        engine.add_event_handler(
            Events.EPOCH_COMPLETED, lambda engine: engine.network.student[-1].bias.data.fill_(-1e3)
        )


@pytest.mark.parametrize("nothing", [True, False])
def test_a_best_dice_of_zero_is_told(tmp_path, caplog, nothing) -> None:
    run(tmp_path, 2, first=(_MarksNothing(),) if nothing else ())
    assert ("its network marks nothing that is labelled" in caplog.text) is nothing
