"""Dice over slices some or all of which have no tumour."""

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine
from monai.metrics import DiceMetric

from monai_kd.handlers import DefinedDice, not_worse

EMPTY, FULL = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
HALF = torch.cat([FULL[:, :2], EMPTY[:, :2]], dim=1)


def dice(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> float:
    engine = Engine(lambda _engine, batch: ([batch[0]], [batch[1]]))
    DefinedDice().attach(engine, "dice")
    return engine.run(pairs).metrics["dice"]


@pytest.mark.parametrize(
    ("pairs", "wanted"),
    [
        ([(FULL, FULL), (HALF, FULL)], (1 + 2 * 8 / 24) / 2),
        ([(FULL, FULL), (FULL, EMPTY), (EMPTY, EMPTY)], 1.0),  # without a tumour: left out
        ([(EMPTY, FULL)], 0.0),  # missed: defined
        ([(EMPTY, EMPTY)], float("nan")),
        ([(FULL, EMPTY), (EMPTY, EMPTY)], float("nan")),
    ],
)
def test_mean_of_what_is_defined(pairs, wanted):
    assert dice(pairs) == pytest.approx(wanted, nan_ok=True)


@pytest.mark.parametrize("best", [0.0, 0.3, 1.0])
def test_comparison_of_numbers_is_that_of_monai(best):
    assert [not_worse(value, best) for value in (0.0, 0.3, 1.0)] == [value > best for value in (0.0, 0.3, 1.0)]


def test_the_last_of_undefined_ones_is_kept():
    assert not_worse(math.nan, math.nan)


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("channels", [1, 3])
def test_dice_of_each_mask_is_that_of_monai(channels, background):
    generator = torch.Generator().manual_seed(0)
    pred, label = ((torch.rand(6, channels, 5, 7, generator=generator) > 0.6).float() for _ in range(2))
    label[0] = 0
    pred[1] = 0
    found, expected = DefinedDice(background).metric_fn, DiceMetric(include_background=background)
    for metric in (found, expected):
        metric(list(pred), list(label))
    assert torch.equal(found.get_buffer().nan_to_num(-1), expected.get_buffer().nan_to_num(-1))
