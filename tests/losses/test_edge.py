"""Edge loss against scipy's Sobel filters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.special import expit, softmax

from monai_kd.losses import EdgeLoss
from monai_kd.losses.edge import sobel_magnitude

SHAPES = [
    pytest.param((2, 1, 6, 7), id="map-2d"),  # (B, 1, H, W)
    pytest.param((2, 3, 5, 4), id="channels"),  # (B, C, H, W)
    pytest.param((2, 1, 4, 5, 6), id="map-3d"),  # (B, 1, H, W, D)
    pytest.param((2, 2, 9), id="sequence"),  # (B, C, L)
]


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def reference_edges(x: np.ndarray, eps: float) -> np.ndarray:
    edges = np.empty_like(x)
    for index in np.ndindex(x.shape[:2]):
        along = [ndimage.sobel(x[index], axis=axis, mode="nearest") for axis in range(x.ndim - 2)]
        edges[index] = np.sqrt(np.sum(np.square(along), axis=0) + eps)
    return edges


def square(size: int, low: int, high: int) -> torch.Tensor:
    mask = torch.zeros(1, 1, size, size)
    mask[..., low:high, low:high] = 1
    return mask


@pytest.mark.parametrize("shape", SHAPES)
def test_magnitude_equals_scipy(shape):
    x = noise(shape)
    np.testing.assert_allclose(sobel_magnitude(x, eps=1e-3).numpy(), reference_edges(x.numpy(), 1e-3))


@pytest.mark.parametrize("shape", SHAPES)
def test_loss_equals_scipy_on_probabilities(shape):
    logits, label = 3 * noise(shape), (noise(shape, seed=1) > 0).double()
    expected = np.abs(reference_edges(expit(logits.numpy()), 1e-6) - reference_edges(label.numpy(), 1e-6)).mean()
    assert float(EdgeLoss(activation="sigmoid")(logits, label)) == pytest.approx(expected)


@pytest.mark.parametrize("include_background", [False, True])
@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (2, 3, 4, 5, 3)])  # (B, C, H, W), (B, C, H, W, D)
def test_softmax_equals_scipy_class_by_class(shape, one_hot, include_background):
    logits = 3 * noise(shape)
    classes = torch.randint(3, (2, 1, *shape[2:]), generator=torch.Generator().manual_seed(1))
    masks = np.concatenate([classes.numpy() == c for c in range(3)], axis=1).astype(float)
    first = 0 if include_background else 1
    predicted = softmax(logits.numpy(), axis=1)
    expected = np.abs(reference_edges(predicted[:, first:], 1e-6) - reference_edges(masks[:, first:], 1e-6)).mean()
    loss = EdgeLoss(activation="softmax", include_background=include_background)
    assert float(loss(logits, torch.tensor(masks) if one_hot else classes)) == pytest.approx(expected)


@pytest.mark.parametrize("shape", [(1, 1, 6, 6), (1, 1, 4, 4, 4)])
@pytest.mark.parametrize("value", [1.0, -3.0])
def test_image_border_is_no_edge(shape, value):
    # A constant map has no edge, not at the border either, where zero padding would draw one.
    torch.testing.assert_close(sobel_magnitude(torch.full(shape, value), eps=1e-6), torch.full(shape, 1e-3))


@pytest.mark.parametrize(
    "label",
    [
        pytest.param(square(8, 2, 6), id="inside"),
        pytest.param(square(8, 0, 5), id="touches-the-border"),
        pytest.param(torch.ones(1, 1, 8, 8), id="everywhere"),
        pytest.param(torch.zeros(2, 1, 4, 4, 4), id="empty-volume"),
    ],
)
def test_zero_for_a_perfect_prediction(label):
    assert float(EdgeLoss()(1000 * (label - 0.5), label)) == 0.0


def test_grows_as_the_edge_is_further_off():
    label = square(16, 4, 12)
    off = [float(EdgeLoss()(1000 * (label.roll(n, dims=-1) - 0.5), label)) for n in range(3)]
    assert off[0] < off[1] < off[2]


def test_integer_labels_are_accepted():
    label = square(8, 2, 6)
    logits = noise((1, 1, 8, 8)).float()
    assert float(EdgeLoss()(logits, label.to(torch.uint8))) == float(EdgeLoss()(logits, label))


@pytest.mark.parametrize("shape", [(1, 1, 4, 4), (1, 1, 3, 3, 3)])
def test_gradients(shape):
    label = (noise(shape, seed=1) > 0).double()
    assert torch.autograd.gradcheck(lambda z: EdgeLoss()(z, label), noise(shape).requires_grad_())


def test_gradient_is_finite_where_nothing_changes():
    logits = torch.zeros(1, 1, 6, 6, requires_grad=True)
    EdgeLoss()(logits, square(6, 2, 4)).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize(
    ("name", "channels", "label", "message"),
    [
        (None, 2, torch.zeros(1, 2, 4, 4), "have 2 channels: set `activation`"),
        ("softmax", 3, torch.full((1, 1, 4, 4), 3), "label holds classes from 3 to 3; with 3 channels .* from 0 to 2"),
        ("softmax", 3, torch.full((1, 1, 4, 4), -1), "label holds classes from -1 to -1"),
        ("softmax", 3, torch.full((1, 1, 4, 4), 0.5), "label holds classes from 0.5 to 0.5"),
        ("softmax", 3, torch.zeros(1, 4, 4), r"\(1, 4, 4\) differ, nor is the label one channel of class numbers"),
        # One mask for three sigmoid channels could only be broadcast.
        ("sigmoid", 3, torch.zeros(1, 1, 4, 4), r"\(1, 3, 4, 4\) and label \(1, 1, 4, 4\) differ\."),
    ],
)
def test_labels_that_do_not_fit(name, channels, label, message):
    with pytest.raises(ValueError, match=message):
        EdgeLoss(activation=name)(torch.zeros(1, channels, 4, 4), label)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(1, 1, 4, 4\) and label \(1, 4, 4\) differ"):
        EdgeLoss()(torch.zeros(1, 1, 4, 4), torch.zeros(1, 4, 4))
