"""A step of a training reads nothing from its device, so that a GPU never waits for Python."""

from __future__ import annotations

import math

import pytest
import torch
from dispatched import Dispatched
from ignite.engine import Engine, Events
from monai.handlers import from_engine
from torch import nn

from monai_kd.distillation import Distiller
from monai_kd.engines import DistillationTrainer
from monai_kd.handlers import DefinedDice, EpochLog
from monai_kd.losses import (
    AttentionLoss,
    DiceCE,
    DistillationLoss,
    EdgeLoss,
    FeatureLoss,
    LogitKL,
    Projections,
)
from monai_kd.transforms import mask_postprocessing

# What becomes a number of Python: ``item``, ``float``, ``if tensor``.
READS = torch.ops.aten._local_scalar_dense.default


class OnAGpu(DistillationLoss):
    """The check that a CPU makes at once is left to the log."""

    def forward(self, outputs, label=None):
        patch = pytest.MonkeyPatch()
        with patch.context() as patched:
            patched.setattr(torch, "isfinite", lambda _value: True)
            return super().forward(outputs, label)


def network(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 1, 1))


def trainer(tmp_path, images: torch.Tensor) -> DistillationTrainer:
    terms = {
        **{"supervised": DiceCE(sigmoid=True), "logit": LogitKL(2.0), "feature": FeatureLoss()},
        **{"attention": AttentionLoss(), "edge": EdgeLoss()},
    }
    loss = OnAGpu(terms, dict.fromkeys(terms, 1.0), Projections({"f": (3, 5)}))
    distiller = Distiller(network(3), network(5), {"f": "0"}, {"f": "0"})
    optimizer = torch.optim.AdamW([*distiller.student.parameters(), *loss.parameters()], lr=0.01, fused=True)
    batches = [{"image": images, "label": (images > 0).float()}] * 3
    evaluator = Engine(lambda *_: None)
    evaluator.state.epoch, evaluator.state.best_metric, evaluator.state.best_metric_epoch = -1, 0.0, -1
    dice = DefinedDice(output_transform=from_engine(["pred", "label"]))
    made = DistillationTrainer(
        "cpu",
        1,
        batches,
        distiller,
        optimizer,
        loss,
        amp=True,
        postprocessing=mask_postprocessing("sigmoid", 1),
        key_train_metric={"dice": dice},
    )
    EpochLog(tmp_path, evaluator, optimizer).attach(made)
    return made


def test_nothing_is_read_in_a_step(tmp_path):
    engine = trainer(tmp_path, torch.randn(4, 1, 16, 16))
    counts = []
    with Dispatched(READS) as reads:
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda _engine: counts.append(reads.count))
        engine.run()
    assert counts[0] == counts[-1] == 0
    assert reads.count > 0  # by the log, at the end of the epoch
    assert [item["loss"].shape for item in engine.state.output] == [(1,)] * 4


def test_a_loss_that_is_not_finite_is_an_error_at_the_end_of_the_epoch(tmp_path):
    images = torch.randn(4, 1, 16, 16)
    images[0, 0, 0, 0] = math.inf
    with pytest.raises(ValueError, match=r"the loss was not finite in this epoch: supervised = nan, logit = nan"):
        trainer(tmp_path, images).run()
    assert not (tmp_path / "log.csv").exists()
