"""What a recipe makes of a student and its teacher, and what is found out before a teacher is trained."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fire.parser import DefaultParseValue
from monai.losses import DiceCELoss
from tiny import BUNDLES, CLS_TAUGHT_BY, NETWORKS, SEG_TAUGHT_BY, TINY_BACKBONES, cause, prepare, rows, train, untrained
from torch import nn

from monai_kd.bundle import Distillation, Teacher, needs_teacher, recipe_title
from monai_kd.config import build_network
from monai_kd.losses import AttentionLoss, FeatureLoss, LogitKL, SimilarityLoss
from monai_kd.transforms import slice_preprocessing

TAPS = {"d4": "upcat_4", "d1": "upcat_1"}
TEACHER_TAPS = {"d4": "unet.upcat_4", "d1": "unet.upcat_1"}
SETTINGS = {
    **{"image_size": 32, "in_channels": 3, "spatial_dims": 2, "mask_names": ["tumour"], "activation": "sigmoid"},
    **{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
}


def never() -> nn.Module:
    raise AssertionError("a term without weight is built")


TERMS = {
    **{"supervised": lambda: DiceCELoss(sigmoid=True), "logit": LogitKL, "feature": FeatureLoss},
    **{"attention": AttentionLoss, "never": never},
}


def teacher(folder: Path, **settings: Any) -> Teacher:
    checkpoint = untrained("seg_teacher", folder, **{"taps": TEACHER_TAPS, **settings})
    return Teacher(str(checkpoint), BUNDLES / "seg_teacher", folder, {"dataset_dir": None, "fold": 0, "leave_out": []})


class Forbidden(Teacher):
    """A teacher whose description is asked for: nothing else may be needed where a recipe has no teacher."""

    def __init__(self) -> None:
        super().__init__(None, "/nowhere", "/nowhere", {"dataset_dir": "/nowhere", "fold": 0, "leave_out": []})

    def __getattribute__(self, name: str) -> Any:
        if name in ("trained", "untrained", "load", "taps", "settings"):
            raise AssertionError(f"a recipe without a teacher asks for its {name}")
        return super().__getattribute__(name)


def distillation(teacher: Teacher, weights: dict[str, float], **more: Any) -> Distillation:
    torch.manual_seed(0)
    student = more.pop("student", None) or build_network(NETWORKS["seg_student"])
    given = {"terms": TERMS, "taps": TAPS, "settings": SETTINGS, **more}
    return Distillation(student, teacher, weights=weights, **given)


class Embedding(nn.Module):
    """A network of masks with a vector beside."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.embedding = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 5))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.embedding(image)
        return self.network(image)


class TestOutputOfTheStudent:
    @pytest.mark.parametrize(
        ("settings", "wanted"),
        [
            ({"mask_names": ["a", "b"]}, "(2, 32, 32) are needed: an output for each of mask_names (a, b), of"),
            ({"multiclass": True}, "(2, 32, 32) are needed: an output for each of mask_names (tumour) and the backg"),
        ],
    )
    def test_not_one_for_each_mask(self, settings, wanted):
        made = distillation(Forbidden(), {"supervised": 1}, settings={**SETTINGS, **settings})
        with pytest.raises(ValueError) as caught:
            made.loss  # noqa: B018
        assert "BasicUNet, returns (1, 32, 32) (channels, spatial axes)" in str(caught.value)
        assert wanted in str(caught.value)

    def test_of_another_size_than_the_image(self):
        student = nn.Conv2d(3, 1, 2, stride=2)
        with pytest.raises(ValueError, match=r"Conv2d, returns \(1, 16, 16\) .* of the size of the image"):
            distillation(Forbidden(), {"supervised": 1}, student=student, taps={}).loss  # noqa: B018


