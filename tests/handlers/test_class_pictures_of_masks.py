"""Pictures of masks of several classes: a colour for each, and a legend."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from matplotlib.colors import to_rgb

from monai_kd.handlers import OverlayGrid
from monai_kd.plots import OverlayPanel, class_colours, plot_overlays

NAMES = ["a$b", "c_d", "e"]
TRUTH, FOUND = np.zeros((12, 10), int), np.zeros((12, 10), int)
TRUTH[1:5, 1:5], FOUND[1:5, 1:3] = 2, 2  # Dice 2 · 8 / (16 + 8)
FOUND[8:10, 8:10] = 3  # Dice 0
ONE_HOT = {name: np.stack([mask == number for number in range(4)]) for name, mask in (("t", TRUTH), ("p", FOUND))}


def colours(axes) -> list[tuple[float, ...]]:
    return [tuple(each.get_edgecolor()[0][:3]) for each in axes.collections]


def test_each_class_has_its_colour_in_truth_and_prediction(figures, tmp_path):
    panel = OverlayPanel(np.zeros((12, 10)), ONE_HOT["t"][1:], ONE_HOT["p"][1:], "slice", NAMES)
    plot_overlays([panel], tmp_path / "o.png")
    _, truth, prediction = figures[0].axes
    expected = [to_rgb(colour) for colour in class_colours(3)]
    assert colours(truth) == [expected[1]]
    assert colours(prediction) == expected[1:]
    (legend,) = figures[0].legends
    assert [text.get_text() for text in legend.get_texts()] == NAMES
    assert [tuple(to_rgb(line.get_color())) for line in legend.get_lines()] == expected


def test_one_class_is_green_and_red_without_a_legend(figures, tmp_path):
    plot_overlays([OverlayPanel(np.zeros((12, 10)), TRUTH > 0, FOUND > 0)], tmp_path / "o.png")
    assert [colours(axes) for axes in figures[0].axes] == [[], [to_rgb("#3ddc84")], [to_rgb("#ff5252")]]
    assert not figures[0].legends


@pytest.mark.parametrize(
    ("label", "pred"),
    [
        pytest.param(ONE_HOT["t"], ONE_HOT["p"], id="one-hot"),
        pytest.param(ONE_HOT["t"][1:], ONE_HOT["p"][1:], id="each"),
        pytest.param(TRUTH[None], FOUND[None], id="indices"),
    ],
)
def test_grid_draws_the_classes_of_training(label, pred, monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr("monai_kd.handlers.overlay_grid.plot_overlays", lambda *args: drawn.append(args))
    item = {"image": torch.zeros(1, 12, 10), "source": "1.mat", "class": 1}
    item |= {"label": torch.as_tensor(label).float(), "pred": torch.as_tensor(pred).float()}
    engine = Engine(lambda _engine, batch: batch)
    OverlayGrid(tmp_path / "o.png", class_names=NAMES, mask_names=NAMES).attach(engine)
    engine.state.best_metric, engine.state.best_metric_epoch = 0.5, 1
    engine.run(torch.utils.data.DataLoader([item], collate_fn=list), max_epochs=1)
    ((panel,), _, _) = drawn[0]
    np.testing.assert_array_equal(panel.truth, ONE_HOT["t"][1:])
    np.testing.assert_array_equal(panel.prediction, ONE_HOT["p"][1:])
    # of the two classes that are there
    assert panel.title == f"1.mat  c_d\nDice {(2 / 3 + 0) / 2:.2f}"
