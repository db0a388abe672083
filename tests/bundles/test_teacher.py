"""Who may teach: what it was trained on, for which classes; a teacher that is trained first, once and to its end."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.transforms import RandRotated
from tiny import (
    BUNDLES,
    NETWORKS,
    SEG_TAUGHT_BY,
    TAPS_OF_TEACHER,
    TINY,
    cause,
    described,
    save,
    train,
    untrained,
)
from torch import nn

from monai_kd.bundle import Teacher
from monai_kd.bundle import teacher as module
from monai_kd.io import save_checkpoint
from monai_kd.io.checksum import file_sha256

BUNDLE = BUNDLES / "seg_teacher"


def run_of(dataset: Path | str | None, fold: int = 0, leave_out: tuple[int, ...] = (), **more: Any) -> dict[str, Any]:
    """What a student passes on to its teacher."""
    return {
        "dataset_dir": None if dataset is None else str(dataset),
        "fold": fold,
        "leave_out": list(leave_out),
        **more,
    }


def test_values_for_its_config_and_folds_that_are_none():
    with pytest.raises(ValueError, match=r"teacher_overrides must be values .* by their ids, such as .*, got 'epochs'"):
        Teacher(None, BUNDLE, "out", run_of(None), "epochs")
    with pytest.raises(ValueError, match="leave_out must be a list of folds"):
        Teacher(None, BUNDLE, "out", {**run_of(None), "leave_out": 1})


def provide(checkpoint: Path, dataset: Path | None, **own: Any) -> nn.Module:
    """The loaded teacher of a student that trains on this data."""
    return Teacher(str(checkpoint), BUNDLE, "out", run_of(dataset, **own)).load()


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


class TestGiven:
    @pytest.mark.parametrize(
        ("theirs", "own", "seen"),
        [
            ({"fold": 0, "leave_out": []}, {"fold": 0}, None),
            ({"fold": 1, "leave_out": []}, {"fold": 0}, [0]),
            ({"fold": 0, "leave_out": []}, {"fold": 0, "leave_out": (2,)}, [2]),
            ({"fold": 1, "leave_out": []}, {"fold": 0, "leave_out": (2,)}, [0, 2]),
            # kept from more than the student, or from the same in another order
            ({"fold": 0, "leave_out": [2]}, {"fold": 0}, None),
            ({"fold": 2, "leave_out": [0]}, {"fold": 0, "leave_out": (2,)}, None),
            ({"fold": None}, {"fold": 0}, [0]),
            ({"fold": None, "leave_out": [0]}, {"fold": 0}, None),
        ],
    )
    def test_one_that_saw_what_validates_the_student_is_said(self, disc_dataset, tmp_path, caplog, theirs, own, seen):
        provide(untrained("seg_teacher", tmp_path, dataset_dir=str(disc_dataset), **theirs), disc_dataset, **own)
        assert len(warnings(caplog)) == (seen is not None)
        if seen:
            assert f"The teacher was TRAINED ON the folds {seen}" in warnings(caplog)[0]

    def test_one_of_other_data_is_said(self, disc_dataset, class_dataset, tmp_path, caplog):
        provide(untrained("seg_teacher", tmp_path, dataset_dir=str(class_dataset), fold=0), disc_dataset)
        assert (
            f"The teacher was trained on {class_dataset}, and the student is trained on {disc_dataset}" in caplog.text
        )

    @pytest.mark.parametrize("settings", [{}, {"epochs": 3}, {"fold": None, "leave_out": [1]}])
    def test_one_of_unknown_data_is_said(self, disc_dataset, tmp_path, caplog, settings):
        provide(untrained("seg_teacher", tmp_path, **settings), disc_dataset)
        assert re.search("The training data of teacher_checkpoint .* is not known", caplog.text)

    def test_nobody_reports_numbers_of_slices_given_one_by_one(self, disc_dataset, tmp_path, caplog):
        provide(untrained("seg_teacher", tmp_path, dataset_dir=str(disc_dataset), fold=1), None)
        assert warnings(caplog) == []

    def test_one_of_the_same_classes_is_loaded(self, disc_dataset, tmp_path):
        checkpoint = untrained("cls_teacher", tmp_path, dataset_dir=str(disc_dataset), fold=0)
        network = provide(checkpoint, disc_dataset)
        saved = torch.load(checkpoint, weights_only=True)
        assert network.state_dict().keys() == saved.keys()
        assert all(torch.equal(value, saved[name]) for name, value in network.state_dict().items())

    def test_without_settings_it_is_refused(self, disc_dataset, tmp_path):
        checkpoint = untrained("seg_teacher", tmp_path)
        (tmp_path / "settings.json").unlink()
        with pytest.raises(
            ValueError, match=r"has no settings\.json beside it, which describes its network: restore it"
        ):
            provide(checkpoint, disc_dataset)

    def test_without_a_checkpoint_it_is_refused(self, disc_dataset):
        with pytest.raises(FileNotFoundError, match=r"there is no checkpoint nowhere\.pt; train first"):
            provide(Path("nowhere.pt"), disc_dataset)

    def test_what_the_student_keeps_of_it(self, disc_dataset, tmp_path, monkeypatch):
        told = {"fold": 2, "leave_out": [1], "epochs": 9, "dataset_dir": "/data", "taps": {"d1": "unet.upcat_1"}}
        untrained("seg_teacher", tmp_path, workers=7, **told)
        monkeypatch.chdir(tmp_path)
        unknown = dict.fromkeys(("learning_rate", "datalist_sha256", "ensemble_of", "normalization"))
        expected = {**told, **unknown, "labelled_share": 1, "image_size": 32, "network_def": NETWORKS["seg_teacher"]}
        kept = Teacher("model.pt", BUNDLE, "out", run_of(disc_dataset)).settings
        assert kept.pop("weights_sha256") == file_sha256(tmp_path / "model.pt")
        assert kept == {"checkpoint": str(tmp_path / "model.pt"), **expected}

    def test_what_is_kept_of_one_that_little_is_known_of(self, disc_dataset, tmp_path):
        checkpoint = untrained("seg_teacher", tmp_path)
        kept = Teacher(str(checkpoint), BUNDLE, "out", run_of(disc_dataset)).settings
        assert (kept["checkpoint"], kept["network_def"]) == (str(checkpoint), NETWORKS["seg_teacher"])
        assert {kept[name] for name in ("dataset_dir", "fold", "epochs", "learning_rate", "taps")} == {None}

    def test_building_it_draws_no_random_numbers(self, disc_dataset, tmp_path):
        teacher = Teacher(str(untrained("seg_teacher", tmp_path)), BUNDLE, "out", run_of(disc_dataset))
        torch.manual_seed(0)
        expected = torch.rand(3)
        torch.manual_seed(0)
        teacher.untrained()
        teacher.load()
        assert torch.equal(torch.rand(3), expected)

    def test_one_that_is_not_used_is_said(self, disc_dataset, caplog):
        Teacher("model.pt", BUNDLE, "out", run_of(disc_dataset)).warn_unused()
        assert "teacher_checkpoint model.pt is not used: this recipe has no teacher" in caplog.text
        caplog.clear()
        Teacher(None, BUNDLE, "out", run_of(disc_dataset), {"epochs": 2}).warn_unused()
        assert "teacher_overrides: NOT used: this recipe has no teacher" in caplog.text
        caplog.clear()
        Teacher(None, BUNDLE, "out", run_of(disc_dataset)).warn_unused()
        assert caplog.text == ""


class TestTaps:
    def of(self, folder: Path, bundle: str = "seg_teacher", given: dict | None = None, **settings: Any) -> Teacher:
        return Teacher(str(untrained(bundle, folder, **settings)), BUNDLE, "out", run_of(None), taps=given)

    def test_those_of_the_settings_by_the_names_of_the_student(self, tmp_path):
        teacher = self.of(tmp_path, taps={"d1": "unet.upcat_1", "d4": "unet.upcat_4", "d2": "unet.upcat_2"})
        assert teacher.taps(teacher.untrained(), ["d4", "d1"]) == {"d4": "unet.upcat_4", "d1": "unet.upcat_1"}

    def test_given_ones_go_first(self, tmp_path):
        teacher = self.of(tmp_path, given={"d1": "vit.blocks.0"}, taps={"d1": "unet.upcat_1"})
        assert teacher.taps(teacher.untrained(), ["d1"]) == {"d1": "vit.blocks.0"}

    def test_the_last_convolution_of_a_vgg_needs_no_name(self, tmp_path):
        vgg = {"name": "vgg11", "image_size": 32, "mlp_ratio": 0.03125}
        network = {**NETWORKS["cls_teacher"], "backbones": [vgg]}
        teacher = self.of(tmp_path, "cls_teacher")
        teacher.trained["network_def"] = network
        assert teacher.taps(teacher.untrained(), ["msgff"]) == {"msgff": "backbones.0.features.19"}

    def test_of_another_backbone_it_must_be_said(self, tmp_path):
        teacher = self.of(tmp_path, "cls_teacher")
        with pytest.raises(ValueError, match=r"backbones\[0\] \(ResNet\) is no VGG: .* teacher_taps"):
            teacher.taps(teacher.untrained(), ["msgff"])

    @pytest.mark.parametrize("taps", [None, {}, {"d3": "unet.upcat_3"}])
    def test_lacking_ones_are_named(self, tmp_path, taps):
        teacher = self.of(tmp_path, taps=taps)
        said = (
            "HybridUNet, has no module to compare with d4, d1 of the student; "
            rf"it has taps for {'d3' if taps else 'none'}\. Give --"
        )
        with pytest.raises(ValueError, match=said):
            teacher.taps(teacher.untrained(), ["d4", "d1"])


EPOCHS = 3


class Trainings:
    """In place of `Workflow`: of each training, whether it goes on with an earlier one, and its overrides."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.resumed: list[bool] = []
        self.given: dict[str, Any] = {}
        trainings, original = self, module.Workflow

        class Recorded(original):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                trainings.given = kwargs

            def initialize(self) -> None:
                trainings.resumed.append(self.parser.get_parsed_content("resume"))

            def run(self) -> None:
                folder = Path(self.parser.get_parsed_content("output_dir"))
                save(folder, torch.load(folder.parents[1] / "weights.pt"), **described("seg_teacher"))

            def finalize(self) -> None:
                pass

        monkeypatch.setattr(module, "Workflow", Recorded)


