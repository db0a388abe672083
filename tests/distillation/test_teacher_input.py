"""The teacher sees what it was trained to see: against the conversion done by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from monai.transforms import NormalizeIntensity
from torch import nn

from monai_kd.distillation import AdaptInput, Distiller, TeacherStore
from monai_kd.distillation.store import fingerprint

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def raw(*shape: int) -> torch.Tensor:
    """An image before normalisation, in [0, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def normalised(image: torch.Tensor, mean, std) -> torch.Tensor:
    """By MONAI, image by image."""
    normalise = NormalizeIntensity(list(mean), list(std), channel_wise=True)
    return torch.stack([torch.as_tensor(normalise(each)) for each in image])


@pytest.mark.parametrize(
    ("kwargs", "expected"),
    [
        # Grey to the three channels of ImageNet, at 224 pixels.
        (
            {"mean_from": 0.5, "std_from": 0.25, "mean_to": MEAN, "std_to": STD, "channels": [0, 0, 0], "size": 24},
            lambda image: normalised(F.interpolate(image, (24, 24), mode="bilinear").repeat(1, 3, 1, 1), MEAN, STD),
        ),
        # A size an axis, nothing else.
        ({"size": [12, 40]}, lambda image: F.interpolate((image - 0.5) / 0.25, (12, 40), mode="bilinear")),
        # Only the normalisation.
        ({"mean_from": [0.5], "std_from": 0.25, "mean_to": 0.1, "std_to": [2.0]}, lambda image: (image - 0.1) / 2),
    ],
)
def test_grey_slices(kwargs, expected):
    image = raw(2, 1, 16, 20)
    torch.testing.assert_close(AdaptInput(**kwargs)((image - 0.5) / 0.25), expected(image))


def test_channels_are_selected_with_their_normalisation():
    image = raw(2, 3, 8, 8)
    adapt = AdaptInput(mean_from=MEAN, std_from=STD, mean_to=[0.0, 1.0], std_to=[1.0, 2.0], channels=[2, 0])
    expected = torch.stack([image[:, 2], (image[:, 0] - 1) / 2], dim=1)
    torch.testing.assert_close(adapt(normalised(image, MEAN, STD)), expected)


def test_volume_is_resized_in_plane():
    volume = raw(2, 2, 8, 8, 5)
    expected = torch.stack([F.interpolate(volume[..., i], (12, 12), mode="bilinear") for i in range(5)], dim=-1)
    torch.testing.assert_close(AdaptInput(size=12)(volume), expected)
    assert AdaptInput(size=[12, 10, 4])(volume).shape == (2, 2, 12, 10, 4)


@pytest.mark.parametrize(
    "kwargs", [{}, {"mean_from": MEAN, "std_from": STD, "mean_to": MEAN, "std_to": STD, "size": 8}]
)
def test_the_very_image_where_nothing_differs(kwargs):
    image = raw(2, 3, 8, 8)
    assert AdaptInput(**kwargs)(image) is image


def test_has_no_state():
    assert AdaptInput(mean_to=MEAN).state_dict() == {}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"std_from": 0.0}, "std_from and std_to must be positive"),
        ({"std_to": [1.0, -1.0]}, "std_from and std_to must be positive"),
        ({"size": 0}, "size must be positive, got 0"),
        ({"channels": []}, "channels must be numbers from 0, at least one"),
        ({"channels": [-1]}, "channels must be numbers from 0"),
        (
            {"mean_from": MEAN, "std_from": [1.0, 1.0]},
            "mean_from .* and std_from .* one number, or one for each channel",
        ),
        ({"mean_to": MEAN, "channels": [0]}, r"mean_to .* one for each channel in channels \[0\]"),
    ],
)
def test_wrong_values(kwargs, message):
    with pytest.raises(ValueError, match=message):
        AdaptInput(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"channels": [0, 1]}, r"channels \[0, 1\] of an image with 1"),
        ({"mean_from": MEAN}, "of 3 channels, the student's image has 1"),
        ({"mean_to": MEAN}, "of 3 channels, the teacher's image has 1"),
        ({"size": [8, 8, 8]}, "size .* for an image with 2 spatial axes"),
    ],
)
def test_images_that_do_not_fit(kwargs, message):
    with pytest.raises(ValueError, match=message):
        AdaptInput(**kwargs)(raw(1, 1, 8, 8))


