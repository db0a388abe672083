"""The trainer against loops written out in plain PyTorch."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.engines.utils import IterationEvents
from torch import nn

from monai_kd.distillation import Distiller
from monai_kd.engines import DistillationTrainer, autocast, autocast_dtype
from monai_kd.losses import DeepSupervision, DistillationLoss, FeatureLoss, LogitKL, Projections


def small(width: int, seed: int, norm: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    middle = [nn.BatchNorm2d(width)] if norm else []
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), *middle, nn.ReLU(), nn.Conv2d(width, 1, 1))


def batches(count: int, size: int = 2) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(7)
    return [
        {
            "image": torch.randn(size, 1, 8, 8, generator=generator),
            "label": (torch.rand(size, 1, 8, 8, generator=generator) > 0.5).float(),
        }
        for _ in range(count)
    ]


def distillation_loss() -> DistillationLoss:
    torch.manual_seed(11)
    return DistillationLoss(
        {"bce": nn.BCEWithLogitsLoss(), "kl": LogitKL(2.0), "f": FeatureLoss()},
        {"bce": 0.5, "kl": 2.0, "f": 0.1},
        Projections({"conv": (3, 5)}, side="student"),
    )


def setup(norm: bool = True) -> SimpleNamespace:
    d = Distiller(small(3, 0, norm), small(5, 1), student_taps={"conv": "0"}, teacher_taps={"conv": "0"})
    loss = distillation_loss()
    optimizer = torch.optim.Adam([*d.student.parameters(), *loss.parameters()], lr=0.05)
    return SimpleNamespace(distiller=d, student=d.student, loss=loss, optimizer=optimizer)


def train(parts: SimpleNamespace, data: list, epochs: int = 1, **kwargs) -> DistillationTrainer:
    trainer = DistillationTrainer("cpu", epochs, data, parts.distiller, parts.optimizer, parts.loss, **kwargs)
    trainer.losses = []
    trainer.add_event_handler(
        IterationEvents.LOSS_COMPLETED, lambda e: trainer.losses.append(float(e.state.output["loss"].detach()))
    )
    trainer.run()
    return trainer


def by_hand(data: list[dict[str, torch.Tensor]]) -> tuple[list[float], nn.Module, nn.Module]:
    """The same training without any of the package: features by running the first layer, losses written out."""
    student, teacher = small(3, 0), small(5, 1).eval()
    projection = distillation_loss().projections["teacher"].layers["conv"]
    optimizer = torch.optim.Adam([*student.parameters(), *projection.parameters()], lr=0.05)
    losses = []
    for batch in data:
        optimizer.zero_grad()
        student.train()
        features = student[0](batch["image"])
        logits = student[1:](features)
        with torch.no_grad():
            target_features = teacher[0](batch["image"])
            target = teacher[1:](target_features)
        bce = nn.functional.binary_cross_entropy_with_logits(logits, batch["label"])
        p, q = torch.sigmoid(target / 2), torch.sigmoid(logits / 2)
        kl = 4 * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
        feature = (projection(features) - target_features).square().mean()
        loss = 0.5 * bce + 2 * kl + 0.1 * feature
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses, student, projection


@pytest.mark.parametrize("set_to_none", [True, False])
def test_equals_a_loop_by_hand(set_to_none):
    parts, data = setup(), batches(4)
    trainer = train(parts, data, optim_set_to_none=set_to_none)
    losses, student, projection = by_hand(data)
    assert trainer.losses == pytest.approx(losses, rel=1e-5)
    for name, value in student.state_dict().items():
        torch.testing.assert_close(parts.student.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)
    found = parts.loss.projections["teacher"].layers["conv"]
    torch.testing.assert_close(found.weight, projection.weight, rtol=1e-4, atol=1e-5)


def test_one_step_bit_for_bit():
    # The same loss module this time: nothing but the engine differs.
    parts, other, data = setup(), setup(), batches(1)
    train(parts, data)
    other.distiller.train()
    other.loss(other.distiller(data[0]["image"]), data[0]["label"]).total.backward()
    other.optimizer.step()
    assert all(torch.equal(v, other.student.state_dict()[k]) for k, v in parts.student.state_dict().items())
    assert all(torch.equal(v, other.loss.state_dict()[k]) for k, v in parts.loss.state_dict().items())


def test_what_is_in_eval_mode_is_trained_all_the_same():
    parts, other, data = setup(), setup(), batches(3)
    parts.distiller.eval()
    parts.loss.eval()
    watched = {"student": parts.student[1], "teacher": parts.distiller.teachers["teacher"][1], "loss": parts.loss}
    modes = {name: [] for name in watched}
    for name, module in watched.items():
        module.register_forward_pre_hook(lambda module, _inputs, name=name: modes[name].append(module.training))
    assert train(parts, data).losses == train(other, data).losses
    assert modes == {"student": [True] * 3, "teacher": [False] * 3, "loss": [True] * 3}
    assert all(torch.equal(v, other.student.state_dict()[k]) for k, v in parts.student.state_dict().items())


def test_a_plain_network_needs_no_distiller():
    data, network, reference = batches(3), small(3, 0), small(3, 0)
    parts = SimpleNamespace(
        distiller=network,
        loss=DistillationLoss({"bce": nn.BCEWithLogitsLoss()}, {"bce": 2.0}),
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
    )
    train(parts, data)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    for batch in data:
        optimizer.zero_grad()
        (2 * nn.functional.binary_cross_entropy_with_logits(reference(batch["image"]), batch["label"])).backward()
        optimizer.step()
    assert all(torch.equal(v, reference.state_dict()[k]) for k, v in network.state_dict().items())


@pytest.mark.parametrize(
    ("count", "steps", "merged"),
    [
        (2, 2, [[0, 1]]),  # one step of two batches
        (4, 2, [[0, 1], [2, 3]]),  # two steps
        (3, 2, [[0, 1], [2]]),  # the last batch is a step of its own, of full weight
    ],
)
def test_accumulation_equals_larger_batches(count, steps, merged):
    # No BatchNorm: its statistics are those of the small batch.
    data = batches(count)
    small_batches, large_batches = setup(norm=False), setup(norm=False)
    train(small_batches, data, epochs=2, accumulation_steps=steps)
    large = [{key: torch.cat([data[i][key] for i in group]) for key in data[0]} for group in merged]
    train(large_batches, large, epochs=2)
    for name, value in large_batches.student.state_dict().items():
        torch.testing.assert_close(small_batches.student.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_teacher_unchanged_and_the_rest_moved():
    parts = setup()
    before = {
        "teacher": copy.deepcopy(parts.distiller.teachers["teacher"].state_dict()),
        "student": copy.deepcopy(parts.student.state_dict()),
        "loss": copy.deepcopy(parts.loss.state_dict()),
    }
    train(parts, batches(3), epochs=2)
    after = parts.distiller.teachers["teacher"].state_dict()
    assert {"1.running_mean", "1.running_var", "1.num_batches_tracked"} < set(after)
    assert all(torch.equal(value, before["teacher"][name]) for name, value in after.items())
    for name, module in (("student", parts.student), ("loss", parts.loss)):
        assert all((value != before[name][key]).any() for key, value in module.state_dict().items())


@pytest.mark.parametrize("amp", [True, False])
def test_autocast_on_the_cpu(amp):
    parts, seen = setup(), {"student": [], "teacher": [], "loss": []}
    parts.student[0].register_forward_hook(lambda _m, _i, out: seen["student"].append(out.dtype))
    parts.distiller.teachers["teacher"][0].register_forward_hook(lambda _m, _i, out: seen["teacher"].append(out.dtype))
    for term in parts.loss.terms.values():
        term.register_forward_hook(lambda _m, _i, out: seen["loss"].append(out.dtype))
    parts.loss.projections["teacher"].layers["conv"].register_forward_hook(
        lambda _m, _i, out: seen["loss"].append(out.dtype)
    )
    trainer = train(parts, batches(1), amp=amp)
    half = torch.bfloat16 if amp else torch.float32
    assert seen == {"student": [half], "teacher": [half], "loss": [half] + [torch.float32] * 3}
    assert trainer.scaler is None  # bfloat16 has the range of float32
    assert all(p.dtype is torch.float32 and p.grad.isfinite().all() for p in parts.student.parameters())


def test_autocast_changes_little():
    losses = [train(setup(), batches(3), amp=amp).losses for amp in (False, True)]
    assert losses[1] != losses[0]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


def test_metatensor_batches_give_the_same():
    data = batches(2)
    meta = [{key: MetaTensor(value) for key, value in batch.items()} for batch in data]
    parts, kinds = setup(), set()
    for module in (parts.student, parts.loss.terms["bce"]):
        module.register_forward_pre_hook(lambda _m, inputs: kinds.update(type(tensor) for tensor in inputs))
    assert train(parts, meta).losses == train(setup(), data).losses
    assert kinds == {torch.Tensor}  # every operation on a MetaTensor is several times slower


@pytest.mark.parametrize("decollate", [True, False])
@pytest.mark.parametrize("size", [2, 4])  # fewer and more slices than there are loss terms
def test_output_is_one_item_a_slice(decollate, size):
    parts, data, found = setup(), batches(1, size=size), []
    trainer = DistillationTrainer("cpu", 1, data, parts.distiller, parts.optimizer, parts.loss, decollate=decollate)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: found.append(e.state.output))
    trainer.run()
    items = found[0] if decollate else [found[0]]
    assert len(items) == (size if decollate else 1)
    for number, item in enumerate(items):
        assert set(item) == {"image", "label", "pred", "loss"}
        assert torch.equal(item["image"], data[0]["image"][number] if decollate else data[0]["image"])
        assert item["pred"].shape == item["label"].shape
        assert not item["pred"].requires_grad
        assert not torch.as_tensor(item["loss"]).requires_grad


@pytest.mark.parametrize("event", [IterationEvents.LOSS_COMPLETED, Events.ITERATION_COMPLETED])
def test_handlers_find_every_term_by_name(event):
    parts, other, data, found = setup(), setup(), batches(1), []
    trainer = DistillationTrainer("cpu", 1, data, parts.distiller, parts.optimizer, parts.loss)
    trainer.add_event_handler(event, lambda e: found.append(e.state.loss_report))
    trainer.run()
    expected = other.loss(other.distiller.train()(data[0]["image"]), data[0]["label"])
    assert float(found[0].total) == float(expected.total.detach())
    assert found[0].terms == expected.terms
    assert found[0].weighted == expected.weighted
    assert list(found[0].terms) == ["bce", "kl", "f"]
    assert not found[0].total.requires_grad  # or the graph would live until the next batch


def test_events_come_in_order():
    parts, fired = setup(), []
    trainer = DistillationTrainer("cpu", 1, batches(1), parts.distiller, parts.optimizer, parts.loss)
    for event in IterationEvents:
        trainer.add_event_handler(event, lambda _e, name: fired.append(name), event.value)
    trainer.run()
    assert fired == ["forward_completed", "loss_completed", "backward_completed", "model_completed"]


def test_compile_is_refused():
    parts = setup()
    with pytest.raises(ValueError, match=r"compile the student by distiller\.wrap_student\(torch\.compile\)"):
        DistillationTrainer("cpu", 1, batches(1), parts.distiller, parts.optimizer, parts.loss, compile=True)


def test_missing_batch():
    parts = setup()
    with pytest.raises(ValueError, match="the trainer got no batch"):
        train(parts, [None])


def test_autocast_names_the_device():
    with autocast("cpu", True):
        assert torch.get_autocast_dtype("cpu") is autocast_dtype(torch.device("cpu")) is torch.bfloat16
        assert torch.is_autocast_enabled("cpu")
    with autocast(torch.device("cpu"), False):
        assert not torch.is_autocast_enabled("cpu")


class Heads(nn.Module):
    """Deep supervision: the logits, and their halves."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small(3, 0)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        logits = self.net(x)
        return [logits, logits[..., ::2, ::2]]


