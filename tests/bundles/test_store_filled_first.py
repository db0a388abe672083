"""The store of a teacher's outputs is filled before the first epoch, and only with what the training will need."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from safetensors import safe_open
from test_several_nodes import train_on_two_nodes
from tiny import OVERRIDES, prepare, train, untrained

from monai_kd.handlers import teacher_outputs

NOISE = {"_target_": "RandGaussianNoised", "keys": "image", "prob": 1.0, "std": 0.5}


@pytest.fixture(params=["seg_student", "cls_student"])
def taught(request, tmp_path_factory):
    """A bundle, its data, and the overrides of a recipe whose outputs are stored."""
    teacher = untrained(request.param.replace("student", "teacher"), tmp_path_factory.mktemp("teacher"))
    dataset = request.getfixturevalue("disc_dataset" if request.param == "seg_student" else "class_dataset")
    return request.param, dataset, {"teacher_checkpoint": str(teacher), "recipe": "kd"}


def watched(trainer) -> tuple[list[int], list[int]]:
    """How many images the teacher was asked for in each of its batches, before the first epoch and after."""
    before, after = [], []
    now = [before]
    trainer.network.teachers["teacher"].register_forward_hook(lambda module, inputs, output: now[0].append(len(output)))
    # The first of its handlers.
    trainer._event_handlers[Events.EPOCH_STARTED].insert(0, (lambda engine: now.__setitem__(0, after), (trainer,), {}))
    return before, after


def images(trainer) -> set[bytes]:
    """Every image that the student learns from, as bytes."""
    shown: set[bytes] = set()

    def note(module, inputs) -> None:
        if not module.training:
            return
        shown.update(each.contiguous().numpy().tobytes() for each in inputs[0])

    trainer.network.student.register_forward_pre_hook(note)
    return shown


def keys(folder) -> list[str]:
    """The image of every output in the files, as often as it is in them."""
    found = []
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, "pt") as file:
            found += {name.split("/")[0] for name in file.keys()}  # noqa: SIM118 - no mapping
    return found


def test_both_orientations_are_asked_for_before_the_first_epoch_and_none_after(taught, tmp_path, caplog):
    bundle, dataset, given = taught
    given = {**given, "teacher_store": str(tmp_path / "store"), "epochs": 3}
    trainer = prepare(bundle, dataset, tmp_path / "run", **given).trainer
    before, after = watched(trainer)
    slices = len(trainer.data_loader.dataset)
    with caplog.at_level("INFO"):
        trainer.run()
    assert sum(before) == 2 * slices
    assert after == []
    assert f"{2 * slices} of {2 * slices} outputs" in caplog.text
    assert "filled before the first epoch" in caplog.text
    # The next run looks up some batches alone.
    caplog.clear()
    again = prepare(bundle, dataset, tmp_path / "next", **given, batch_size=2).trainer
    asked = watched(again)
    batches = []
    prepare_batch = again.prepare_batch
    again.prepare_batch = lambda *args, **kwargs: (batches.append(again.state.epoch), prepare_batch(*args, **kwargs))[1]
    again.run()
    assert asked == ([], [])
    assert batches.count(0) == teacher_outputs._SAMPLE < 2 * len(again.data_loader)


def test_a_store_of_another_seed_is_not_taken_for_full(taught, tmp_path):
    bundle, dataset, given = taught
    given = {**given, "teacher_store": str(tmp_path / "store"), "views": 2, "augmentation": [NOISE]}
    for seed in (0, 1):
        trainer = prepare(bundle, dataset, tmp_path / f"run{seed}", **given, seed=seed).trainer
        before, after = watched(trainer)
        trainer.run()
        assert (sum(before), after) == (2 * len(trainer.data_loader.dataset), [])


def test_flips_are_as_random_as_before_in_the_epochs(taught, tmp_path):
    """The images of a training, in their order, do not depend on the store."""
    bundle, dataset, given = taught
    seen = []
    for store in (None, str(tmp_path / "store")):
        trainer = prepare(bundle, dataset, tmp_path / f"run{len(seen)}", **given, teacher_store=store).trainer
        shown: list[bytes] = []
        trainer.network.student.register_forward_pre_hook(
            lambda module, inputs, shown=shown: shown.append(inputs[0].contiguous().numpy().tobytes())
        )
        trainer.run()
        seen.append(shown)
    assert seen[0] == seen[1]


@pytest.mark.parametrize(("views", "epochs", "needed"), [(5, 2, 2), (2, 5, 2), (1, 3, 1)])
def test_of_views_those_that_the_epochs_will_have(taught, tmp_path, views, epochs, needed):
    bundle, dataset, given = taught
    store = {"teacher_store": str(tmp_path / "store"), "views": views, "augmentation": [NOISE]}
    trainer = prepare(bundle, dataset, tmp_path / "run", **given, **store, epochs=epochs).trainer
    (before, after), shown = watched(trainer), images(trainer)
    trainer.run()
    assert sum(before) == needed * len(trainer.data_loader.dataset) == len(shown)
    assert after == []


def test_a_resumed_run_asks_for_the_views_to_come(taught, tmp_path):
    bundle, dataset, given = taught
    given = {**given, "teacher_store": str(tmp_path / "store"), "views": 3, "augmentation": [NOISE]}
    slices = len(train(bundle, dataset, tmp_path / "run", **given, epochs=1).trainer.data_loader.dataset)
    trainer = prepare(bundle, dataset, tmp_path / "run", **given, epochs=5, resume=True).trainer
    before, after = watched(trainer)
    trainer.run()
    # Views 2 and 3, and that of epoch 4 is view 1, which the first run has stored.
    assert (sum(before), after) == (2 * slices, [])


def test_an_interrupted_fill_goes_on_where_it_was(taught, tmp_path, monkeypatch):
    bundle, dataset, given = taught
    given = {**given, "teacher_store": str(tmp_path / "store"), "epochs": 3}
    trainer = prepare(bundle, dataset, tmp_path / "run", **given).trainer
    asked: list[int] = []

    def stop(module, inputs) -> None:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append(len(inputs[0]))

    hook = trainer.network.teachers["teacher"].register_forward_pre_hook(stop)
    monkeypatch.setattr(teacher_outputs, "_SECONDS", -1.0)  # after each batch
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    hook.remove()
    assert len(keys(tmp_path / "store")) == sum(asked)
    trainer = prepare(bundle, dataset, tmp_path / "run", **given).trainer
    before, after = watched(trainer)
    trainer.run()
    assert sum(before) == 2 * len(trainer.data_loader.dataset) - sum(asked)
    assert after == []


def test_two_runs_at_the_same_time_share_the_work(taught, tmp_path, monkeypatch):
    bundle, dataset, given = taught
    given = {**given, "teacher_store": str(tmp_path / "store"), "epochs": 2}
    first, second = (prepare(bundle, dataset, tmp_path / name, **given).trainer for name in ("first", "second"))
    (before, after), others = watched(first), watched(second)
    monkeypatch.setattr(teacher_outputs, "_SECONDS", -1.0)

    def meanwhile(module, inputs, output) -> None:
        if not others[0]:
            with torch.enable_grad():
                second.run()

    first.network.teachers["teacher"].register_forward_hook(meanwhile)
    first.run()
    # All that was not known when the other began was computed by it, and found by the first one at its next batch.
    assert (len(before), after, others[1]) == (1, [], [])
    assert len(set(keys(tmp_path / "store"))) == 2 * len(first.data_loader.dataset)


def test_one_epoch_does_not_pay_for_orientations_it_will_not_see(taught, tmp_path, caplog):
    bundle, dataset, given = taught
    given = {**given, "teacher_store": str(tmp_path / "store"), "epochs": 1}
    trainer = prepare(bundle, dataset, tmp_path / "run", **given).trainer
    before, after = watched(trainer)
    with caplog.at_level("INFO"):
        trainer.run()
    assert (before, sum(after)) == ([], len(trainer.data_loader.dataset))
    assert "not filled beforehand" in caplog.text


@pytest.mark.parametrize(("chance", "each"), [(0.5, 2), (0, 1), (1, 1)])
def test_orientations_that_never_come_are_not_asked_for(taught, tmp_path, chance, each):
    bundle, dataset, given = taught
    given = {**given, "teacher_store": str(tmp_path / "store"), "flip_probability": chance}
    trainer = prepare(bundle, dataset, tmp_path / "run", **given).trainer
    before, after = watched(trainer)
    trainer.run()
    assert (sum(before), after) == (each * len(trainer.data_loader.dataset), [])


def test_other_random_transforms_leave_the_store_to_the_epochs(taught, tmp_path):
    """A data set of one's own, of which the config can't know that its images repeat."""
    bundle, dataset, given = taught
    given = {**given, "augmentation": [NOISE], "teacher_store": str(tmp_path / "store")}
    trainer = prepare(bundle, dataset, tmp_path / "run", **given, **{"distillation#images_repeat": True}).trainer
    before, after = watched(trainer)
    trainer.run()
    assert (before, sum(after)) == ([], 2 * len(trainer.data_loader.dataset))


def test_workers_of_the_loader_give_the_same_images(taught, tmp_path):
    bundle, dataset, given = taught
    given = {**given, "teacher_store": str(tmp_path / "store"), "workers": 2}
    trainer = prepare(bundle, dataset, tmp_path / "run", **given).trainer
    before, after = watched(trainer)
    trainer.run()
    assert (sum(before), after) == (2 * len(trainer.data_loader.dataset), [])


def test_two_processes_fill_it_together(disc_dataset, tmp_path):
    given = {**OVERRIDES["seg_student"], "dataset_dir": str(disc_dataset), "norm": "instance", "recipe": "kd"}
    given["teacher_overrides"] = {**given["teacher_overrides"], "norm": "instance"}
    states = train_on_two_nodes(tmp_path, **given, teacher_store=str(tmp_path / "node0" / "store"))
    assert states[0] == states[1]
    found = keys(tmp_path / "node0" / "store")
    slices = len(prepare("seg_student", disc_dataset, tmp_path / "none").parser.get_parsed_content("train#dataset"))
    assert len(set(found)) == 2 * slices
    # The sampler gives both equally many images, so that with an odd number one image comes twice.
    assert len(found) <= len(set(found)) + 2 * (slices % 2)


def test_a_network_without_a_teacher_has_nothing_to_fill(disc_dataset, tmp_path, caplog):
    with caplog.at_level("INFO"):
        train("seg_student", disc_dataset, tmp_path, recipe="none", epochs=1)
    assert "teacher_store" not in caplog.text
    assert torch.load(tmp_path / "model.pt", weights_only=True)
