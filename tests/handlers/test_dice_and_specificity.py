import math

import pytest
import torch
from ignite.engine import Engine
from monai.handlers import from_engine

from monai_kd.handlers import DefinedDice, validation_metrics


def masks(*pixels: int) -> torch.Tensor:
    """Masks of one channel and 8 pixels, with that many."""
    return torch.stack([(torch.arange(8) < count).float().reshape(1, 2, 4) for count in pixels])


def one_hot(mask: torch.Tensor) -> torch.Tensor:
    return torch.cat([1 - mask, mask], 1)


def run(predicted: torch.Tensor, true: torch.Tensor, background: bool = True, **given) -> dict[str, float]:
    """Metrics of an engine that gets two slices at a time."""

    def metric() -> DefinedDice:
        return DefinedDice(include_background=background, output_transform=from_engine(["pred", "label"]))

    found = validation_metrics(metric, given.pop("data", [{}]), given.pop("probability", 0.3))
    both = [{"pred": one, "label": other} for one, other in zip(predicted, true, strict=True)]
    engine = Engine(lambda engine, batch: batch)
    for name, each in found.items():
        each.attach(engine, name)
    engine.run([both[start : start + 2] for start in range(0, len(both), 2)])
    assert list(engine.state.metrics) == list(found)
    return engine.state.metrics


@pytest.mark.parametrize("form", [lambda mask: mask, one_hot])
def test_counted_by_hand(form):
    # Dice 1 and 2 · 2 / (2 + 4); of three slices without a tumour, one is marked.
    found = run(form(masks(4, 2, 0, 3, 0)), form(masks(4, 4, 0, 0, 0)), background=form(masks(1)).shape[1] == 1)
    dice, specificity = (1 + 2 / 3) / 2, 2 / 3
    assert found == pytest.approx(
        {"dice_and_specificity": (dice + specificity) / 2, "dice": dice, "specificity": specificity}
    )
    assert next(iter(found)) == "dice_and_specificity"  # the first is the key metric


def test_one_side_is_missing():
    only_tumours = run(masks(4, 4), masks(4, 4))
    assert (only_tumours["dice_and_specificity"], math.isnan(only_tumours["specificity"])) == (1, True)
    none = run(masks(0, 4), masks(0, 0))
    assert none["specificity"] == 0.5
    assert math.isnan(none["dice_and_specificity"])


@pytest.mark.parametrize(
    ("data", "probability", "key"),
    [
        ([{"image": "a"}], 0, "dice"),
        ([{"tumour": True}], 0, "dice"),
        ([{"tumour": True}, {"tumour": False}], 0, "dice_and_specificity"),
        ([{"image": "a"}], 0.3, "dice_and_specificity"),
    ],
)
def test_dice_is_the_key_metric_where_all_slices_have_a_tumour(data, probability, key):
    assert next(iter(run(masks(4), masks(4), data=data, probability=probability))) == key
