"""Projections: what they compute, which side they move, and what that makes possible."""

from __future__ import annotations

import pytest
import torch

from monai_kd.losses import AttentionLoss, DistillationLoss, FeatureLoss, MultiScaleFusionLoss, Projections

CHANNELS = {"d2": (3, 5), "d1": (2, 4)}


def sides(spatial: tuple[int, ...] = (4, 6), seed: int = 0) -> tuple[dict, dict]:
    torch.manual_seed(seed)
    student = {name: torch.randn(2, pair[0], *spatial) for name, pair in CHANNELS.items()}
    teacher = {name: torch.randn(2, pair[1], *spatial) for name, pair in CHANNELS.items()}
    return student, teacher


@pytest.mark.parametrize(
    ("side", "spatial"),
    [
        ("teacher", (4, 6)),  # (B, 5, 4, 6) to (B, 3, 4, 6)
        ("student", (4, 6)),  # (B, 3, 4, 6) to (B, 5, 4, 6)
        ("teacher", (2, 3, 4)),  # volumes
        ("student", (7,)),  # sequences
    ],
)
def test_one_linear_map_at_every_position(side, spatial):
    student, teacher = sides(spatial)
    projections = Projections(CHANNELS, side=side, spatial_dims=len(spatial))
    s, t = projections(student, teacher)
    moved, source, still, kept = (t, teacher, s, student) if side == "teacher" else (s, student, t, teacher)
    for name in CHANNELS:
        layer = projections.layers[name]
        matrix, bias = layer.weight.flatten(1), layer.bias
        expected = torch.einsum("oc,bc...->bo...", matrix, source[name]) + bias.reshape(-1, *[1] * len(spatial))
        torch.testing.assert_close(moved[name], expected)
        assert still[name] is kept[name]
        assert s[name].shape == t[name].shape


def test_layer_without_projection_passes_unchanged():
    student, teacher = sides()
    s, t = Projections({"d1": CHANNELS["d1"]})(student, teacher)
    assert s["d2"] is student["d2"]
    assert t["d2"] is teacher["d2"]


def test_inputs_are_left_alone():
    student, teacher = sides()
    before = teacher["d1"]
    Projections(CHANNELS, side="teacher")(student, teacher)
    assert teacher["d1"] is before


def test_teacher_side_can_collapse():
    # Zero features and a zero projection cost nothing: the trap of the literal reading, here to be seen.
    student, teacher = sides()
    projections = Projections(CHANNELS, side="teacher")
    for parameter in projections.parameters():
        torch.nn.init.zeros_(parameter)
    s, t = projections({name: torch.zeros_like(f) for name, f in student.items()}, teacher)
    assert float(FeatureLoss()(s, t)) == 0.0


def test_student_side_cannot_collapse():
    # The best that zero features can do is the mean of the target: its spread remains as the loss.
    student, teacher = sides()
    projections = Projections(CHANNELS, side="student")
    for name, layer in projections.layers.items():
        torch.nn.init.zeros_(layer.weight)
        layer.bias.data = teacher[name].mean(dim=(0, 2, 3))
    s, t = projections({name: torch.zeros_like(f) for name, f in student.items()}, teacher)
    spread = sum(float(f.var(dim=(0, 2, 3), correction=0).mean()) for f in teacher.values())
    assert float(FeatureLoss()(s, t)) == pytest.approx(spread, rel=1e-5)
    assert spread > 0.5


@pytest.mark.parametrize("side", ["teacher", "student"])
@pytest.mark.parametrize("term", [FeatureLoss(), MultiScaleFusionLoss((1, 2)), AttentionLoss()])
def test_every_weight_moves_under_an_optimiser(side, term):
    student, teacher = sides()
    loss = DistillationLoss({"f": term}, {"f": 1.0}, Projections(CHANNELS, side=side))
    before = {name: p.detach().clone() for name, p in loss.named_parameters()}
    assert set(before) == {f"projections.teacher.layers.{n}.{p}" for n in CHANNELS for p in ("weight", "bias")}
    optimizer = torch.optim.SGD(loss.parameters(), lr=0.1)
    first = loss({"student": None, "student_features": student, "teacher_features": teacher}).total
    first.backward()
    optimizer.step()
    assert all((p != before[name]).any() for name, p in loss.named_parameters())
    second = loss({"student": None, "student_features": student, "teacher_features": teacher}).total
    assert float(second) < float(first)


def test_side_must_be_known():
    with pytest.raises(ValueError, match="side must be 'teacher' or 'student', got 'both'"):
        Projections(CHANNELS, side="both")


def test_channels_must_be_pairs():
    with pytest.raises(ValueError, match=r"channels of layer 'd1' must be \[student, teacher\], got \[4\]"):
        Projections({"d1": [4]})


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_untapped_layer(side):
    student, teacher = sides()
    with pytest.raises(ValueError, match="no features of layer 'd3' to project; tapped: d2, d1"):
        Projections({"d3": (1, 1)}, side=side)(student, teacher)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 5, 8, 8), r"layer 'd1' of the teacher is \(1, 5, 8, 8\); its projection takes \(B, 3, 2 spatial axes\)"),
        ((1, 3, 8), r"layer 'd1' of the teacher is \(1, 3, 8\); its projection takes \(B, 3, 2 spatial axes\)"),
    ],
)
def test_features_that_do_not_fit_are_named(shape, message):
    projections = Projections({"d1": (2, 3)}, side="teacher")
    with pytest.raises(ValueError, match=message):
        projections({"d1": torch.zeros(1, 2, 8, 8)}, {"d1": torch.zeros(shape)})


@pytest.mark.parametrize("side", ["teacher", "student"])
@pytest.mark.parametrize("spatial", [(6,), (4, 6), (2, 3, 4)])
def test_fitted_to_shapes(side, spatial):
    student, teacher = sides(spatial)
    torch.manual_seed(3)
    fitted = Projections.fitted(
        *({name: f.shape for name, f in each.items()} for each in (student, teacher)), side=side
    )
    torch.manual_seed(3)
    direct = Projections(CHANNELS, side=side, spatial_dims=len(spatial))
    assert list(fitted.state_dict()) == list(direct.state_dict())
    assert all(torch.equal(fitted.state_dict()[name], value) for name, value in direct.state_dict().items())
    s, t = fitted(student, teacher)
    assert all(s[name].shape == t[name].shape for name in CHANNELS)


def test_fitted_where_the_teacher_has_other_sizes():
    # The terms pool the larger map: only channels and the number of axes matter here.
    assert Projections.fitted({"a": (1, 4, 8, 8)}, {"a": (2, 6, 14, 14)}).layers["a"].in_channels == 6


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ({}, {}, "no layers are tapped"),
        ({"a": (1, 4, 8, 8)}, {"b": (1, 4, 8, 8)}, r"student has \['a'\], teacher has \['b'\]"),
        (
            {"a": (1, 4, 8, 8)},
            {"a": (1, 197, 768)},
            r"layer 'a': student \(1, 4, 8, 8\) .* tokens, \(B, N, C\)",
        ),
        ({"a": (1, 4)}, {"a": (1, 8)}, "layer 'a': .* one to three axes"),
        (
            {"a": (1, 4, 8, 8), "b": (1, 4, 8)},
            {"a": (1, 4, 8, 8), "b": (1, 4, 8)},
            r"the same number of spatial axes, got {'a': 2, 'b': 1}",
        ),
    ],
)
def test_shapes_that_no_projection_fits(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        Projections.fitted(student, teacher)