@pytest.fixture
def trainings(monkeypatch, tmp_path) -> Trainings:
    torch.save(torch.load(untrained("seg_teacher", tmp_path / "w")), tmp_path / "weights.pt")
    return Trainings(monkeypatch)


def own(dataset: Path, output_dir: Path, overrides: dict | None = None, **more: Any) -> Teacher:
    """A student's own teacher."""
    values = {name: TINY[name] for name in ("image_size", "batch_size", "amp", "device")}
    taught_by = {**SEG_TAUGHT_BY, "features": TINY["features"], "epochs": EPOCHS, **(overrides or {})}
    return Teacher(None, BUNDLE, output_dir, run_of(dataset, **values, **more), taught_by)


def own_folder(dataset: Path, output_dir: Path, *args: Any, **more: Any) -> Path:
    return Path(own(dataset, output_dir, *args, **more).settings["checkpoint"]).parent


class TestOwn:
    @pytest.mark.parametrize(
        ("epochs", "weights", "expected"),
        [
            pytest.param(0, False, [False], id="none"),
            pytest.param(0, True, [False], id="killed-in-the-first-epoch"),
            pytest.param(1, True, [True], id="killed-later"),
            pytest.param(EPOCHS - 1, True, [True], id="killed-in-the-last-epoch"),
            pytest.param(EPOCHS, False, [False], id="weights-lost"),
            pytest.param(EPOCHS, True, [], id="done"),
            pytest.param(EPOCHS + 1, True, [], id="more-than-done"),
        ],
    )
    def test_it_is_trained_to_its_end_once(self, disc_dataset, tmp_path, trainings, caplog, epochs, weights, expected):
        folder = own_folder(disc_dataset, tmp_path / "run")
        if weights:
            untrained("seg_teacher", folder, fold=0)
        if epochs:
            save_checkpoint({"epoch": epochs}, folder / "last.ckpt")
        network = own(disc_dataset, tmp_path / "run").load()
        assert trainings.resumed == expected
        said = "training the teacher FIRST, once, for " if expected else "using the teacher trained earlier"
        assert said in caplog.text
        saved = torch.load(folder / "model.pt", weights_only=True)
        assert all(torch.equal(value, saved[name]) for name, value in network.state_dict().items())

    def test_one_that_was_replaced_is_refused(self, disc_dataset, tmp_path, trainings):
        folder = own_folder(disc_dataset, tmp_path / "run")
        untrained("seg_teacher", folder, fold=0)
        save_checkpoint({"epoch": EPOCHS}, folder / "last.ckpt")
        other = {name: value + 1 for name, value in torch.load(folder / "model.pt", weights_only=True).items()}
        torch.save(other, folder / "model.pt")
        with pytest.raises(ValueError, match="belongs to other weights"):
            own(disc_dataset, tmp_path / "run").load()
        assert trainings.resumed == []

    def test_it_is_told_by_its_settings_and_data_and_not_by_its_device(self, disc_dataset, tmp_path):
        copied = Path(shutil.copytree(disc_dataset, tmp_path / "data"))
        folder = own_folder(copied, tmp_path)
        # Of several processes, each has its own device, and all look in one folder.
        assert own_folder(copied, tmp_path, {"device": "cuda:1"}) == folder
        differing = [{"epochs": EPOCHS + 1}, {"features": [4, 8, 8, 8, 16, 4]}, {"fold": 1}, {"norm": "instance"}]
        folders = [own_folder(copied, tmp_path, each) for each in differing]
        assert len({folder, *folders}) == 1 + len(differing)
        datalist = json.loads((copied / "datalist.json").read_text())
        datalist["training"][0]["fold"] += 1
        (copied / "datalist.json").write_text(json.dumps(datalist))
        assert own_folder(copied, tmp_path) != folder

    def test_transforms_tell_it_by_their_kind_and_parameters(self, disc_dataset, tmp_path):
        def folder(**rotation: Any) -> Path:
            return own_folder(disc_dataset, tmp_path, augmentation=[RandRotated(["image", "label"], **rotation)])

        assert folder(range_x=0.1) == folder(range_x=0.1)
        assert folder(range_x=0.1) != folder(range_x=0.2)
        assert folder(range_x=0.1) != folder(range_x=0.1, prob=1.0)

    def test_its_values_are_those_of_the_student_but_for_the_overrides(self, disc_dataset, tmp_path, trainings):
        augmentation = [RandRotated(["image", "label"], range_x=0.1)]
        overrides = {"learning_rate": 0.5, "batch_size": 2}
        teacher = own(disc_dataset, tmp_path / "run", overrides, augmentation=augmentation, seed=7)
        told = teacher.trained
        assert (told["learning_rate"], told["batch_size"], told["seed"], told["fold"]) == (0.5, 2, 7, 0)
        assert (told["epochs"], told["image_size"], told["dataset_dir"]) == (EPOCHS, 32, str(disc_dataset))
        assert told["network_def"] == NETWORKS["seg_teacher"] | {"pretrained": False}
        assert told["definitions"]["augmentation"] == ["RandRotated"]
        assert told["taps"]["d4"] == "unet.upcat_4"
        teacher.load()
        # the transforms themselves
        assert trainings.given["augmentation"] is augmentation

    def test_what_it_will_be_is_what_it_was(self, disc_dataset, tmp_path, trainings):
        """A student's settings.json says the same of its teacher in the run that trains it and in the next one."""
        before = own(disc_dataset, tmp_path / "run")
        kept = before.settings
        before.load()
        assert own(disc_dataset, tmp_path / "run").settings == kept
        assert Path(kept["checkpoint"]).is_file()

    def test_what_overrides_leak_is_said(self, disc_dataset, tmp_path, trainings, caplog):
        own(disc_dataset, tmp_path / "run", {"fold": 1}).load()
        assert "The teacher was TRAINED ON the folds [0], on which the student is not trained" in caplog.text

    def test_labels_that_overrides_give_back_are_said(self, disc_dataset, tmp_path, trainings, caplog):
        own(disc_dataset, tmp_path / "run", {"labelled_share": 1}, labelled_share=0.5).load()
        assert "labelled_share is 0.5, and the teacher of teacher_overrides was trained with 1" in caplog.text

    def test_nothing_is_read_or_built_before_it_is_asked_for(self):
        Teacher("/nowhere/model.pt", "/nowhere", "/nowhere", run_of("/nowhere"))
        Teacher(None, "/nowhere", "/nowhere", run_of("/nowhere"))

    def test_without_its_bundle(self, disc_dataset, tmp_path):
        teacher = Teacher(None, tmp_path / "none", tmp_path, run_of(disc_dataset))
        with pytest.raises(
            FileNotFoundError, match=r"the teacher's bundle is not in .*none: give --teacher_checkpoint"
        ):
            teacher.load()

    def test_without_a_data_set(self, tmp_path):
        with pytest.raises(ValueError, match="there is no data set to train one on: give --teacher_checkpoint FILE"):
            Teacher(None, BUNDLE, tmp_path, run_of(None)).load()


