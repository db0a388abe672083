"""Rows and pictures of a classification, from a network whose evidence is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from monai_kd.inference import Classifications, InputFiles, rank_classes
from monai_kd.inference.gradcam import draw_gradcam, gradcam_of
from monai_kd.networks import LateFusionClassifier, create_backbone

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
VGG = {"name": "vgg11", "image_size": 32, "mlp_ratio": 1 / 32}


def default_layer(bundle: str) -> str:
    return json.loads((BUNDLES / bundle / "configs" / "inference.json").read_text())["gradcam_layer"]


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


@pytest.mark.parametrize("frozen", [True, False])
def test_evidence_is_hot_where_it_lies(tmp_path, monkeypatch, figures, frozen):
    monkeypatch.setattr("monai_kd.inference.gradcam.atomic_write", _nowhere)
    image = torch.zeros(3, 16, 12)
    image[:, 10:14, 2:5] = 1  # x to the right, 10 to 13; y down, 2 to 4
    net = Corner().eval().requires_grad_(not frozen)
    with torch.no_grad():  # as the evaluator runs it
        draw_gradcam(gradcam_of(net, "seen"), image, np.array([[1.0], [0.0]]), "ab", tmp_path / "p.png")
    plain, mapped = figures[0].axes
    assert np.array_equal(plain.images[0].get_array(), image[0].numpy().T)
    heat = np.asarray(mapped.images[1].get_array())
    assert heat.shape == (12, 16)
    np.testing.assert_allclose(heat, image[0].numpy().T, atol=1e-6)
    assert mapped.get_title() == "a 1.00"
    assert all(parameter.grad is None or not parameter.grad.isnan().any() for parameter in net.parameters())


def test_nothing_is_hot_where_nothing_speaks_for_the_class(tmp_path, monkeypatch, figures):
    monkeypatch.setattr("monai_kd.inference.gradcam.atomic_write", _nowhere)
    net = nn.Sequential(Corner(), nn.Linear(2, 2, bias=False)).eval()
    net[1].weight.data = torch.tensor([[-1.0, 0.0], [-2.0, 0.0]])  # what is bright speaks against both
    image = torch.rand(3, 16, 12)
    draw_gradcam(gradcam_of(net, "0.seen"), image, np.array([[0.6], [0.4]]), "ab", tmp_path / "p.png")
    assert not np.asarray(figures[0].axes[1].images[1].get_array()).any()


@pytest.mark.parametrize(
    ("slices", "shown"), [(1, [0]), (3, [0, 1, 2]), (30, [0, 3, 5, 8, 11, 13, 16, 18, 21, 24, 26, 29])]
)
def test_at_most_twelve_slices(tmp_path, monkeypatch, figures, slices, shown):
    monkeypatch.setattr("monai_kd.inference.gradcam.atomic_write", _nowhere)
    image = torch.arange(float(slices)).expand(3, 6, 4, slices).clone()
    image[:, 0, 0] += 1
    first = np.array([0.75, 0.25] * slices)[:slices]
    draw_gradcam(gradcam_of(Corner().eval(), "seen"), image, np.stack([first, 1 - first]), "ab", tmp_path / "p.png")
    titles = [axes.get_title() for axes in figures[0].axes if axes.get_title()]
    expected = [f"slice {number + 1} of {slices}: {'ab'[number % 2]} 0.75" for number in shown]
    assert titles == (expected if slices > 1 else ["a 0.75"])
    assert [float(axes.images[0].get_array()[1, 1]) for axes in figures[0].axes[: 2 * len(shown) : 2]] == shown


def test_the_map_is_of_the_class_in_the_caption(tmp_path, monkeypatch, figures):
    monkeypatch.setattr("monai_kd.inference.gradcam.atomic_write", _nowhere)
    image = torch.zeros(3, 16, 12)
    image[:, 10:14, 2:5] = 1  # speaks for class 0, and against class 1
    for probabilities, hot in (([[0.9], [0.1]], True), ([[0.1], [0.9]], False)):
        draw_gradcam(gradcam_of(Corner().eval(), "seen"), image, np.array(probabilities), "ab", tmp_path / "p.png")
        mapped = figures[-1].axes[1]
        assert np.asarray(mapped.images[1].get_array()).any() == hot
        assert mapped.get_title() == ("a 0.90" if hot else "b 0.90")


@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_lite0"])
def test_the_students_default_layer_is_the_last_before_the_mean_over_positions(name):
    net = create_backbone(name, num_classes=3).eval()
    seen = {}
    net.get_submodule(default_layer("cls_student")).register_forward_hook(lambda *call: seen.update(layer=call[2]))
    net.global_pool.register_forward_pre_hook(lambda *call: seen.update(pooled=call[1][0]))
    with torch.no_grad():
        net(torch.randn(1, 3, 64, 64))
    assert torch.equal(seen["layer"], seen["pooled"])


@pytest.mark.parametrize("layer", [default_layer("cls_teacher"), "backbones.0.features.18", "backbones.0.features.19"])
def test_layers_of_a_vgg_teacher(layer):
    torch.manual_seed(0)
    net = LateFusionClassifier([VGG], num_classes=3).eval()
    image = torch.randn(1, 3, 64, 64)
    before = net(image)
    found = gradcam_of(net, layer)(x=image, class_idx=1)
    assert found.shape == (1, 1, 64, 64)
    assert torch.equal(net(image), before)


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        ("backbones.0.blocks.0", r"returns \(1, 5, 64\), not \(batch, channels, height, width\)"),
        ("fusion", r"'fusion' of LateFusionClassifier returns \(1, 3\)"),
    ],
)
def test_layers_without_height_and_width_are_refused(layer, match):
    net = LateFusionClassifier([{"name": "test_vit", "image_size": 32}], num_classes=3).eval()
    gradcam = gradcam_of(net, layer)
    with pytest.raises(ValueError, match=match):
        gradcam(x=torch.zeros(1, 3, 32, 32), class_idx=0)


def test_an_unknown_layer_names_its_neighbours(tmp_path):
    inputs = InputFiles(None, tmp_path)
    with pytest.raises(ValueError, match=r"gradcam_layer: Corner has no module 'sen' \(did you mean seen\?\)\."):
        Classifications(inputs, "ab", Corner(), "sen")
    with pytest.raises(ValueError, match="and there is none"):
        Classifications(inputs, "ab", None, "seen")


class _nowhere:
    def __init__(self, path) -> None:
        self.path = path

    def __enter__(self):
        return self.path

    def __exit__(self, *_error) -> None:
        return None
