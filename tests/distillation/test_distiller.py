"""The distiller: teachers that nothing can reach, students that nothing else touches."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from monai_kd.distillation import Distiller
from monai_kd.losses import DistillationLoss, FeatureLoss, LogitKL, Projections


def small(width: int, seed: int) -> nn.Sequential:
    """(B, 1, H, W) to (B, 1, H, W), with what changes by itself in training: statistics and dropout."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(width, 1, 1)
    )


def image(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def distiller() -> Distiller:
    return Distiller(small(3, 0), small(5, 1), student_taps={"conv": "0"}, teacher_taps={"conv": "0"})


def snapshot(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_outputs():
    d = distiller()
    student, teacher = copy.deepcopy(d.student[:1]), d.teachers["teacher"]
    outputs = d(image())
    assert set(outputs) == {"student", "student_features", "teacher", "teacher_features"}
    assert torch.equal(outputs["teacher"], teacher(image()))
    assert torch.equal(outputs["teacher_features"]["conv"], teacher[0](image()))
    assert torch.equal(outputs["student_features"]["conv"], student(image()))
    assert outputs["student"].shape == (2, 1, 8, 8)


def test_teacher_is_in_no_listing():
    d = distiller()
    alone = small(3, 0)
    assert [p.shape for p in d.parameters()] == [p.shape for p in alone.parameters()]
    assert [p.shape for p in d.buffers()] == [p.shape for p in alone.buffers()]
    assert list(d.state_dict()) == list(alone.state_dict())
    assert d.teachers["teacher"] not in set(d.modules())


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda d: d.train(), id="whole"),
        pytest.param(lambda d: (d.train(), d.student.train()), id="student"),
        pytest.param(lambda d: d.teachers["teacher"].train(), id="the-teacher-itself"),
    ],
)
def test_teacher_answers_in_eval_mode(call: Callable):
    d = distiller()
    expected = d(image())["teacher"]
    call(d)
    # In train mode, batch statistics and dropout would change the answer.
    assert torch.equal(d(image())["teacher"], expected)
    assert not any(module.training for module in d.teachers["teacher"].modules())


def test_student_keeps_its_mode():
    d = distiller().train()
    d(image())
    assert all(module.training for module in d.student.modules())


def test_teacher_has_no_gradients():
    d = distiller()
    # Even for an image that has one, as in adversarial training.
    outputs = d(image().requires_grad_())
    assert not outputs["teacher"].requires_grad
    assert not outputs["teacher_features"]["conv"].requires_grad
    assert outputs["student"].requires_grad
    assert not any(p.requires_grad for p in d.teachers["teacher"].parameters())


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_gradients_reach_student_and_projections_only(side):
    d = distiller()
    loss = DistillationLoss(
        {"kl": LogitKL(), "f": FeatureLoss()}, {"kl": 1.0, "f": 1.0}, Projections({"conv": (3, 5)}, side=side)
    )
    loss(d(image())).total.backward()
    for name, parameter in [*d.student.named_parameters(), *loss.named_parameters()]:
        assert parameter.grad is not None, name
        # BatchNorm takes the mean away: the convolution before it has a bias that only the tap sees.
        assert parameter.grad.abs().sum() > 0, name
    assert all(p.grad is None for p in d.teachers["teacher"].parameters())


def test_teacher_unchanged_by_an_optimiser_of_everything():
    d = distiller().train()
    before = snapshot(d.teachers["teacher"])
    optimizer = torch.optim.AdamW(d.parameters(), lr=0.1, weight_decay=0.1)
    for seed in range(3):
        optimizer.zero_grad()
        LogitKL()(*(d(image(seed))[side] for side in ("student", "teacher"))).backward()
        optimizer.step()
    after = d.teachers["teacher"].state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_to_moves_the_teacher():
    d = distiller().to(torch.float64)
    assert all(p.dtype is torch.float64 for p in d.teachers["teacher"].parameters())
    outputs = d(image().double())
    assert outputs["teacher"].dtype is outputs["student"].dtype is torch.float64
    d.to("meta")
    assert all(p.is_meta for p in d.teachers["teacher"].parameters())


def test_stored_teacher_outputs():
    d = distiller().eval()
    expected = d(image())
    stored = {key: expected[key] for key in ("teacher", "teacher_features")}
    runs = []
    d.teachers["teacher"].register_forward_hook(lambda *_: runs.append(1))
    found = d(image(), stored)
    assert not runs
    loss = DistillationLoss(
        {"kl": LogitKL(), "f": FeatureLoss()}, {"kl": 1.0, "f": 1.0}, Projections({"conv": (3, 5)}, side="student")
    )
    assert torch.equal(loss(found).total, loss(expected).total)
    d(image())
    assert runs == [1]  # the hook does count


def test_student_checkpoint_loads_in_the_bare_network(tmp_path):
    d = distiller().eval()
    torch.save(d.student.state_dict(), tmp_path / "model.pt")
    bare = small(3, seed=9).eval()
    bare.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True), strict=True)
    assert torch.equal(bare(image()), d(image())["student"])


def test_without_teacher():
    d = Distiller(small(3, 0), student_taps={"conv": "0"})
    assert d.teachers == {}
    assert set(d(image())) == {"student", "student_features"}