OTHER_TEACHER = {
    "network_def": {
        **{"_target_": "BasicUNet", "spatial_dims": 2, "in_channels": "@in_channels", "out_channels": "@out_channels"},
        "features": [4, 4, 4, 4, 4, 4],
    },
    "taps": {f"d{level}": f"upcat_{level}" for level in (1, 2, 3, 4)},
    "optimizer": {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": "@learning_rate"},
    "augmentation": [{"_target_": "RandRotated", "keys": ["image", "label"], "range_x": 0.1}],
}


def test_a_teacher_of_another_architecture_is_trained_first(disc_dataset, tmp_path, caplog):
    overrides = {"epochs": 1, "learning_rate": "$10 * @learning_rate", **OTHER_TEACHER}
    for _ in range(2):
        train("seg_student", disc_dataset, tmp_path, epochs=1, teacher_overrides=overrides)
    (folder,) = tmp_path.glob("teacher-*")
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["network_def"] == {**OTHER_TEACHER["network_def"], "in_channels": 3, "out_channels": 1}
    assert settings["learning_rate"] == pytest.approx(0.01)
    assert settings["definitions"]["optimizer"]["_target_"] == "torch.optim.SGD"
    assert settings["definitions"]["augmentation"] == OTHER_TEACHER["augmentation"]
    assert "pretrained" not in settings
    student = json.loads((tmp_path / "settings.json").read_text())
    assert student["teacher"]["network_def"] == settings["network_def"]
    assert "using the teacher trained earlier" in caplog.text


def test_a_run_is_not_resumed_with_other_weights_of_the_same_teacher(disc_dataset, tmp_path):
    one, other = (
        untrained("seg_teacher", tmp_path / name, draw, taps=TAPS_OF_TEACHER) for draw, name in enumerate("ab")
    )
    train("seg_student", disc_dataset, tmp_path / "out", epochs=1, teacher_checkpoint=str(one))
    with pytest.raises(RuntimeError) as raised:
        train("seg_student", disc_dataset, tmp_path / "out", epochs=2, teacher_checkpoint=str(other), resume=True)
    assert "teacher weights_sha256 was" in cause(raised.value)
    shutil.move(tmp_path / "a", tmp_path / "moved")
    moved = str(tmp_path / "moved" / "model.pt")
    train("seg_student", disc_dataset, tmp_path / "out", epochs=2, teacher_checkpoint=moved, resume=True)


def test_a_run_is_not_resumed_with_other_taps_of_the_teacher(disc_dataset, tmp_path):
    path = untrained("seg_teacher", tmp_path / "teacher", fold=0, dataset_dir=str(disc_dataset))
    given = {"teacher_checkpoint": str(path), "taps": {"a": "upcat_1"}}
    train("seg_student", disc_dataset, tmp_path / "out", epochs=1, teacher_taps={"a": "unet.upcat_1"}, **given)
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["teacher"]["taps"] == {"a": "unet.upcat_1"}
    more = {**given, "epochs": 2, "resume": True}
    with pytest.raises(RuntimeError) as raised:
        train("seg_student", disc_dataset, tmp_path / "out", teacher_taps={"a": "unet.upcat_2"}, **more)
    assert "teacher taps was" in cause(raised.value)


@pytest.mark.parametrize("with_projections", [False, True])
def test_projections_that_no_optimizer_trains_are_said(with_projections, disc_dataset, tmp_path, caplog):
    path = untrained("seg_teacher", tmp_path / "teacher", fold=0, dataset_dir=str(disc_dataset), taps=TAPS_OF_TEACHER)
    more = {} if with_projections else {"optimizer#params": "$list(@network.parameters())"}
    train("seg_student", disc_dataset, tmp_path / "out", epochs=1, teacher_checkpoint=str(path), **more)
    assert ("which stay RANDOM, so that what they compare means little" in caplog.text) == (not with_projections)