@pytest.mark.parametrize("distilled", [True, False])
def test_deep_supervision(distilled):
    # With a teacher, and as a bare network; in half precision, whose heads reach the loss in float32.
    seen: list[torch.dtype] = []

    def bce(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        seen.append(logits.dtype)
        return nn.functional.binary_cross_entropy_with_logits(logits, label)

    term = DeepSupervision(bce)
    loss = DistillationLoss({"bce": term}, {"bce": 1.0})
    network, other = Heads(), Heads()
    student = Distiller(network, small(5, 1)) if distilled else network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    (batch,) = batches(1)
    trainer = DistillationTrainer("cpu", 1, [batch], student, optimizer, loss, amp=True)
    trainer.run()
    assert seen == [torch.float32] * 2
    with autocast("cpu", True):
        full, half = (each.float() for each in other(batch["image"]))
    smaller = nn.functional.interpolate(batch["label"], scale_factor=0.5, mode="nearest-exact")
    by_hand = nn.functional.binary_cross_entropy_with_logits
    (by_hand(full, batch["label"]) + 0.5 * by_hand(half, smaller)).backward()
    for found, expected in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad)
    assert trainer.state.output[0]["pred"].shape == (1, 8, 8)


def test_fused_optimiser_is_the_same_but_for_rounding():
    weights = []
    for fused in (False, True):
        # A bias before a normalisation would have a gradient of nothing but rounding, which Adam scales to full steps.
        network = small(3, 0, norm=False)
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.01, weight_decay=1e-4, fused=fused)
        loss = DistillationLoss({"bce": nn.BCEWithLogitsLoss()}, {"bce": 1.0})
        train(SimpleNamespace(distiller=network, loss=loss, optimizer=optimizer), batches(5))
        weights.append(network.state_dict())
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-4, atol=1e-5, msg=name)
