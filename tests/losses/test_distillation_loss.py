"""The weighted sum: arithmetic, names, several teachers, errors."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.losses import DiceCELoss, TverskyLoss
from torch import nn

from monai_kd.losses import (
    AttentionLoss,
    BodyKL,
    BoundaryKL,
    ChannelWiseKL,
    CorrelationLoss,
    DistillationLoss,
    EdgeKL,
    EdgeLoss,
    FeatureLoss,
    LogitKL,
    LogitMSE,
    MultiScaleFusionLoss,
    Projections,
    SoftDice,
    WithTeacher,
)


def outputs(spatial: tuple[int, ...] = (8, 8), seed: int = 0) -> dict:
    torch.manual_seed(seed)
    return {
        "student": torch.randn(2, 1, *spatial, requires_grad=True),
        "teacher": torch.randn(2, 1, *spatial),
        "student_features": {"d1": torch.randn(2, 3, *spatial, requires_grad=True)},
        "teacher_features": {"d1": torch.randn(2, 3, *spatial)},
    }


def mask(spatial: tuple[int, ...] = (8, 8)) -> torch.Tensor:
    return (torch.rand(2, 1, *spatial, generator=torch.Generator().manual_seed(9)) > 0.5).float()


def all_terms() -> dict[str, nn.Module]:
    return {
        "sup": DiceCELoss(sigmoid=True),
        "kl": LogitKL(),
        "mse": LogitMSE(),
        "feature": FeatureLoss(),
        "fusion": MultiScaleFusionLoss((1, 2)),
        "attention": AttentionLoss(),
        "edge": EdgeLoss(),
        "channel_wise": ChannelWiseKL(),
        "correlation": CorrelationLoss(),
        "soft_dice": SoftDice(),
        "boundary": BoundaryKL(),
        "edge_kl": EdgeKL(),
        "body_kl": BodyKL(),
    }


WEIGHTS = {
    **{"sup": 0.5, "kl": 2.0, "mse": 0.25, "feature": 1.5, "fusion": 3.0, "attention": 0.75, "edge": 0.1},
    **{"channel_wise": 0.3, "correlation": 1.25, "soft_dice": 0.7, "boundary": 0.6, "edge_kl": 0.4, "body_kl": 0.2},
}


@pytest.mark.parametrize(
    "spatial",
    [
        pytest.param((8, 8), id="map-2d"),  # logits (2, 1, 8, 8), features (2, 3, 8, 8)
        pytest.param((4, 4, 6), id="map-3d"),  # logits (2, 1, 4, 4, 6), features (2, 3, 4, 4, 6)
    ],
)
def test_total_is_the_weighted_sum_of_all_terms(spatial):
    given, label = outputs(spatial), mask(spatial)
    report = DistillationLoss(all_terms(), WEIGHTS)(given, label)
    s, t = given["student"].detach(), given["teacher"]
    fs, ft = {"d1": given["student_features"]["d1"].detach()}, given["teacher_features"]
    alone = {
        "sup": DiceCELoss(sigmoid=True)(s, label),
        "kl": LogitKL()(s, t),
        "mse": LogitMSE()(s, t),
        "feature": FeatureLoss()(fs, ft),
        "fusion": MultiScaleFusionLoss((1, 2))(fs, ft),
        "attention": AttentionLoss()(fs, ft),
        "edge": EdgeLoss()(s, label),
        "channel_wise": ChannelWiseKL()(s, t),
        "correlation": CorrelationLoss()(s, t),
        "soft_dice": SoftDice()(s, t),
        "boundary": BoundaryKL()(s, t, label),
        "edge_kl": EdgeKL()(s, t, label),
        "body_kl": BodyKL()(s, t, label),
    }
    assert list(report.terms) == list(report.weighted) == list(alone)
    for name, value in alone.items():
        assert float(report.terms[name]) == float(value)
        assert float(report.weighted[name]) == pytest.approx(WEIGHTS[name] * float(value))
    assert float(report.total.detach()) == pytest.approx(sum(WEIGHTS[n] * float(v) for n, v in alone.items()), rel=1e-6)


def test_report_is_detached_and_total_is_not():
    report = DistillationLoss(all_terms(), WEIGHTS)(outputs(), mask())
    assert report.total.requires_grad
    assert not any(value.requires_grad for value in (*report.terms.values(), *report.weighted.values()))


def test_weights_follow_names_not_order():
    given = outputs()
    terms = {"kl": LogitKL(), "mse": LogitMSE()}
    report = DistillationLoss(terms, {"mse": 10.0, "kl": 1.0})(given)
    expected = LogitKL()(given["student"], given["teacher"]) + 10 * LogitMSE()(given["student"], given["teacher"])
    assert float(report.total.detach()) == pytest.approx(float(expected.detach()))


def test_weight_zero_is_reported_without_gradient():
    given = outputs()
    report = DistillationLoss({"kl": LogitKL(), "f": FeatureLoss()}, {"kl": 1.0, "f": 0.0})(given)
    report.total.backward()
    assert float(report.terms["f"]) == float(FeatureLoss()(given["student_features"], given["teacher_features"]))
    assert float(report.weighted["f"]) == 0.0
    assert given["student_features"]["d1"].grad is None
    assert given["student"].grad.abs().sum() > 0


def test_weight_zero_keeps_no_graph():
    # Or its activations would fill the memory for nothing.
    recording = []
    term = FeatureLoss()
    term.register_forward_hook(lambda _module, _inputs, value: recording.append(value.requires_grad))
    for weight in (0.0, 1.0):
        DistillationLoss({"kl": LogitKL(), "f": term}, {"kl": 1.0, "f": weight})(outputs())
    assert recording == [False, True]


def test_weight_zero_cannot_spoil_the_total():
    # 0 · ∞ is not a number: a term that is switched off must be left out, not multiplied.
    given = outputs()
    given["teacher_features"]["d1"][:] = math.inf
    report = DistillationLoss({"kl": LogitKL(), "f": FeatureLoss()}, {"kl": 1.0, "f": 0.0})(given)
    assert math.isfinite(float(report.total))


def test_a_loss_of_torch_is_supervised():
    logits, classes = torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1])
    report = DistillationLoss({"ce": nn.CrossEntropyLoss()}, {"ce": 1.0})({"student": logits}, classes)
    assert float(report.total) == pytest.approx((math.log(1 + math.exp(-2)) + math.log(2)) / 2)


@pytest.mark.parametrize(
    ("terms", "needs"),
    [
        ({"bce": nn.BCEWithLogitsLoss(), "edge": EdgeLoss()}, False),
        ({"bce": nn.BCEWithLogitsLoss(), "kl": LogitKL()}, True),
        ({"f": FeatureLoss()}, True),
        ({"kl": WithTeacher(LogitKL(), "vit")}, True),
    ],
)
def test_needs_teacher(terms, needs):
    assert DistillationLoss(terms, dict.fromkeys(terms, 1.0)).needs_teacher is needs


@pytest.mark.parametrize(
    ("terms", "needs"),
    [
        ({"bce": nn.BCEWithLogitsLoss(), "kl": LogitKL(), "boundary": BoundaryKL()}, False),
        ({"kl": LogitKL(), "f": FeatureLoss()}, True),
        ({"f": WithTeacher(AttentionLoss(), "vit")}, True),
    ],
)
def test_needs_features(terms, needs):
    assert DistillationLoss(terms, dict.fromkeys(terms, 1.0)).needs_features is needs


def never() -> nn.Module:
    raise AssertionError("built, though the recipe does not name it")


@pytest.mark.parametrize(
    ("weights", "teacher", "features"),
    [
        ({"bce": 1.0}, False, False),
        ({"kl": 0.5, "bce": 1}, True, False),
        ({"kl": 0.5, "feature": np.float32(0.25)}, True, True),
        ({"kl": 0.5, "feature": 0.0}, True, True),  # a term of weight 0 is computed, so its taps are needed
    ],
)
def test_a_recipe_builds_what_it_names(weights, teacher, features):
    named = {"bce": nn.BCEWithLogitsLoss, "kl": partial(LogitKL, temperature=2.0), "feature": FeatureLoss}
    terms = {name: build if name in weights else never for name, build in named.items()}
    projections = Projections({"d1": (3, 3)})
    for given in (projections, lambda: projections, {"teacher": projections}, lambda: {"teacher": projections}):
        loss = DistillationLoss.from_recipe(terms, weights, given)
        assert list(loss.terms) == list(loss.weights) == list(weights)
        assert (loss.needs_teacher, loss.needs_features) == (teacher, features)
        assert list(loss.projections.values()) == ([projections] if features else [])
    report = loss(outputs(), mask())
    built = {name: named[name]() for name in weights}
    direct = DistillationLoss(built, weights, projections if features else None)(outputs(), mask())
    assert float(report.total.detach()) == float(direct.total.detach())


def test_projections_are_built_for_features_alone():
    # They cost a run of both networks to know their channels.
    recipe = {"kl": LogitKL, "feature": FeatureLoss}
    assert not list(DistillationLoss.from_recipe(recipe, {"kl": 1.0}, never).parameters())
    with pytest.raises(AssertionError, match="built, though"):
        DistillationLoss.from_recipe(recipe, {"kl": 1.0, "feature": 1.0}, never)


def test_a_recipe_without_projections():
    loss = DistillationLoss.from_recipe({"feature": FeatureLoss}, {"feature": 1.0})
    assert float(loss(outputs()).total.detach()) > 0


def test_terms_of_a_config():
    config = {
        "temperature": 2.0,
        "terms": {
            "kl": {"_target_": "monai_kd.losses.LogitKL", "_mode_": "callable", "temperature": "@temperature"},
            "bce": {"_target_": "torch.nn.BCEWithLogitsLoss", "_mode_": "callable"},
            "broken": {"_target_": "monai_kd.losses.LogitKL", "_mode_": "callable", "temperature": -1},
        },
        "loss": {
            "_target_": "monai_kd.losses.DistillationLoss.from_recipe",
            "terms": "@terms",
            "weights": {"kl": 0.5, "bce": 1.0},
        },
    }
    loss = ConfigParser(config).get_parsed_content("loss")
    assert list(loss.terms) == ["kl", "bce"]
    assert loss.terms["kl"].temperature == 2.0


@pytest.mark.parametrize(
    ("terms", "weights", "message"),
    [
        (
            {"logit": LogitKL, "edge": EdgeLoss},
            {"logits": 1.0, "edge": 1.0},
            r"no loss term of the name logits \(did you mean logit\?\); terms are logit, edge",
        ),
        ({"kl": LogitKL}, {"kl": "1"}, "loss weights must be numbers, got {'kl': '1'}"),
        ({"kl": LogitKL}, {"kl": math.nan}, "must be finite and not negative"),
        ({"kl": LogitKL}, {}, "at least one loss weight must be above 0"),
        ({"kl": LogitKL()}, {"kl": 1.0}, 'loss term \'kl\' must be given as a callable.*"_mode_": "callable"'),
        ({"kl": "LogitKL"}, {"kl": 1.0}, "loss term 'kl' must be given as a callable.* not as a str"),
        ({"kl": dict}, {"kl": 1.0}, "loss term 'kl' must be built as a module, got a dict"),
    ],
)
def test_recipes_that_do_not_fit(terms, weights, message):
    with pytest.raises(ValueError, match=message):
        DistillationLoss.from_recipe(terms, weights)


def two_teachers() -> dict:
    torch.manual_seed(1)
    return {
        "student": torch.randn(2, 1, 4, 4),
        "student_features": {"d1": torch.randn(2, 3, 4, 4)},
        "teacher.a": torch.randn(2, 1, 4, 4),
        "teacher_features.a": {"d1": torch.randn(2, 3, 4, 4)},
        "teacher.b": torch.randn(2, 1, 4, 4),
        "teacher_features.b": {"d1": torch.randn(2, 3, 4, 4)},
    }


def test_two_teachers_without_projections():
    given = two_teachers()
    terms = {
        "kl_a": WithTeacher(LogitKL(), "a"),
        "kl_b": WithTeacher(LogitKL(), "b"),
        "f_a": WithTeacher(FeatureLoss(), "a"),
        "f_b": WithTeacher(FeatureLoss(), "b"),
    }
    report = DistillationLoss(terms, dict.fromkeys(terms, 1.0))(given)
    for name in "ab":
        assert float(report.terms[f"kl_{name}"]) == float(LogitKL()(given["student"], given[f"teacher.{name}"]))
        expected = FeatureLoss()(given["student_features"], given[f"teacher_features.{name}"])
        assert float(report.terms[f"f_{name}"]) == float(expected)
    assert report.terms["f_a"] != report.terms["f_b"]


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_two_teachers_have_a_projection_each(side):
    given = two_teachers()
    given["teacher_features.b"] = {"d1": torch.randn(2, 5, 4, 4)}  # wider than teacher a
    projections = {"a": Projections({"d1": (3, 3)}, side=side), "b": Projections({"d1": (3, 5)}, side=side)}
    terms = {f"f_{name}": WithTeacher(FeatureLoss(), name) for name in "ab"}
    loss = DistillationLoss(terms, dict.fromkeys(terms, 1.0), projections)
    report = loss(given)
    for name in "ab":
        expected = FeatureLoss()(*projections[name](given["student_features"], given[f"teacher_features.{name}"]))
        assert float(report.terms[f"f_{name}"]) == float(expected)
    report.total.backward()
    assert all(p.grad.abs().sum() > 0 for p in loss.parameters())
    assert len(list(loss.parameters())) == 4


@pytest.mark.parametrize(
    ("term", "drop", "message"),
    [
        (
            LogitKL(),
            "teacher",
            "loss term 'x' needs teacher; there is label, student, student_features, student_heads, student_taps, ",
        ),
        (FeatureLoss(), "teacher_features", "loss term 'x' needs teacher_features; there is label, student"),
        (WithTeacher(LogitKL(), "vit"), None, r"loss term 'x' needs teacher\.vit; there is"),
        (EdgeLoss(), "label", "loss term 'x' needs label; there is student"),
    ],
)
def test_missing_input(term, drop, message):
    given = {key: value for key, value in outputs().items() if key != drop}
    with pytest.raises(ValueError, match=message):
        DistillationLoss({"x": term}, {"x": 1.0})(given, None if drop == "label" else mask())


def test_an_error_of_a_term_has_its_name():
    class Failing(nn.Module):
        def forward(self, *_: torch.Tensor) -> torch.Tensor:
            raise ValueError("ground truth has different shape")

    with pytest.raises(ValueError, match="loss term 'focal': ground truth has different shape"):
        DistillationLoss({"focal": Failing()}, {"focal": 1.0})(outputs(), mask())


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"kl": 1.0}, "only on one side: mse."),
        ({"kl": 1.0, "mse": 1.0, "edge": 1.0}, "only on one side: edge."),
        ({"kl": 1.0, "msee": 1.0}, r"mse \(did you mean msee\?\), msee \(did you mean mse\?\)\."),
        ({"kl": 1.0, "mse": -0.5}, r"must be finite and not negative, got \{'mse': -0.5\}"),
        ({"kl": 1.0, "mse": math.nan}, r"must be finite and not negative, got \{'mse': nan\}"),
        ({"kl": 1.0, "mse": math.inf}, r"must be finite and not negative, got \{'mse': inf\}"),
        ({"kl": 0, "mse": 0.0}, "at least one loss weight must be above 0"),
        ({"kl": 1.0, "mse": "0.5"}, r"loss weights must be numbers, got \{'mse': '0.5'\}"),
        ({"kl": 1.0, "mse": None}, r"loss weights must be numbers, got \{'mse': None\}"),
        ({"kl": True, "mse": 1.0}, r"loss weights must be numbers, got \{'kl': True\}"),
    ],
)
def test_weights_that_do_not_fit(weights, message):
    with pytest.raises(ValueError, match=message):
        DistillationLoss({"kl": LogitKL(), "mse": LogitMSE()}, weights)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_not_finite(bad):
    given = outputs()
    given["teacher"][0, 0, 0, 0] = bad
    with pytest.raises(ValueError, match=rf"the loss is not finite: sup = [\d.]+, mse = {bad}"):
        DistillationLoss({"sup": DiceCELoss(sigmoid=True), "mse": LogitMSE()}, {"sup": 1.0, "mse": 1.0})(given, mask())


def test_a_term_with_an_argument_that_it_does_not_have():
    with pytest.raises(ValueError, match=r"loss term 'mine' can't be built .*unexpected keyword argument 'alfa'"):
        DistillationLoss.from_recipe({"mine": partial(TverskyLoss, alfa=0.3)}, {"mine": 1.0})


def test_a_term_that_returns_no_number():
    loss = DistillationLoss({"mse": nn.MSELoss(reduction="none")}, {"mse": 1.0})
    with pytest.raises(ValueError, match=r"loss term 'mse' returns a tensor \(2, 3\), and a tensor of one number"):
        loss({"student": torch.zeros(2, 3)}, torch.ones(2, 3))
