"""Divergence by region of the label, against scipy's morphology and loops over positions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.special import expit, rel_entr, softmax

from monai_kd.losses import BodyKL, BoundaryKL, ChannelWiseKL, EdgeKL, LogitKL
from monai_kd.losses.boundary import boundary_band

TERMS = [BoundaryKL, EdgeKL, BodyKL]
# (activation, shape of the logits): (B, C, H, W) and (B, C, H, W, D), of unequal sides
CASES = [
    pytest.param(None, (2, 1, 12, 9), id="one-mask-2d"),
    pytest.param(None, (2, 1, 8, 9, 7), id="one-mask-3d"),
    pytest.param("sigmoid", (2, 3, 12, 9), id="masks-2d"),
    pytest.param("softmax", (2, 3, 12, 9), id="classes-2d"),
    pytest.param("softmax", (2, 3, 8, 9, 7), id="classes-3d"),
]


def pair(shape: tuple[int, ...], scale: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(scale * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))


def boxes(shape: tuple[int, ...], activation: str | None) -> np.ndarray:
    """Masks (B, C, …): boxes that overlap for a sigmoid; for a softmax, classes of which class 0 is the rest."""
    masks = np.zeros(shape)
    for image, channel in np.ndindex(*shape[:2]):
        low = 1 + image + channel
        masks[(image, channel, *[slice(low, low + 4)] * (len(shape) - 2))] = 1
    if activation == "softmax":
        classes = np.zeros((shape[0], *shape[2:]), int)
        for channel in range(1, shape[1]):
            classes[masks[:, channel] == 1] = channel
        masks = np.stack([classes == channel for channel in range(shape[1])], axis=1).astype(float)
    return masks


def reference_band(masks: np.ndarray, size: int) -> np.ndarray:
    band = np.empty_like(masks)
    box = np.ones([size] * (masks.ndim - 2))
    for index in np.ndindex(*masks.shape[:2]):
        dilated = ndimage.binary_dilation(masks[index], box, border_value=0)
        band[index] = dilated & ~ndimage.binary_erosion(masks[index], box, border_value=1)
    return band


def reference_kl(student: np.ndarray, teacher: np.ndarray, activation: str | None, temperature: float) -> np.ndarray:
    """KL of each position: (B, C, …) for masks, the same for all C for classes."""
    if activation == "softmax":
        s, t = (softmax(z / temperature, axis=1) for z in (student, teacher))
        return np.broadcast_to(rel_entr(t, s).sum(axis=1, keepdims=True), student.shape)
    s, t = (expit(z / temperature) for z in (student, teacher))
    return rel_entr(t, s) + rel_entr(1 - t, 1 - s)


@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize(("activation", "shape"), CASES)
def test_band_equals_scipy(activation, shape, size):
    masks = boxes(shape, activation)
    found = boundary_band(torch.tensor(masks), size).numpy()
    np.testing.assert_array_equal(found, reference_band(masks, size))
    assert 0 < found.mean() < 1


@pytest.mark.parametrize("size", [3, 5, 7])
def test_width_of_the_band(size):
    # A straight boundary in the middle, (1, 1, 20, 20): the band is k − 1 pixels wide, half of it on each side.
    mask = torch.zeros(1, 1, 20, 20)
    mask[..., 10:] = 1
    found = boundary_band(mask, size)[0, 0, 0].nonzero().flatten().tolist()
    assert found == list(range(10 - (size - 1) // 2, 10 + (size - 1) // 2))


def test_default_band_is_at_least_three_pixels_wide():
    assert all(term().kernel_size - 1 >= 3 for term in TERMS)


@pytest.mark.parametrize("shape", [(1, 1, 9), (1, 1, 9, 9), (1, 1, 7, 7, 7)])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_image_border_is_no_boundary(shape, value):
    assert not boundary_band(torch.full(shape, value), 5).any()
    # A mask that touches the border has a boundary on its other side only.
    mask = torch.zeros(shape)
    mask[..., :4] = 1
    assert not boundary_band(mask, 5)[..., :2].any()


@pytest.mark.parametrize(("activation", "shape"), CASES)
def test_weighted_mean(activation, shape):
    student, teacher = pair(shape)
    masks = boxes(shape, activation)
    band, found = reference_band(masks, 3), reference_kl(student.numpy(), teacher.numpy(), activation, 2.0)
    if activation == "softmax":
        band, found = band.max(axis=1), found[:, 0]
    expected = 4 * np.average(found, weights=1 + 2.5 * band)
    loss = BoundaryKL(2.5, 3, 2.0, activation)(student, teacher, torch.tensor(masks))
    assert float(loss) == pytest.approx(expected, rel=1e-10)
    assert abs(expected - 4 * found.mean()) > 1e-3  # the weights do count


@pytest.mark.parametrize(("activation", "shape"), CASES)
def test_edge_is_the_mean_over_bands_of_means(activation, shape):
    student, teacher = pair(shape)
    masks = boxes(shape, activation)
    masks[1, -1] = 0  # a channel without boundary is left out
    band, found = reference_band(masks, 5), reference_kl(student.numpy(), teacher.numpy(), activation, 2.0)
    each = [found[index][band[index] == 1].mean() for index in np.ndindex(*shape[:2]) if band[index].any()]
    assert len(each) == shape[0] * shape[1] - 1
    loss = EdgeKL(5, 2.0, activation)(student, teacher, torch.tensor(masks))
    assert float(loss) == pytest.approx(4 * np.mean(each), rel=1e-10)


@pytest.mark.parametrize(("activation", "shape"), CASES)
def test_body_is_the_channel_wise_divergence_outside_of_the_band(activation, shape):
    student, teacher = pair(shape)
    masks = boxes(shape, activation)
    band, each = reference_band(masks, 3), []
    for index in np.ndindex(*shape[:2]):
        body = band[index] == 0
        s, t = (softmax(z[index].numpy()[body] / 2) for z in (student, teacher))
        each.append(rel_entr(t, s).sum())
    student.requires_grad_()
    loss = BodyKL(3, 2.0, activation)(student, teacher, torch.tensor(masks))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(4 * np.mean(each), rel=1e-10)
    assert not student.grad[torch.tensor(band) == 1].any()
    assert student.grad[torch.tensor(band) == 0].abs().max() > 0


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize(("activation", "shape"), [case.values for case in CASES])
def test_without_a_boundary(activation, shape, value):
    student, teacher = pair(shape)
    label = torch.full((shape[0], 1, *shape[2:]) if activation == "softmax" else shape, value)
    student.requires_grad_()
    weighted = BoundaryKL(temperature=2.0, activation=activation)(student, teacher, label)
    edge = EdgeKL(temperature=2.0, activation=activation)(student, teacher, label)
    body = BodyKL(temperature=2.0, activation=activation)(student, teacher, label)
    torch.testing.assert_close(weighted, LogitKL(2.0, activation)(student, teacher))
    torch.testing.assert_close(body, ChannelWiseKL(2.0)(student, teacher))
    assert float(edge.detach()) == 0.0
    (weighted + edge + body).backward()
    assert torch.isfinite(student.grad).all()


def test_nothing_but_boundary():
    # (1, 1, 3, 3): the band of the middle pixel is the whole image
    label = torch.zeros(1, 1, 3, 3)
    label[..., 1, 1] = 1
    student, teacher = (z.float() for z in pair((1, 1, 3, 3)))
    student.requires_grad_()
    assert boundary_band(label, 3).all()
    body = BodyKL(kernel_size=3)(student, teacher, label)
    body.backward()
    assert float(body.detach()) == 0.0
    assert not student.grad.any()
    torch.testing.assert_close(EdgeKL(3, 2.0)(student, teacher, label), LogitKL(2.0)(student, teacher))


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("spatial", [(12, 9), (8, 9, 7)])
def test_class_numbers_are_as_good_as_masks(term, spatial):
    student, teacher = pair((2, 3, *spatial))
    masks = torch.tensor(boxes((2, 3, *spatial), "softmax"))
    classes, loss = masks.argmax(dim=1, keepdim=True), term(activation="softmax")
    assert float(loss(student, teacher, classes)) == float(loss(student, teacher, masks))


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize(("activation", "shape"), [(None, (1, 1, 5, 4)), ("softmax", (1, 2, 4, 3, 3))])
def test_gradients(term, activation, shape):
    student, teacher = pair(shape)
    label = torch.zeros(1, 1, *shape[2:])
    label[:, :, 2:] = 1
    loss = term(kernel_size=3, activation=activation)
    assert torch.autograd.gradcheck(lambda z: loss(z, teacher, label), student.requires_grad_())


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16, torch.float32])
def test_finite_for_huge_logits(term, half):
    label = torch.tensor(boxes((1, 1, 12, 12), None))
    teacher = (1e4 * (label - 0.5)).to(half)
    student = (-teacher).requires_grad_()
    loss = term()(student, teacher, label)
    loss.backward()
    assert loss.dtype is torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 4}, "kernel_size must be odd and at least 3 pixels, got 4"),
        ({"kernel_size": 1}, "kernel_size must be odd and at least 3 pixels, got 1"),
        ({"temperature": -1.0}, "temperature must be positive, got -1"),
        ({"activation": "none"}, "activation must be 'sigmoid' or 'softmax', got 'none'"),
    ],
)
def test_arguments_out_of_range(term, arguments, message):
    with pytest.raises(ValueError, match=message):
        term(**arguments)


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_boundary_weight_out_of_range(weight):
    with pytest.raises(ValueError, match="boundary_weight must be finite and not negative"):
        BoundaryKL(weight)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize(
    ("activation", "student", "teacher", "label", "message"),
    [
        (None, (1, 1, 4, 4), (1, 1, 4, 1), (1, 1, 4, 4), "student logits .* and teacher logits .* differ"),
        (None, (1, 1, 4, 4), (1, 1, 4, 4), (1, 4, 4), "student logits .* and label .* differ"),
        (None, (1, 3, 4, 4), (1, 3, 4, 4), (1, 3, 4, 4), "have 3 channels: set `activation`"),
        ("softmax", (1, 1, 4, 4), (1, 1, 4, 4), (1, 1, 4, 4), "one channel, whose softmax is 1 everywhere"),
        ("softmax", (2, 3), (2, 3), (2, 1), "must be .* one to three spatial axes"),
    ],
)
def test_shapes_that_do_not_fit(term, activation, student, teacher, label, message):
    with pytest.raises(ValueError, match=message):
        term(activation=activation)(torch.zeros(student), torch.zeros(teacher), torch.zeros(label))