def test_several_teachers_with_taps_of_their_own():
    a, b = small(4, 1), small(5, 2)
    d = Distiller(small(3, 0), {"a": a, "b": b}, teacher_taps={"a": {"x": "0"}, "b": {"x": "2", "y": "1"}})
    outputs = d(image())
    assert d.teachers == {"a": a, "b": b}
    assert set(outputs) == {
        "student",
        "student_features",
        "teacher.a",
        "teacher_features.a",
        "teacher.b",
        "teacher_features.b",
    }
    assert torch.equal(outputs["teacher.a"], a(image()))
    assert torch.equal(outputs["teacher.b"], b(image()))
    assert {name: f.shape[1] for name, f in outputs["teacher_features.a"].items()} == {"x": 4}
    assert {name: f.shape[1] for name, f in outputs["teacher_features.b"].items()} == {"x": 5, "y": 5}


def test_several_teachers_with_the_same_taps():
    d = Distiller(small(3, 0), {"a": small(4, 1), "b": small(5, 2)}, teacher_taps={"x": "0"})
    outputs = d(image())
    assert outputs["teacher_features.a"]["x"].shape == (2, 4, 8, 8)
    assert outputs["teacher_features.b"]["x"].shape == (2, 5, 8, 8)


@pytest.mark.parametrize(
    ("teacher", "taps", "message"),
    [
        ({"a": small(4, 1)}, {"a": {"x": "0"}, "vit": {"x": "0"}}, "teacher_taps name vit; teachers are a"),
        (small(4, 1), {"a": {"x": "0"}}, "teacher_taps name a; teachers are none with a name"),
        (small(4, 1), {"x": "00"}, "tap 'x': Sequential has no module '00'"),
    ],
)
def test_taps_of_an_unknown_teacher(teacher, taps, message):
    with pytest.raises(ValueError, match=message):
        Distiller(small(3, 0), teacher, teacher_taps=taps)


def test_volumes():
    torch.manual_seed(0)
    d = Distiller(nn.Conv3d(1, 2, 1), nn.Conv3d(1, 2, 3, padding=1))
    assert d(torch.randn(1, 1, 4, 5, 6))["teacher"].shape == (1, 2, 4, 5, 6)


class Heads(nn.Module):
    """Deep supervision: the logits, and their halves."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.net = small(3, seed)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        logits = self.net(x)
        return [logits, logits[..., ::2, ::2]]


def test_heads_of_the_student_and_main_logits_of_the_teacher():
    d = Distiller(Heads(0), Heads(1)).eval()
    outputs = d(image())
    assert set(outputs) == {"student", "student_heads", "student_features", "teacher", "teacher_features"}
    assert torch.equal(outputs["student"], d.student.net(image()))
    assert [each.shape[-1] for each in outputs["student_heads"]] == [8, 4]
    assert torch.equal(outputs["teacher"], d.teachers["teacher"].net(image()))


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_a_network_without_logits_is_named(side):
    class Detector(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> dict:
            return {"boxes": super().forward(x)}

    networks = {"student": small(3, 0), "teacher": small(3, 1), side: Detector(1, 1, 1)}
    with pytest.raises(TypeError, match="Detector returned a dict"):
        Distiller(**networks)(image())


def test_logits_of_a_coarser_teacher_are_resized():
    coarse = nn.Conv2d(1, 1, 2, stride=2)
    found = Distiller(small(3, 0), coarse)(image())["teacher"]
    expected = nn.functional.interpolate(coarse(image()), (8, 8), mode="bilinear", align_corners=False)
    assert torch.equal(found, expected)


def test_ddp_wraps_the_student_alone(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        d = distiller()
        bare, expected = d.student.eval(), d(image())
        d.wrap_student(DistributedDataParallel)
        outputs = d(image())
        assert isinstance(d.student, DistributedDataParallel)
        assert d.student.module is bare
        assert torch.equal(outputs["student"], expected["student"])
        assert torch.equal(outputs["student_features"]["conv"], expected["student_features"]["conv"])
        (outputs["student"].sum() + outputs["student_features"]["conv"].sum()).backward()
        assert all(p.grad is not None for p in bare.parameters())
    finally:
        dist.destroy_process_group()


def test_compiled_student():
    d = distiller().eval()
    expected = d(image())
    d.wrap_student(lambda student: torch.compile(student, backend="eager"))
    for _ in range(2):
        outputs = d(image())
        torch.testing.assert_close(outputs["student"], expected["student"])
        torch.testing.assert_close(outputs["student_features"]["conv"], expected["student_features"]["conv"])


class Wrapped(nn.Module):
    """A wrapper that checkpoints the whole network, as of some training frameworks."""

    def __init__(self, module: nn.Module, reentrant: bool) -> None:
        super().__init__()
        self.module, self.reentrant = module, reentrant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return checkpoint(self.module, x.requires_grad_(), use_reentrant=self.reentrant)


def test_student_under_reentrant_checkpointing_is_refused():
    d = distiller().wrap_student(lambda student: Wrapped(student, reentrant=True))
    with pytest.raises(RuntimeError, match=r"tap\(s\) conv: 0 ran with gradients off.* use_reentrant=False"):
        d(image())
    with torch.no_grad():
        d(image())
    d.wrap_student(lambda wrapped: Wrapped(wrapped.module, reentrant=False))
    assert d(image())["student_features"]["conv"].requires_grad


def test_teachers_alone():
    d = distiller().train()
    runs = []
    d.student.register_forward_hook(lambda *_: runs.append(1))
    taught = d.teach(image())
    assert set(taught) == {"teacher", "teacher_features"}
    assert not runs
    assert torch.equal(taught["teacher"], d(image())["teacher"])


def test_given_teacher_outputs_are_left_as_they_are():
    d = distiller()
    taught = d.teach(image())
    d(image(), taught)
    assert set(taught) == {"teacher", "teacher_features"}
