"""The moving average of the weights: its numbers, and that it is validated, saved and resumed."""

from __future__ import annotations

import json

import pytest
import torch
from ignite.engine import Engine, Events
from test_training_run import network, run, table, without_clock
from timm.utils import ModelEmaV3
from torch import nn

from monai_kd.handlers import WeightAverage
from monai_kd.io import save_checkpoint


def steps(decay: float, values: list[float], epochs: int = 1) -> list[float]:
    """Averages of a single weight that the engine sets to these values, one an iteration."""
    net, found = nn.Linear(1, 1, bias=False), []
    average = WeightAverage(net, decay)
    nn.init.constant_(net.weight, -7.0)  # after the average was made, as a checkpoint that is loaded

    def step(_engine, value):
        nn.init.constant_(net.weight, value)

    engine = Engine(step)
    average.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _: found.append(average.module.weight.item()))
    engine.run(values, max_epochs=epochs)
    return found


def test_is_the_recursion_of_its_equation():
    values = torch.randn(50, generator=torch.Generator().manual_seed(0)).tolist()
    expected, average = [], 0.0
    for number, value in enumerate(values):
        decay = min(0.9, 1 - (1 + number) ** -0.75) if number else 0.0
        average = decay * average + (1 - decay) * value
        expected.append(average)
    assert steps(0.9, values) == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_first_average_is_the_first_weight():
    assert steps(0.999, [3.0])[0] == 3.0


def test_a_weight_with_two_names_is_averaged_once():
    """As those of the blocks of MONAI's DynUNet."""
    net = nn.Linear(1, 1, bias=False)
    twice = nn.ModuleDict({"block": net, "skip": net})
    average = WeightAverage(twice, 0.5)

    def step(_engine, value):
        nn.init.constant_(net.weight, value)

    engine = Engine(step)
    average.attach(engine)
    engine.run([0.0, 1.0, 1.0])
    found = {name: value.item() for name, value in average.module.state_dict().items()}
    expected = steps(0.5, [0.0, 1.0, 1.0])[-1]
    assert found == pytest.approx({"block.weight": expected, "skip.weight": expected})


@pytest.mark.parametrize("decay", [0, 1, -0.1, 1.5, True, "0.9"])
def test_decay_out_of_range(decay):
    with pytest.raises(ValueError, match=r"ema must be a number between 0 and 1, such as 0\.999, or null, got"):
        WeightAverage(nn.Linear(1, 1), decay)


def test_average_is_saved_and_validated_and_recorded(tmp_path):
    done = run(tmp_path, 3, in_one={"ema": 0.9})
    saved = torch.load(tmp_path / "model.pt", weights_only=True)
    last = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert json.loads((tmp_path / "settings.json").read_text())["ema"] == 0.9
    assert last["average"].keys() == last["network"].keys() == saved.keys()
    assert any(not torch.equal(last["average"][key], last["network"][key]) for key in saved)
    if last["best_metric_epoch"] == 3:
        assert all(torch.equal(saved[key], last["average"][key]) for key in saved)
    # Training itself is not changed by it.
    plain = run(tmp_path / "plain", 3, in_one={})
    totals = [[float(report.total) for _, report in each.reports] for each in (done, plain)]
    assert totals[0] == totals[1]


def test_resumed_run_is_the_uninterrupted_one(tmp_path):
    run(tmp_path / "straight", 4, in_one={"ema": 0.99})
    run(tmp_path / "parts", 2, in_one={"ema": 0.99})
    run(tmp_path / "parts", 4, init=1, resume=True, in_one={"ema": 0.99})
    assert without_clock(table(tmp_path / "parts")) == without_clock(table(tmp_path / "straight"))
    one, other = (torch.load(tmp_path / name / "last.ckpt", weights_only=True) for name in ("parts", "straight"))
    for part in ("network", "average"):
        assert all(torch.equal(value, other[part][key]) for key, value in one[part].items())


def test_starts_from_the_given_weights(tmp_path):
    save_checkpoint(network(3, 7).state_dict(), tmp_path / "init.pt")
    given = {"init_checkpoint": tmp_path / "init.pt"}
    run(tmp_path / "average", 1, in_one={**given, "ema": 0.99})
    run(tmp_path / "plain", 1, in_one=given)
    before = [table(tmp_path / name)[0]["val/dice"] for name in ("average", "plain")]
    assert before[0] == before[1]


def test_run_without_an_average_is_not_resumed_with_one(tmp_path):
    run(tmp_path, 1, in_one={})
    with pytest.raises(ValueError, match=r"does not fit this run \(average\)"):
        run(tmp_path, 2, resume=True, in_one={"ema": 0.99})


class Counting(nn.Module):
    """BatchNorm's counts, a weight under two names, and a buffer that is replaced instead of filled."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.linear = nn.BatchNorm1d(3), nn.Linear(3, 3)
        self.same = self.linear
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        self.seen = self.seen + len(values)
        return self.norm(self.linear(values))


def test_every_entry_is_that_of_timm():
    torch.manual_seed(0)
    net = Counting()
    ours, theirs = WeightAverage(net, 0.9), ModelEmaV3(net, decay=0.9, use_warmup=True, warmup_power=3 / 4)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)

    def step(engine, values):
        optimizer.zero_grad()
        net(values).square().sum().backward()
        optimizer.step()

    engine = Engine(step)
    ours.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _: theirs.update(net, step=engine.state.iteration))
    engine.run([torch.randn(4, 3) for _ in range(5)], max_epochs=2)
    expected = theirs.module.state_dict()
    assert ours.module.state_dict().keys() == expected.keys()
    for name, value in ours.module.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-6, atol=1e-6)
    assert expected["norm.num_batches_tracked"] == 10
    assert expected["seen"] > 4
