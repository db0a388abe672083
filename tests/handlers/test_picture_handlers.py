"""Pictures: outlines lie on the masks, curves show what was logged."""

from __future__ import annotations

import matplotlib.path
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from matplotlib.figure import Figure
from PIL import Image
from torch.utils.data import DataLoader

from monai_kd.handlers import OverlayGrid
from monai_kd.plots import OverlayPanel, plot_curves, plot_overlays
from monai_kd.plots.overlays import draw_outline


def mask(*rectangles: tuple[int, int, int, int], size: tuple[int, int] = (12, 7)) -> np.ndarray:
    """(X, Y), 1 within the rectangles (x from, x to, y from, y to)."""
    found = np.zeros(size)
    for x0, x1, y0, y1 in rectangles:
        found[x0:x1, y0:y1] = 1
    return found


# No mask is its own mirror image or transpose: a swapped axis would show.
MASKS = [
    pytest.param(mask((2, 5, 1, 3)), id="inside"),
    pytest.param(mask((9, 12, 0, 2)), id="right-and-top-border"),
    pytest.param(mask((0, 3, 5, 7)), id="left-and-bottom-border"),
    pytest.param(mask((0, 12, 0, 7)), id="everything"),
    pytest.param(mask((4, 5, 1, 2)), id="one-pixel"),
    pytest.param(mask((0, 2, 0, 2), (6, 11, 3, 6)), id="two-parts"),
]


@pytest.mark.parametrize("shown", MASKS)
def test_outline_encloses_the_pixels_of_the_mask_and_no_others(shown):
    axes = Figure().subplots()
    axes.imshow(shown.T)
    limits = axes.get_xlim(), axes.get_ylim()
    draw_outline(axes, shown, "red")
    path = axes.collections[0].get_paths()[0]
    # imshow draws pixel (x, y) around the point (x, y).
    inside = np.zeros(shown.shape, bool)
    for part in path.to_polygons(closed_only=True):
        closed = matplotlib.path.Path(part)
        inside |= np.array(
            [[closed.contains_point((x, y)) for y in range(shown.shape[1])] for x in range(shown.shape[0])]
        )
    np.testing.assert_array_equal(inside, shown > 0)
    # Half way between the pixels, not nearer to one of them.
    assert set(np.unique(path.vertices % 1)) <= {0.0, 0.5}
    assert (axes.get_xlim(), axes.get_ylim()) == limits


def test_slices_with_and_without_outline_have_the_same_size(tmp_path, figures):
    shown = mask((9, 12, 0, 2))
    plot_overlays([OverlayPanel(shown, shown, np.zeros_like(shown))], tmp_path / "o.png")
    limits = {(axes.get_xlim(), axes.get_ylim()) for axes in figures[0].axes}
    assert limits == {((-0.5, 11.5), (6.5, -0.5))}


def test_image_is_drawn_with_x_to_the_right(tmp_path, figures):
    image = np.arange(12 * 7.0).reshape(12, 7)
    plot_overlays([OverlayPanel(image, None, mask((2, 5, 1, 3)))], tmp_path / "o.png")
    drawn = figures[0].axes[0].images[0].get_array()
    assert drawn.shape == (7, 12)
    assert drawn[1, 3] == image[3, 1]