def test_patches_that_the_teacher_was_not_trained_with_are_said(tmp_path, caplog):
    network = {**NETWORKS["seg_student"], "spatial_dims": 3, "in_channels": 1, "features": [4] * 6}
    read = {"modalities": ["t1"], "orientation": "RAS", "spacing": None, "regions": {"tumour": [1]}}
    own = {**SETTINGS, "in_channels": 1, "spatial_dims": 3, "mean": None, "std": None, "volumes": read}
    theirs = {**own, "image_size": [32, 32, 16], "network_def": network}
    made = distillation(
        teacher(tmp_path, **theirs),
        {"supervised": 1, "logit": 1},
        student=build_network(network),
        settings={**own, "image_size": [32, 32, 32]},
    )
    assert made.distiller.teachers
    said = "takes patches of [32, 32, 32] and the teacher was trained with [32, 32, 16], of its settings.json: patches"
    assert said in caplog.text


class TestRecipes:
    @pytest.mark.parametrize(
        ("weights", "needed"),
        [
            ({"supervised": 1}, False),
            ({"supervised": 0.5, "logit": 1}, True),
            ({"feature": 0.1, "supervised": 1}, True),
            ({"logit": 0, "supervised": 1}, True),
        ],
    )
    def test_which_need_a_teacher(self, weights, needed):
        assert needs_teacher(TERMS, weights) is needed

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            (
                {"logits": 1},
                r"no loss term of the name logits \(did you mean logit\?\); terms are supervised, ",
            ),
            ({"logit": "much"}, "loss weights must be numbers, got {'logit': 'much'}"),
            ({"logit": True}, "loss weights must be numbers, got {'logit': True}"),
            ({"logit": -1, "supervised": 1}, "loss weights must be finite and not negative, got {'logit': -1}"),
            ({"logit": float("nan")}, "loss weights must be finite"),
            ({"logit": 0}, "at least one loss weight must be above 0"),
            ({}, "at least one loss weight must be above 0"),
        ],
    )
    def test_which_are_refused(self, weights, message):
        with pytest.raises(ValueError, match=message):
            needs_teacher(TERMS, weights)

    def test_titles(self):
        recipes = {"none": {"ce": 1}, "kd": {"ce": 0.1, "logit": 0.9}}
        assert recipe_title("kd", recipes, {"logit": 0.9, "ce": 0.1}) == "recipe kd"
        assert recipe_title("kd", recipes, {"ce": 0.1, "logit": 1e-7}) == "weights ce 0.1, logit 1e-07"
        assert recipe_title("kd", recipes, {"ce": 0.1}) == "weights ce 0.1"
        assert recipe_title("own", recipes, {"ce": 1.0}) == "weights ce 1"


class TestWithoutATeacher:
    def test_any_network_trains_and_nothing_is_tapped(self):
        """The modules that the config names for taps are not there."""
        made = distillation(Forbidden(), {"supervised": 1}, student=nn.Conv2d(3, 1, 1), taps={"d1": "no.such.module"})
        assert list(made.loss.terms) == ["supervised"]
        assert list(made.loss.parameters()) == []
        outputs = made.distiller(torch.rand(2, 3, 32, 32))
        assert outputs.keys() == {"student", "student_features"}
        assert outputs["student_features"] == {}
        assert made.distiller.teachers == {}

    @pytest.mark.parametrize(
        "network",
        [
            {"_target_": "SegResNet", "init_filters": 8},
            {"_target_": "UNet", "channels": [4, 8, 8, 8], "strides": [2, 2, 2]},
        ],
    )
    def test_an_image_size_that_the_network_does_not_take(self, network):
        student = build_network({**network, "spatial_dims": 2, "in_channels": 3, "out_channels": 1})
        settings = {**SETTINGS, "image_size": 36}
        made = distillation(Forbidden(), {"supervised": 1}, student=student, settings=settings)
        with pytest.raises(ValueError, match=f"image_size is 36, and the network, {network['_target_']}, fails"):
            _ = made.loss

    def test_a_checkpoint_that_is_not_used_is_said(self, tmp_path, caplog):
        given = teacher(tmp_path)
        assert distillation(given, {"supervised": 1}).distiller.teachers == {}
        assert "is not used: this recipe has no teacher" in caplog.text

    def test_a_store_of_nothing_is_not_made(self, tmp_path):
        distillation(Forbidden(), {"supervised": 1}, store=str(tmp_path / "store")).distiller(torch.rand(2, 3, 32, 32))
        assert not (tmp_path / "store").exists()


