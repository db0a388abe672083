"""Feature terms in half precision against the same terms in float32."""

from __future__ import annotations

import pytest
import torch
from dispatched import Dispatched
from torch import nn

from monai_kd.losses import AttentionLoss, DistillationLoss, FeatureLoss, LogitKL, MultiScaleFusionLoss, Projections
from monai_kd.losses import pairs as pairs_module
from monai_kd.losses.pairs import Pair

CHANNELS = {"d2": (6, 10), "d1": (4, 8)}
# Relative to the largest gradient: values of bfloat16 have 8 significant bits, of float16 11.
TOLERANCE = {torch.bfloat16: 2e-2, torch.float16: 3e-3}


def features(dtype: torch.dtype, spatial: tuple[int, ...], last: bool) -> tuple[dict, dict]:
    """Features of both sides that the type can express, so that both precisions begin with the same numbers."""
    generator = torch.Generator().manual_seed(4)
    sides = []
    for side in (0, 1):
        found = {}
        for layer, (name, channels) in enumerate(CHANNELS.items()):
            size = [each // (2 - layer) for each in spatial]
            value = torch.randn(3, channels[side], *size, generator=generator).to(dtype)
            found[name] = value.movedim(1, -1).contiguous().movedim(-1, 1) if last else value
        sides.append(found)
    return sides[0], sides[1]


def both_terms() -> DistillationLoss:
    torch.manual_seed(1)
    terms = {"feature": FeatureLoss(), "attention": AttentionLoss(), "fusion": MultiScaleFusionLoss((1, 2))}
    return DistillationLoss(terms, {"feature": 0.7, "attention": 0.4, "fusion": 0.2}, Projections(CHANNELS))


def run(dtype: torch.dtype, half: bool, spatial: tuple[int, ...], last: bool, side: str = "teacher"):
    student, teacher = features(dtype, spatial, last)
    if not half:
        student, teacher = ({name: f.float() for name, f in each.items()} for each in (student, teacher))
    for each in student.values():
        each.requires_grad_()
    torch.manual_seed(1)
    terms = {"feature": FeatureLoss(), "attention": AttentionLoss(), "fusion": MultiScaleFusionLoss((1, 2))}
    weights = {"feature": 0.7, "attention": 0.4, "fusion": 0.2}
    loss = DistillationLoss(terms, weights, Projections(CHANNELS, side=side, spatial_dims=len(spatial)))
    report = loss({"student_features": student, "teacher_features": teacher})
    report.total.backward()
    gradients = {name: f.grad.float() for name, f in student.items()}
    gradients |= {name: p.grad.float() for name, p in loss.named_parameters()}
    return report, gradients


@pytest.mark.parametrize("side", ["teacher", "student"])
@pytest.mark.parametrize("last", [True, False], ids=["channels-last", "channels-first"])
@pytest.mark.parametrize("spatial", [(8, 12), (4, 8, 6)], ids=["maps", "volumes"])
@pytest.mark.parametrize("dtype", TOLERANCE)
# Several blocks, the last one shorter; or one, as on a GPU.
@pytest.mark.parametrize("block", [50, None])
def test_losses_and_gradients_are_those_of_float32(dtype, spatial, last, side, block, monkeypatch):
    monkeypatch.setattr(pairs_module, "_BLOCK", block)
    (half, found), (full, expected) = (run(dtype, each, spatial, last, side) for each in (True, False))
    assert half.total.dtype is torch.float32
    for name, value in full.terms.items():
        assert float(half.terms[name]) == pytest.approx(float(value), rel=TOLERANCE[dtype] / 4), name
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        error = (found[name] - value).abs().max() / value.abs().max()
        assert float(error) < TOLERANCE[dtype], name


@pytest.mark.parametrize("last", [True, False], ids=["channels-last", "channels-first"])
def test_a_block_of_all_has_as_many_operations_for_any_batch(last, monkeypatch):
    """Each starts a kernel on a GPU."""
    monkeypatch.setattr(pairs_module, "_BLOCK", None)

    def operations(batch: int) -> int:
        s, t = (torch.randn(batch, 4, 8, 8).bfloat16() for _ in range(2))
        if last:
            s, t = (each.to(memory_format=torch.channels_last) for each in (s, t))
        s.requires_grad_()
        with Dispatched() as counted:
            pair = Pair(s, t, energies=True)
            (pair.mean_square + pair.energies[0].sum()).backward()
        return counted.count

    assert operations(1) == operations(8) < 60


@pytest.mark.parametrize("block", [2**17, None])
def test_sums_are_not_those_of_half_precision(block, monkeypatch):
    """One million squares of 1/16: bfloat16 would stop at 256 of its own steps."""
    monkeypatch.setattr(pairs_module, "_BLOCK", block)
    s, t = torch.full((1, 16, 256, 256), 0.25, dtype=torch.bfloat16), torch.zeros(1, 16, 256, 256, dtype=torch.bfloat16)
    assert float(Pair(s, t).mean_square) == 0.0625
    of_s, of_t = Pair(s, t, energies=True).energies
    assert of_s.dtype is torch.float32
    assert bool((of_s == 1).all())
    assert not of_t.any()


@pytest.mark.parametrize("energies", [True, False])
def test_without_a_gradient_of_one_side(energies):
    s, t = (torch.randn(2, 4, 5, 5).bfloat16() for _ in range(2))
    for moved, still in ((s, t), (t, s)):
        moved, still = moved.clone().requires_grad_(), still.clone()
        pair = Pair(*((moved, still) if still is not s else (still, moved)), energies)
        (pair.mean_square + (pair.energies[0].sum() if energies and pair.student is moved else 0)).backward()
        other = moved.detach().float().requires_grad_()
        expected = (other - still.float()).square().mean()
        (expected + (other.square().sum() if energies and pair.student is moved else 0)).backward()
        torch.testing.assert_close(moved.grad.float(), other.grad, rtol=1e-2, atol=1e-5)


def test_layers_of_different_layouts():
    s, t = torch.randn(2, 4, 6, 6).bfloat16(), torch.randn(2, 4, 6, 6).bfloat16()
    expected = Pair(s, t).mean_square
    assert float(Pair(s.to(memory_format=torch.channels_last), t).mean_square) == pytest.approx(float(expected))
    assert float(Pair(s, t.to(memory_format=torch.channels_last)).mean_square) == pytest.approx(float(expected))
    assert float(Pair(s[..., ::2], t[..., ::2]).mean_square) == pytest.approx(
        float((s[..., ::2].float() - t[..., ::2].float()).square().mean())
    )


def test_projections_and_energies_are_computed_once(monkeypatch):
    calls = []
    apply = pairs_module._Statistics.apply
    monkeypatch.setattr(pairs_module._Statistics, "apply", lambda *given: calls.append(given[2]) or apply(*given))
    loss = both_terms()
    forward, backward = [], []
    for layer in loss.projections["teacher"].layers.values():
        layer.register_forward_hook(lambda *_: forward.append(1))
        layer.weight.register_hook(lambda _: backward.append(1))
    student, teacher = features(torch.bfloat16, (8, 8), True)
    student = {name: f.requires_grad_() for name, f in student.items()}
    loss({"student_features": student, "teacher_features": teacher}).total.backward()
    assert calls == [True] * len(CHANNELS)
    assert len(forward) == len(backward) == len(CHANNELS)


def test_a_term_of_weight_zero_shares_nothing_that_needs_gradients():
    student, teacher = features(torch.bfloat16, (8, 8), True)
    student = {name: f.requires_grad_() for name, f in student.items()}
    terms = {"attention": AttentionLoss(), "feature": FeatureLoss()}
    loss = DistillationLoss(terms, {"attention": 0.0, "feature": 1.0}, Projections(CHANNELS))
    loss({"student_features": student, "teacher_features": teacher}).total.backward()
    assert all(f.grad.abs().sum() > 0 for f in student.values())


class Foreign(nn.Module):
    """A term from elsewhere, which knows nothing of half precision."""

    inputs = ("student_features", "teacher_features")
    seen: set[torch.dtype]

    def forward(self, student, teacher):
        self.seen = {f.dtype for each in (student, teacher) for f in each.values()}
        return sum((student[name] - teacher[name]).square().sum() for name in student)


def test_terms_from_elsewhere_get_float32():
    student, teacher = features(torch.bfloat16, (4, 4), True)
    term = Foreign()
    DistillationLoss({"f": term, "kl": LogitKL()}, {"f": 1.0, "kl": 1.0}, Projections(CHANNELS))(
        {
            **{"student": torch.zeros(1, 1), "teacher": torch.zeros(1, 1)},
            **{"student_features": student, "teacher_features": teacher},
        }
    )
    assert term.seen == {torch.float32}
