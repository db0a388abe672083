"""Rows and pictures of a classification, from a network whose evidence is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from monai.visualize import GradCAM
from torch import nn

from monai_kd.inference.classifications import draw_gradcam, rank_classes


class Corner(nn.Module):
    """Class 0 wherever the image is bright. (B, 3, H, W) to (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Conv2d(3, 1, 1, bias=False)
        nn.init.ones_(self.seen.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.seen(x).relu().mean(dim=(2, 3))
        return torch.cat([mean, -mean], dim=1)


@pytest.fixture
def figures(monkeypatch) -> list[Figure]:
    saved = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *_args, **_kwargs: saved.append(self))
    return saved


def test_ranks():
    found = rank_classes(np.array([0.2, 0.5, 0.3]), ["a", "b", "c"])
    assert found == {"class": "b", "probability": 0.5, "p_a": 0.2, "p_b": 0.5, "p_c": 0.3}
    with pytest.raises(ValueError, match="probabilities for the classes a, b"):
        rank_classes(np.array([0.2, 0.5, 0.3]), ["a", "b"])


def test_evidence_is_hot_where_it_lies(tmp_path, monkeypatch, figures):
    monkeypatch.setattr("monai_kd.inference.classifications.written_whole", _nowhere)
    image = torch.zeros(3, 16, 12)
    image[:, 10:14, 2:5] = 1  # x to the right, 10 to 13; y down, 2 to 4
    net = Corner().eval()
    with torch.no_grad():  # as the evaluator runs it
        draw_gradcam(GradCAM(net, "seen"), image, [{"class": "a", "probability": 1.0}], tmp_path / "p.png")
    plain, mapped = figures[0].axes
    assert np.array_equal(plain.images[0].get_array(), image[0].numpy().T)
    heat = np.asarray(mapped.images[1].get_array())
    assert heat.shape == (12, 16)
    np.testing.assert_allclose(heat, image[0].numpy().T, atol=1e-6)
    assert mapped.get_title() == "a 1.00"
    assert all(parameter.grad is None or not parameter.grad.isnan().any() for parameter in net.parameters())


def test_nothing_is_hot_where_nothing_speaks_for_the_class(tmp_path, monkeypatch, figures):
    monkeypatch.setattr("monai_kd.inference.classifications.written_whole", _nowhere)
    net = nn.Sequential(Corner(), nn.Linear(2, 2, bias=False)).eval()
    net[1].weight.data = torch.tensor([[-1.0, 0.0], [-2.0, 0.0]])  # what is bright speaks against both
    image = torch.rand(3, 16, 12)
    draw_gradcam(GradCAM(net, "0.seen"), image, [{"class": "a", "probability": 0.6}], tmp_path / "p.png")
    assert not np.asarray(figures[0].axes[1].images[1].get_array()).any()


@pytest.mark.parametrize(
    ("slices", "shown"), [(1, [0]), (3, [0, 1, 2]), (30, [0, 3, 5, 8, 11, 13, 16, 18, 21, 24, 26, 29])]
)
def test_at_most_twelve_slices(tmp_path, monkeypatch, figures, slices, shown):
    monkeypatch.setattr("monai_kd.inference.classifications.written_whole", _nowhere)
    image = torch.arange(float(slices)).expand(3, 6, 4, slices).clone()
    image[:, 0, 0] += 1
    rows = [{"class": "ab"[number % 2], "probability": 0.5} for number in range(slices)]
    draw_gradcam(GradCAM(Corner().eval(), "seen"), image, rows, tmp_path / "p.png", title="t")
    titles = [axes.get_title() for axes in figures[0].axes if axes.get_title()]
    expected = [f"slice {number}: {'ab'[number % 2]} 0.50" for number in shown]
    assert titles == (expected if slices > 1 else ["a 0.50"])
    assert [float(axes.images[0].get_array()[1, 1]) for axes in figures[0].axes[: 2 * len(shown) : 2]] == shown


class _nowhere:
    def __init__(self, path) -> None:
        self.path = path

    def __enter__(self):
        return self.path

    def __exit__(self, *_error) -> None:
        return None