class TestWithATeacher:
    def test_logits_alone_tap_nothing(self, tmp_path):
        made = distillation(teacher(tmp_path), {"logit": 1}, taps={"d1": "no.such.module"})
        outputs = made.distiller(torch.rand(2, 3, 32, 32))
        assert (outputs["student_features"], outputs["teacher_features"]) == ({}, {})
        assert len(made.loss.projections) == 0
        assert made.loss(outputs).terms.keys() == {"logit"}

    def test_the_network_is_that_of_the_checkpoint_frozen(self, tmp_path):
        given = teacher(tmp_path)
        (network,) = distillation(given, {"logit": 1}).distiller.teachers.values()
        saved = torch.load(given.checkpoint, weights_only=True)
        assert all(torch.equal(value, saved[name]) for name, value in network.state_dict().items())
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())

    @pytest.mark.parametrize("store", [None, "store"])
    def test_layers_that_no_projection_takes_are_compared_as_tapped(self, tmp_path, store):
        """Embeddings of the two networks, (B, C) with other numbers of channels."""
        given = teacher(tmp_path / "t", taps={"e": "unet.conv_0"})
        student = Embedding(build_network(NETWORKS["seg_student"]))
        terms = {"similarity": SimilarityLoss, "supervised": TERMS["supervised"]}
        made = distillation(
            given,
            {"similarity": 1},
            student=student,
            taps={"e": "embedding"},
            terms=terms,
            store=store and str(tmp_path / store),
        )
        assert len(made.loss.projections) == 0
        for _ in range(2):  # the second time from the store
            outputs = made.distiller(torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
            assert outputs["student_features"]["e"].shape == (3, 5)
            assert outputs["teacher_features"]["e"].ndim == 4
            report = made.loss(outputs)
            assert float(report.terms["similarity"]) > 0
        report.total.backward()
        assert student.embedding[-1].weight.grad.abs().sum() > 0

    @pytest.mark.parametrize(
        ("term", "taps", "message"),
        [
            (FeatureLoss, {"e": "embedding"}, r"embeddings, \(B, C\), are no such map. .* such as SimilarityLoss"),
            (SimilarityLoss, {}, "compares features, and no layers are tapped"),
        ],
    )
    def test_layers_that_a_term_does_not_take(self, tmp_path, term, taps, message):
        given = teacher(tmp_path / "t", taps={"e": "unet.conv_0"})
        student = Embedding(build_network(NETWORKS["seg_student"]))
        made = distillation(given, {"x": 1}, student=student, taps=taps, terms={"x": term})
        with pytest.raises(ValueError, match=message):
            made.distiller  # noqa: B018

    @pytest.mark.parametrize("side", ["teacher", "student"])
    def test_projections_have_the_channels_that_are_there(self, tmp_path, side):
        made = distillation(teacher(tmp_path), {"feature": 1, "attention": 0.5}, projection_side=side)
        layers = made.loss.projections["teacher"].layers
        # FEATURES are equal in both tiny networks: [4, 4, 8, 8, 8, 4]
        assert {name: tuple(layer.weight.shape[:2]) for name, layer in layers.items()} == {"d4": (8, 8), "d1": (4, 4)}
        outputs = made.distiller(torch.rand(2, 3, 32, 32))
        assert outputs["teacher_features"].keys() == outputs["student_features"].keys() == TAPS.keys()
        report = made.loss(outputs)
        report.total.backward()
        assert report.terms.keys() == {"feature", "attention"}
        assert all(parameter.grad is not None for parameter in made.loss.parameters())

    def test_order_of_asking_changes_no_number(self, tmp_path):
        """A config may ask for the loss or for the distiller first; both leave torch's random state where it was."""
        states = []
        for first in ("loss", "distiller"):
            made = distillation(teacher(tmp_path), {"feature": 1, "logit": 1})
            torch.manual_seed(1)
            getattr(made, first)
            states.append((made.loss.state_dict(), made.distiller.state_dict(), torch.rand(1)))
        (loss, own, number), (loss_2, own_2, number_2) = states
        assert torch.equal(number, number_2)
        for one, other in ((loss, loss_2), (own, own_2)):
            assert one.keys() == other.keys()
            assert all(torch.equal(value, other[name]) for name, value in one.items())

    @pytest.mark.parametrize("weights", [{"feature": 1}, {"logit": 1}])
    def test_an_untrained_teacher_is_built_and_run_once(self, tmp_path, monkeypatch, weights):
        """A large one takes seconds for each."""
        built, run = [], []

        def untrained(self: Teacher) -> nn.Module:
            built.append(1)
            network = original(self)
            network.register_forward_pre_hook(lambda *_: run.append(1))
            return network

        original = Teacher.untrained
        monkeypatch.setattr(Teacher, "untrained", untrained)
        monkeypatch.setattr(Teacher, "load", original)
        made = distillation(teacher(tmp_path), weights)
        assert made.loss.needs_teacher
        assert made.distiller.teachers
        assert (len(built), len(run)) == (1, 1)

    def test_parts_are_built_once(self, tmp_path):
        made = distillation(teacher(tmp_path), {"feature": 1})
        assert made.loss is made.loss
        assert made.distiller is made.distiller

    def test_a_store_is_said_and_used(self, tmp_path, caplog):
        made = distillation(teacher(tmp_path / "t"), {"logit": 1}, store=str(tmp_path / "store"))
        with caplog.at_level(logging.INFO):
            made.distiller(torch.rand(2, 3, 32, 32))
        made.distiller.store.flush()
        assert f"teacher_store: delete {tmp_path / 'store'} when no run needs it" in caplog.text
        assert list((tmp_path / "store").rglob("*.safetensors"))

    def test_a_store_is_refused_where_no_image_comes_twice(self, tmp_path):
        with pytest.raises(ValueError, match="no image occurs twice: leave teacher_store at null"):
            distillation(Forbidden(), {"logit": 1}, store=str(tmp_path / "store"), images_repeat=False)

    @pytest.mark.parametrize(
        ("given", "settings", "message"),
        [
            ({"taps": {"d1": "upcat_9"}}, {}, r"tap 'd1': BasicUNet has no module 'upcat_9' \(did you mean upcat_\d"),
            ({}, {"taps": {"d4": "unet.upcat_4", "d1": "unet.up"}}, "tap 'd1': HybridUNet has no module 'unet.up'"),
            ({}, {"taps": {"d4": "unet.upcat_4"}}, "has no module|it has taps for d4|d1 of the student"),
            ({}, {"taps": {"d4": "vit.blocks.0", "d1": "unet.upcat_1"}}, "layer 'd4': student .* and teacher "),
            ({}, {"mask_names": ["tumour", "edema"]}, "HybridUNet, has other outputs: it returns 1 outputs, and 2 are"),
            ({}, {"mask_names": ["edema", "cyst"]}, r"the student segments tumour \(sigmoid\), and .* has no 'tumour'"),
            ({}, {"activation": "softmax", "multiclass": True}, "HybridUNet, has other outputs: it returns 1 outputs"),
            ({}, {"in_channels": 4}, "the student takes 3 channels and the teacher 4"),
        ],
    )
    def test_what_does_not_fit_is_refused_before_weights_are_loaded(
        self, tmp_path, monkeypatch, given, settings, message
    ):
        def load(self: Teacher) -> nn.Module:
            raise AssertionError("loaded, or trained, before it is known to fit")

        monkeypatch.setattr(Teacher, "load", load)
        made = distillation(teacher(tmp_path, **settings), {"feature": 1, "logit": 1}, **given)
        with pytest.raises(ValueError, match=message):
            _ = made.distiller

    def test_a_teacher_of_more_classes_is_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(Teacher, "load", lambda self: pytest.fail("loaded"))
        given = teacher(tmp_path)
        given.trained["network_def"] = {**NETWORKS["seg_teacher"], "out_channels": 3}
        with pytest.raises(ValueError, match=r"the student returns logits \(1, 32, 32\) and the teacher \(3, 32, 32\)"):
            _ = distillation(given, {"logit": 1}).distiller


# A teacher that would be trained for ever, if anything went so far.
ENDLESS = {
    "seg_student": {"recipe": "kd_plus_plus", "teacher_overrides": {**SEG_TAUGHT_BY, "epochs": 10**6}},
    "cls_student": {"recipe": "msgff", "teacher_overrides": {**CLS_TAUGHT_BY, "epochs": 10**6}},
}


class TestBeforeATeacherIsTrained:
    @pytest.mark.parametrize(
        ("bundle", "overrides", "message"),
        [
            (
                "seg_student",
                {"taps": {"d4": "upcat_4", "d1": "upcat_9"}},
                "tap 'd1': BasicUNet has no module 'upcat_9'",
            ),
            ("cls_student", {"taps": {"msgff": "blocks.9"}}, "tap 'msgff': EfficientNet has no module 'blocks.9'"),
            (
                "seg_student",
                {"teacher_taps": {"d4": "unet.upcat_4", "d3": "u"}},
                "to compare with d2, d1 of the student",
            ),
            (
                "seg_student",
                {"teacher_taps": {name: "unet.nowhere" for name in ("d4", "d3", "d2", "d1")}},
                "HybridUNet has no module 'unet.nowhere'",
            ),
            ("cls_student", {"teacher_taps": {"msgff": "backbones.1.blocks.0"}}, "tokens, (B, N, C), and embeddings"),
            (
                "seg_student",
                {"teacher_overrides": {**SEG_TAUGHT_BY, "multiclass": True, "epochs": 10**6}},
                "meningioma, glioma",
            ),
            ("cls_student", {"teacher_overrides": {"backbones": [{"name": "nix"}]}}, "nix"),
            ("seg_student", {"teacher_overrides": {**SEG_TAUGHT_BY, "vit_name": "nix"}}, "nix"),
            (
                "seg_student",
                {"teacher_store": "s", "augmentation": [{"_target_": "Identityd", "keys": "image"}]},
                "occurs twice",
            ),
            ("cls_student", {"teacher_store": "s", "mixup": 0.4}, "no image occurs twice"),
        ],
    )
    def test_mistakes_cost_no_training(self, disc_dataset, class_dataset, tmp_path, bundle, overrides, message):
        data = disc_dataset if bundle == "seg_student" else class_dataset
        with pytest.raises((RuntimeError, ValueError)) as caught:
            train(bundle, data, tmp_path, **{**ENDLESS[bundle], **overrides})
        assert message in cause(caught.value)
        assert not list(tmp_path.iterdir())


class TestWeights:
    def test_of_the_command_line_in_place_of_a_recipe(self, disc_dataset, tmp_path):
        weights = {"supervised": 1, "edge": 0.5}
        given = {"weights": weights, "teacher_overrides": {**SEG_TAUGHT_BY}}
        workflow = train("seg_student", disc_dataset, tmp_path, epochs=1, **given)
        (row,) = rows(tmp_path)
        assert {name for name in row if name.startswith("loss/")} == {"loss/supervised", "loss/edge"}
        assert row["loss"] == pytest.approx(row["loss/supervised"] + 0.5 * row["loss/edge"], rel=1e-4)
        title = "SYNTHETIC phantoms: segmentation student, weights supervised 1, edge 0.5"
        assert workflow.parser.get_parsed_content("title") == title
        # edges are of logits: nothing is tapped
        assert list(workflow.parser.get_parsed_content("loss").parameters()) == []

    def test_of_supervised_terms_alone_no_teacher_is_trained(self, disc_dataset, tmp_path, caplog):
        store = str(tmp_path / "store")
        train("seg_student", disc_dataset, tmp_path, epochs=1, weights={"bce": 1}, teacher_store=store)
        assert "teacher_store: NOT used: this recipe has no teacher" in caplog.text
        assert not list(tmp_path.glob("teacher-*"))
        (row,) = rows(tmp_path)
        assert {name for name in row if name.startswith("loss/")} == {"loss/bce"}

    def test_as_text_of_a_shell(self, disc_dataset, tmp_path):
        """Fire makes a mapping of ``"{'supervised': 1}"``."""
        given = DefaultParseValue("{'supervised': 1, 'edge': 0.5}")
        parser = prepare("seg_student", disc_dataset, tmp_path, weights=given).parser
        assert parser.get_parsed_content("weights") == {"supervised": 1, "edge": 0.5}

    def test_a_network_without_the_taps_of_the_config_trains_alone(self, disc_dataset, tmp_path):
        network = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 1, "kernel_size": 3, "padding": 1}
        given = {"recipe": "none", "epochs": 1, "network_def": network}
        train("seg_student", disc_dataset, tmp_path, **given)
        assert torch.load(tmp_path / "model.pt", weights_only=True)["weight"].shape == (1, 3, 3, 3)