def test_pixels_of_the_picture(tmp_path):
    # The outline in the file itself: green around the mask in the second slice, red in the third.
    shown, other = mask((20, 30, 4, 9), size=(40, 20)), mask((5, 9, 10, 16), size=(40, 20))
    plot_overlays([OverlayPanel(np.zeros((40, 20)), shown, other)], tmp_path / "o.png")
    picture = np.asarray(Image.open(tmp_path / "o.png").convert("RGB")).astype(int)
    dark = (picture.sum(axis=2) < 60).any(axis=1).nonzero()[0]
    top, bottom = dark.min(), dark.max() + 1
    red, green, blue = (picture[top:bottom, :, i] for i in range(3))
    columns = np.flatnonzero((picture[(top + bottom) // 2] < 255).any(axis=1))
    starts = [group[0] for group in np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)]
    assert len(starts) == 3
    scale = (bottom - top) / 20
    for which, start, box in (
        ((green > 150) & (red < 120), starts[1], (20, 30, 4, 9)),
        ((red > 200) & (green < 140) & (blue < 140), starts[2], (5, 9, 10, 16)),
    ):
        rows, cols = np.nonzero(which)
        found = [
            (cols.min() - start) / scale,
            (cols.max() + 1 - start) / scale,
            rows.min() / scale,
            (rows.max() + 1) / scale,
        ]
        assert found == pytest.approx(box, abs=0.6)


@pytest.mark.parametrize(
    ("count", "with_truth", "per_row", "cells"),
    [
        (1, True, 2, 3),  # one slice: image, truth, prediction
        (3, True, 2, 12),  # two rows, the last half empty
        (3, False, 3, 6),
    ],
)
def test_grid(tmp_path, figures, count, with_truth, per_row, cells):
    shown = mask((2, 5, 1, 3))
    panels = [OverlayPanel(shown, shown if with_truth else None, shown, title=f"slice {i}") for i in range(count)]
    plot_overlays(panels, tmp_path / "sub" / "o.png", "all", per_row=per_row)
    assert len(figures[0].axes) == cells
    assert sum(len(axes.collections) for axes in figures[0].axes) == count * (2 if with_truth else 1)
    assert [t for t in (axes.get_title(loc="left") for axes in figures[0].axes) if t] == [
        f"slice {i}" for i in range(count)
    ]
    assert Image.open(tmp_path / "sub" / "o.png").format == "PNG"


def test_nothing_found_is_said(tmp_path, figures):
    plot_overlays([OverlayPanel(mask(), mask((2, 5, 1, 3)), mask())], tmp_path / "o.png")
    assert [axes.get_title() for axes in figures[0].axes] == ["", "truth", "no tumour found"]
    assert [len(axes.collections) for axes in figures[0].axes] == [0, 1, 0]


def test_long_titles_are_cut_in_the_middle(tmp_path, figures):
    plot_overlays([OverlayPanel(mask(), None, mask(), title="a" * 50 + "_0001.mat\nDice 0.50")], tmp_path / "o.png")
    first, second = figures[0].axes[0].get_title(loc="left").split("\n")
    assert len(first) == 32
    assert first.startswith("aaa")
    assert first.endswith("_0001.mat")
    assert second == "Dice 0.50"


def rows(epochs: int) -> list[dict[str, float]]:
    return [
        {
            "epoch": n,
            "seconds": 1.0,
            "learning_rate": 0.1,
            "loss": 3.0 / n,
            "loss/kl": 9.0,
            "weighted/kl": 2.0 / n,
            "weighted/off": 0.0,
        }
        | ({"val/dice": n / 10} if n % 2 == 0 else {})
        for n in range(1, epochs + 1)
    ]


def test_curves_show_what_was_logged(tmp_path, figures):
    plot_curves(rows(4), tmp_path / "c.png", "run")
    losses, metrics = figures[0].axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in losses.get_lines()}
    assert lines == {
        "total": [[n, 3.0 / n] for n in range(1, 5)],
        "kl": [[n, 2.0 / n] for n in range(1, 5)],  # weighted; the one of weight 0 is not there
    }
    assert {line.get_label(): line.get_xydata().tolist() for line in metrics.get_lines()} == {
        "dice": [[2, 0.2], [4, 0.4]]  # only where validation ran
    }
    assert figures[0].get_suptitle() == "run"
    assert Image.open(tmp_path / "c.png").format == "PNG"


def test_one_epoch_has_one_tick(tmp_path, figures):
    plot_curves(rows(1), tmp_path / "c.png")
    losses, metrics = figures[0].axes
    low, high = losses.get_xlim()
    assert [tick for tick in losses.get_xticks() if low <= tick <= high] == [1]
    assert not metrics.get_lines()


@pytest.mark.parametrize(
    ("draw", "message"), [(plot_curves, "no epochs to draw"), (plot_overlays, "no slices to draw")]
)
def test_nothing_to_draw(tmp_path, draw, message):
    with pytest.raises(ValueError, match=message):
        draw([], tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def validation(grid: OverlayGrid, items: list[dict], batch_size: int) -> Engine:
    """An engine that returns the items as its output, ``batch_size`` at a time."""
    engine = Engine(lambda _engine, batch: batch)
    grid.attach(engine)
    engine.state.best_metric, engine.state.best_metric_epoch = 0.75, 1
    engine.run(DataLoader(items, batch_size, collate_fn=list), max_epochs=1)
    return engine


def items(count: int) -> list[dict]:
    truth = torch.from_numpy(mask((2, 6, 1, 3)))[None]
    prediction = torch.from_numpy(mask((4, 6, 1, 3)))[None]  # half of it: Dice 2·4 / (8 + 4)
    return [
        {
            "image": torch.full((3, 12, 7), float(n)),
            "label": truth,
            "pred": prediction,
            "class": n % 3,
            "source": f"{n}.mat",
        }
        for n in range(count)
    ]


@pytest.mark.parametrize(("count", "shown"), [(4, [0, 3, 6, 9]), (30, list(range(10))), (1, [0])])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_grid_shows_slices_spread_evenly(monkeypatch, tmp_path, count, shown, batch_size):
    drawn = []
    monkeypatch.setattr("monai_kd.handlers.overlay_grid.plot_overlays", lambda *args: drawn.append(args))
    grid = OverlayGrid(tmp_path / "o.png", count=count, class_names=["meningioma", "glioma"])
    validation(grid, items(10), batch_size)
    panels, path, title = drawn[0]
    names = [*["meningioma", "glioma", "class 2"] * 3, "meningioma"]
    assert [panel.title for panel in panels] == [f"{n}.mat  {names[n]}\nDice 0.67" for n in shown]
    assert [panel.image.max() for panel in panels] == shown
    assert panels[0].image.shape == (12, 7)
    assert (path, title) == (tmp_path / "o.png", "epoch 1: mean Dice 0.750")


def test_of_several_processes_the_first_shows_slices_spread_over_its_part(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr("monai_kd.handlers.overlay_grid.plot_overlays", lambda *args: drawn.append(args))
    engine = Engine(lambda _engine, batch: batch)
    OverlayGrid(tmp_path / "o.png", count=3).attach(engine)
    engine.state.best_metric, engine.state.best_metric_epoch = 0.5, 1
    engine.run(DataLoader(items(10), 2, sampler=range(0, 10, 2), collate_fn=list), max_epochs=1)
    assert [panel.image.max() for panel in drawn[0][0]] == [0, 4, 8]


@pytest.mark.parametrize(("best_epoch", "save", "written"), [(1, True, True), (3, True, False), (1, False, False)])
def test_grid_is_written_by_one_process_for_a_new_best(tmp_path, best_epoch, save, written):
    grid = OverlayGrid(tmp_path / "o.png", save=save)
    engine = Engine(lambda _engine, batch: batch)
    grid.attach(engine)
    engine.state.best_metric, engine.state.best_metric_epoch = 0.5, best_epoch
    engine.run(DataLoader(items(2), 2, collate_fn=list), max_epochs=1)
    assert (tmp_path / "o.png").is_file() is written


def test_the_title_has_a_first_line_of_its_own(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr("monai_kd.handlers.overlay_grid.plot_overlays", lambda *args: drawn.append(args))
    validation(OverlayGrid(tmp_path / "o.png", title="SYNTHETIC phantoms: teacher"), items(2), 2)
    assert drawn[0][2] == "SYNTHETIC phantoms: teacher\nepoch 1: mean Dice 0.750"


def test_undefined_dice_in_the_title(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr("monai_kd.handlers.overlay_grid.plot_overlays", lambda *args: drawn.append(args))
    engine = Engine(lambda _engine, batch: batch)
    OverlayGrid(tmp_path / "o.png").attach(engine)
    engine.state.best_metric, engine.state.best_metric_epoch = float("nan"), 1
    engine.run(DataLoader(items(1), 1, collate_fn=list), max_epochs=1)
    assert drawn[0][2] == "epoch 1: mean Dice undefined"


def test_dice_of_two_empty_masks_is_not_a_number(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr("monai_kd.handlers.overlay_grid.plot_overlays", lambda *args: drawn.append(args))
    empty = items(1)[0] | {"label": torch.zeros(1, 12, 7), "pred": torch.zeros(1, 12, 7)}
    validation(OverlayGrid(tmp_path / "o.png"), [empty], 1)
    assert drawn[0][0][0].title.endswith("Dice nan")
