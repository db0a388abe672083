"""Pictures of a classifier: what is drawn is what was counted, and is readable."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from monai_kd.metrics import class_metrics
from monai_kd.plots import plot_confusion, plot_reliability

NAMES = ["meningioma", "glioma", "pituitary tumour"]
MATRIX = [[30, 10, 0], [0, 0, 0], [1, 2, 1234]]


def test_cells_have_counts_and_shares_of_their_row(tmp_path, figures):
    plot_confusion(MATRIX, NAMES, tmp_path / "sub" / "c.png", "fold 0")
    (axes,) = figures[0].axes
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    # (column, row): imshow draws the columns along x.
    assert cells[0, 0] == "30\n75.0 %"
    assert cells[1, 0] == "10\n25.0 %"
    assert cells[0, 1] == "0\n–"  # of no slices there is no share
    assert cells[2, 2] == "1234\n99.8 %"
    assert [label.get_text() for label in axes.get_xticklabels()] == NAMES
    assert [label.get_text().split("\n") for label in axes.get_yticklabels()] == [
        ["meningioma", "(n = 40)"],
        ["glioma", "(n = 0)"],
        ["pituitary tumour", "(n = 1237)"],
    ]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    assert figures[0].get_suptitle() == "fold 0"
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["c.png"]
    assert Image.open(tmp_path / "sub" / "c.png").format == "PNG"


def test_cells_stand_out_from_their_ground_and_do_not_overlap(tmp_path, figures):
    matrix = np.array([[100 - share, share] for share in range(0, 101, 5)])
    for row in matrix:
        plot_confusion([row, row[::-1]], ["benign", "malignant"], tmp_path / "c.png")
        (axes,) = figures[-1].axes
        image = axes.get_images()[0]
        for text in axes.texts:
            column, line = text.get_position()
            ground = image.cmap(image.norm(image.get_array()[line, column]))[:3]
            weights = (0.2126, 0.7152, 0.0722)
            difference = abs(np.dot(weights, ground) - np.dot(weights, to_rgb(text.get_color())))
            assert difference > 0.35
    plot_confusion(np.full((3, 3), 12345), NAMES, tmp_path / "c.png")
    (axes,) = figures[-1].axes
    figures[-1].draw_without_rendering()  # places everything for the resolution that is measured in
    words = [*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.yaxis.label]
    boxes = [word.get_window_extent() for word in words]
    slanted = set(range(len(axes.texts), len(axes.texts) + 3))  # their boxes overlap where their letters do not
    for (i, one), (j, other) in itertools.combinations(enumerate(boxes), 2):
        assert slanted >= {i, j} or not one.overlaps(other), (words[i].get_text(), words[j].get_text())


@pytest.mark.parametrize(
    ("matrix", "match"),
    [
        (np.zeros((2, 3)), r"\(3, 3\)"),
        (np.zeros((2, 2)), r"\(3, 3\)"),
        (np.full((3, 3), -1), "negative"),
        (np.full((3, 3), np.nan), "finite"),
    ],
)
def test_no_confusion(tmp_path, matrix, match):
    with pytest.raises(ValueError, match=match):
        plot_confusion(matrix, NAMES, tmp_path / "c.png")
    assert not list(tmp_path.iterdir())


def test_bars_are_accuracies_over_their_counts(tmp_path, figures):
    # 5 bins: 0.2 … 0.4 has two slices, one of them right; 0.8 … 1 has three right ones; 0.8 lies on a border.
    confidence, correct = [0.3, 0.4, 0.8, 0.9, 0.95, 1.0], [True, False, False, True, True, True]
    plot_reliability(confidence, correct, tmp_path / "r.png", "fold 0", bins=5)
    upper, lower = figures[0].axes
    bars = [(bar.get_x(), bar.get_width(), bar.get_height()) for bar in upper.patches]
    assert np.array(bars) == pytest.approx(np.array([(0.2, 0.2, 0.5), (0.6, 0.2, 0.0), (0.8, 0.2, 1.0)]))
    assert [bar.get_height() for bar in lower.patches] == [2, 1, 3]
    diagonal, dots = upper.lines
    assert diagonal.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert dots.get_xydata() == pytest.approx(np.array([(0.35, 0.5), (0.8, 0.0), (2.85 / 3, 1.0)]))
    # (2 · 0.15 + 1 · 0.8 + 3 · 0.05) / 6
    assert upper.get_title() == "expected calibration error 0.208, 6 slices"
    assert Image.open(tmp_path / "r.png").format == "PNG"


def test_caption_is_the_error_of_the_metrics(tmp_path, figures):
    generator = np.random.default_rng(0)
    probabilities, classes = generator.dirichlet([0.5] * 3, 200), generator.integers(0, 3, 200)
    correct = probabilities.argmax(axis=1) == classes
    plot_reliability(probabilities.max(axis=1), correct, tmp_path / "r.png")
    assert f"error {class_metrics(probabilities, classes)['ece']:.3f}," in figures[0].axes[0].get_title()


@pytest.mark.parametrize(
    ("confidence", "correct", "bins", "match"),
    [
        ([], [], 15, "N ≥ 1"),
        ([0.5], [True, False], 15, r"\(N,\)"),
        ([1.5], [True], 15, "outside 0 … 1"),
        ([float("nan")], [True], 15, "outside 0 … 1"),
        ([0.5], [True], 0, "at least 1"),
    ],
)
def test_no_reliability(tmp_path, confidence, correct, bins, match):
    with pytest.raises(ValueError, match=match):
        plot_reliability(confidence, correct, tmp_path / "r.png", bins=bins)
    assert not list(tmp_path.iterdir())
