"""From logits to what metrics see, against equations in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import Activationsd, AsDiscreted, Compose

from monai_kd.transforms import class_postprocessing, mask_postprocessing

LOGITS = torch.tensor(np.random.default_rng(0).normal(0, 3, (4, 6, 5)), dtype=torch.float32)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.9])
def test_masks_of_their_own(channels, threshold):
    label = (LOGITS[:channels] > 1).float()
    found = mask_postprocessing("sigmoid", channels, threshold)({"pred": LOGITS[:channels], "label": label})
    expected = 1 / (1 + np.exp(-LOGITS[:channels].numpy().astype(np.float64))) >= threshold
    np.testing.assert_array_equal(found["pred"].numpy(), expected)
    assert torch.equal(found["label"], label)


def test_one_mask_as_in_version_0_1():
    old = Compose([Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5)])
    data = {"pred": LOGITS[:1], "label": torch.ones(1, 6, 5)}
    assert torch.equal(mask_postprocessing("sigmoid")(dict(data))["pred"], old(dict(data))["pred"])


def test_classes_that_exclude_each_other():
    label = torch.randint(0, 4, (1, 6, 5)).float()
    found = mask_postprocessing("softmax", 4)({"pred": LOGITS, "label": label})
    for key, numbers in (("pred", LOGITS.argmax(0)), ("label", label[0])):
        assert found[key].shape == (4, 6, 5)
        for number, mask in enumerate(found[key]):
            np.testing.assert_array_equal(mask.numpy(), numbers.numpy() == number)


@pytest.mark.parametrize("activation", ["relu", "Softmax", "", None])
def test_other_activations(activation):
    with pytest.raises(ValueError, match="activation must be sigmoid or softmax, got"):
        mask_postprocessing(activation)


@pytest.mark.parametrize("mixup", [False, True])
def test_classes(mixup):
    logits = torch.tensor([1.0, 3.0, 2.0])
    label = torch.tensor([0.2, 0.1, 0.7]) if mixup else 1
    found = class_postprocessing(mixup)({"pred": logits, "label": label})
    expected = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum()
    np.testing.assert_allclose(found["pred"].numpy(), expected, rtol=1e-6)
    assert found["label"] == (2 if mixup else 1)
