"""Weights of loss terms that depend on the epoch."""

from __future__ import annotations

import pytest
from ignite.engine import Events
from test_training_run import run, table, without_clock
from torch import nn

from monai_kd.handlers import LossWeightSchedule
from monai_kd.losses import DistillationLoss, LogitKL


class Scheduled:
    """Of the loss of the trainer, which has it when it runs."""

    def __init__(self, factors) -> None:
        self.factors = factors

    def attach(self, engine) -> None:
        engine.add_event_handler(
            Events.STARTED, lambda engine: LossWeightSchedule(engine.loss_function, self.factors).attach(engine)
        )


def test_the_weighted_terms_of_the_log_follow_it(tmp_path):
    run(tmp_path, 4, first=(Scheduled({"kl": lambda epoch: epoch - 1}),))
    rows = table(tmp_path)
    found = [float(row["weighted/kl"]) / float(row["loss/kl"]) for row in rows]
    assert found == pytest.approx([0, 0.5, 1, 1.5])
    assert [float(row["weighted/bce"]) / float(row["loss/bce"]) for row in rows] == pytest.approx([0.5] * 4)
    for row in rows:
        assert float(row["loss"]) == pytest.approx(sum(float(row[f"weighted/{name}"]) for name in ("bce", "kl", "f")))


def test_a_resumed_run_has_the_weights_of_its_epochs(tmp_path):
    factors = {"kl": lambda epoch: 1 / epoch, "f": lambda epoch: float(epoch > 2)}
    run(tmp_path / "straight", 4, first=(Scheduled(factors),))
    run(tmp_path / "parts", 2, first=(Scheduled(factors),))
    run(tmp_path / "parts", 4, init=1, resume=True, first=(Scheduled(factors),))
    assert without_clock(table(tmp_path / "parts")) == without_clock(table(tmp_path / "straight"))


@pytest.mark.parametrize(
    ("factor", "message"),
    [(-1, "'logit' is -1 in epoch 3, not 0 or more"), (float("nan"), "is nan"), (0, "all loss terms are 0 in epoch 3")],
)
def test_factors_that_can_not_be(factor, message):
    loss = DistillationLoss({"bce": nn.BCEWithLogitsLoss(), "logit": LogitKL()}, {"bce": 0, "logit": 1})
    with pytest.raises(ValueError, match=message):
        LossWeightSchedule(loss, {"logit": lambda epoch: factor}).set_epoch(3)
    assert loss.weights == {"bce": 0, "logit": 1}


def test_terms_that_there_are_not():
    loss = DistillationLoss({"bce": nn.BCEWithLogitsLoss(), "logit": LogitKL()}, {"bce": 0, "logit": 1})
    with pytest.raises(ValueError, match=r"the loss has no term logits \(did you mean logit\?\); it has bce, logit"):
        LossWeightSchedule(loss, {"logits": lambda epoch: 1})