def of_file(path: Path, size: int, channels: int, mean: list[float], std: list[float]) -> torch.Tensor:
    """A batch of one slice, as the preprocessing of a network with this input makes it."""
    made = slice_preprocessing(size, channels, mean, std, single_slices=True, track_meta=False)({"image": str(path)})
    return torch.as_tensor(made["image"])[None]


class TestTeacherWithAnotherInput:
    """Its own size, channels and normalisation: it sees what its own preprocessing would have made of the file."""

    OWN = (64, 3, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    INPUTS = {  # noqa: RUF012
        "normalisation": (64, 3, [0.5, 0.5, 0.5], [0.25, 0.5, 1.0]),
        "none": (64, 3, [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
        "size": (32, *OWN[1:]),
        "larger": (96, *OWN[1:]),
        "all": (48, 3, [0.1, 0.2, 0.3], [0.3, 0.2, 0.1]),
    }

    def made(self, folder: Path, own: tuple, its: tuple, student: nn.Module | None = None) -> Distillation:
        names = ("image_size", "in_channels", "mean", "std")
        settings = {**SETTINGS, **dict(zip(names, own, strict=True))}
        return distillation(
            teacher(folder, **dict(zip(names, its, strict=True))),
            {"logit": 1, "feature": 1},
            settings=settings,
            student=student,
        )

    def seen(self, made: Distillation, image: torch.Tensor) -> torch.Tensor:
        """What the teacher is given."""
        found: list[torch.Tensor] = []
        (network,) = made.distiller.teachers.values()
        network.register_forward_pre_hook(lambda _module, inputs: found.append(inputs[0]))
        outputs = made.distiller(image)
        made.loss(outputs).total.backward()
        assert outputs["teacher"].shape == outputs["student"].shape
        return found[-1]

    @pytest.mark.parametrize("its", INPUTS.values(), ids=INPUTS)
    def test_it_sees_what_its_own_preprocessing_would_make(self, disc_dataset, tmp_path, its):
        path = disc_dataset / "images" / "0000.nii.gz"
        found = self.seen(self.made(tmp_path, self.OWN, its), of_file(path, *self.OWN))
        expected = of_file(path, *its)
        assert found.shape == expected.shape
        if its[0] == self.OWN[0]:
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        else:
            # The file has 64 pixels a side: smaller images are made from the same pixels, but with antialiasing or not.
            scale = torch.tensor(its[3]).reshape(1, -1, 1, 1)
            assert float(((found - expected) * scale).abs().mean()) < 0.03

    @pytest.mark.parametrize("own_channels", [1, 3])
    def test_grey_channels(self, disc_dataset, tmp_path, own_channels):
        """A student of one channel and a teacher of three; HybridUNet takes no other."""
        path = disc_dataset / "images" / "0001.nii.gz"
        own = (64, own_channels, [0.4] * own_channels, [0.3] * own_channels)
        network = build_network({**NETWORKS["seg_student"], "in_channels": own_channels})
        found = self.seen(self.made(tmp_path, own, self.OWN, network), of_file(path, *own))
        torch.testing.assert_close(found, of_file(path, *self.OWN), rtol=1e-4, atol=1e-5)

    def test_a_grey_teacher_of_a_student_of_three_channels(self, disc_dataset, tmp_path):
        path = disc_dataset / "images" / "0001.nii.gz"
        its = (64, 1, [0.2], [0.1])
        network = {**NETWORKS["seg_student"], "in_channels": 1}
        checkpoint = untrained("seg_student", tmp_path, network_def=network, taps=TAPS, **_named(its))
        torch.save(build_network(network).state_dict(), checkpoint)
        (tmp_path / "settings.json").write_text(_without_checksum(tmp_path / "settings.json"))
        given = Teacher(str(checkpoint), BUNDLES, tmp_path, {"dataset_dir": None, "fold": 0, "leave_out": []})
        made = distillation(given, {"logit": 1, "feature": 1}, settings={**SETTINGS, **_named(self.OWN)})
        found = self.seen(made, of_file(path, *self.OWN))
        torch.testing.assert_close(found, of_file(path, *its), rtol=1e-4, atol=1e-5)

    def test_the_very_batch_where_nothing_differs(self, disc_dataset, tmp_path):
        image = of_file(disc_dataset / "images" / "0000.nii.gz", *self.OWN)
        assert self.seen(self.made(tmp_path, self.OWN, self.OWN), image) is image

    def test_it_distils_in_a_run(self, disc_dataset, tmp_path):
        """A teacher of 48 pixels and another normalisation; the values of the student's run are its own."""
        values = {"image_size": 48, "mean": [0.1, 0.2, 0.3], "std": [0.3, 0.2, 0.1]}
        train("seg_teacher", disc_dataset, tmp_path / "t", **{**SEG_TAUGHT_BY, **values})
        given = {"teacher_checkpoint": str(tmp_path / "t" / "model.pt"), "epochs": 1}
        workflow = train("seg_student", disc_dataset, tmp_path / "s", **given)
        (row,) = rows(tmp_path / "s")
        assert all(np.isfinite(value) for value in row.values())
        assert row["loss/logit"] > 0
        sizes = []
        distiller = workflow.parser.get_parsed_content("distiller")
        (network,) = distiller.teachers.values()
        network.register_forward_pre_hook(lambda _module, inputs: sizes.append(tuple(inputs[0].shape)))
        distiller(torch.rand(2, 3, 32, 32))
        assert sizes == [(2, 3, 48, 48)]

    def test_a_classifier_of_another_size(self, class_dataset, tmp_path):
        given = {"image_size": 40, "backbones": TINY_BACKBONES}
        train("cls_teacher", class_dataset, tmp_path / "t", epochs=1, **given)
        run = {"teacher_checkpoint": str(tmp_path / "t" / "model.pt"), "epochs": 1, "recipe": "msgff"}
        train("cls_student", class_dataset, tmp_path / "s", **run)
        (row,) = rows(tmp_path / "s")
        assert row["loss/msgff"] > 0


def _named(values: tuple) -> dict[str, Any]:
    return dict(zip(("image_size", "in_channels", "mean", "std"), values, strict=True))


def _without_checksum(path: Path) -> str:
    return json.dumps({name: value for name, value in json.loads(path.read_text()).items() if name != "weights_sha256"})