def teacher(channels: int = 3) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(channels, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 2, 1))


def student() -> nn.Module:
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))


GREY = {"mean_from": 0.5, "std_from": 0.25, "mean_to": MEAN, "std_to": STD, "channels": [0, 0, 0], "size": 24}


def test_distiller_gives_each_its_input():
    adapt, image, net = AdaptInput(**GREY), raw(2, 1, 16, 16), teacher()
    d = Distiller(student(), net, {"x": "0"}, {"x": "0"}, teacher_input=adapt)
    found = d(image)
    with torch.no_grad():
        seen = adapt(image)
        torch.testing.assert_close(found["teacher_features"]["x"], net[0](seen))
        # Logits on the student's grid.
        expected = F.interpolate(net(seen), (16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(found["teacher"], expected)
    assert found["student"].shape == (2, 2, 16, 16)
    assert list(d.state_dict()) == list(student().state_dict())
    assert d.teachers == {"teacher": net}


def test_one_input_a_teacher():
    image, one, three = raw(2, 1, 16, 16), teacher(1), teacher()
    d = Distiller(student(), {"one": one, "three": three}, teacher_input={"three": AdaptInput(**GREY)})
    found = d(image)
    assert torch.equal(found["teacher.one"], one(image))
    assert found["teacher.three"].shape == (2, 2, 16, 16)
    with pytest.raises(ValueError, match="teacher_input name four; teachers are one, three"):
        Distiller(student(), {"one": one, "three": three}, teacher_input={"four": AdaptInput()})


def test_nothing_changes_where_the_inputs_agree():
    image, net = raw(2, 1, 16, 16), teacher(1)
    plain, adapted = Distiller(student(), net), Distiller(student(), net, teacher_input=AdaptInput())
    assert torch.equal(plain(image)["teacher"], adapted(image)["teacher"])


def test_classes_are_not_resized():
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 3))
    d = Distiller(net, nn.Sequential(nn.Flatten(), nn.Linear(576, 3)), teacher_input=AdaptInput(size=24))
    assert d(raw(2, 1, 16, 16))["teacher"].shape == (2, 3)


def test_store_tells_inputs_apart(tmp_path):
    # The same teacher and the same image, but the teacher sees another one.
    image, net = raw(2, 1, 16, 16), teacher(1)
    for adapt in (None, AdaptInput(mean_to=0.3), AdaptInput(mean_to=0.4), AdaptInput(size=8)):
        direct = Distiller(student(), net, teacher_input=adapt)(image)["teacher"]
        for _ in range(2):
            stored = Distiller(student(), net, store=TeacherStore(tmp_path), teacher_input=adapt)(image)["teacher"]
            # Stored in half precision.
            torch.testing.assert_close(stored, direct, rtol=2**-11, atol=1e-6)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_transform_of_each_image_comes_last():
    torch.manual_seed(0)
    image = torch.rand(2, 1, 8, 8)
    normalise = NormalizeIntensity(channel_wise=True)
    adapt = AdaptInput(mean_from=0.5, std_from=0.25, channels=[0, 0, 0], size=4, transform=normalise)
    found = adapt((image - 0.5) / 0.25)
    small = F.interpolate(image, size=(4, 4), mode="bilinear")
    expected = (small - small.mean((2, 3), keepdim=True)) / small.std((2, 3), keepdim=True, correction=0)
    torch.testing.assert_close(found, expected.expand(2, 3, 4, 4), atol=1e-5, rtol=1e-5)
    assert type(found) is torch.Tensor


def test_a_transform_keeps_the_precision_and_identifies_the_teacher():
    half = AdaptInput(transform=NormalizeIntensity())(torch.rand(1, 1, 4, 4, dtype=torch.bfloat16))
    assert half.dtype is torch.bfloat16
    one, other = (fingerprint(AdaptInput(transform=NormalizeIntensity(), told=told), {}) for told in ("a", "b"))
    assert one != other
