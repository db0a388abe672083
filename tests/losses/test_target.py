"""Labels as masks of the logits' channels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_kd.losses.target import _compared, target_masks


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
@pytest.mark.parametrize("spatial", [(5,), (4, 5), (3, 4, 5)])
def test_class_numbers_become_masks(spatial, dtype):
    label = torch.randint(4, (2, 1, *spatial), generator=torch.Generator().manual_seed(0)).to(dtype)
    found = target_masks(label, torch.zeros(2, 4, *spatial), "softmax")
    expected = np.concatenate([label.numpy() == c for c in range(4)], axis=1)
    assert found.dtype is torch.float32
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32])
def test_masks_are_taken_as_they_are(activation, dtype):
    # Overlapping masks, as of nested regions, are no classes: (B, C, H, W)
    label = torch.ones(1, 3, 4, 4).to(dtype)
    assert torch.equal(target_masks(label, torch.zeros(1, 3, 4, 4), activation), torch.ones(1, 3, 4, 4))


def test_half_precision_of_the_logits_is_not_that_of_the_masks():
    assert target_masks(torch.ones(1, 1, 4), torch.zeros(1, 1, 4).half(), "sigmoid").dtype is torch.float32


def test_compared_without_a_question_to_the_device():
    label = torch.tensor([[[2.0, 0, 1, 0]]])
    assert torch.equal(_compared(label, 3, torch.float32), target_masks(label, torch.zeros(1, 3, 4), "softmax"))
    assert _compared(torch.tensor([[[2.0, 3.0, 0.5]]]), 3, torch.float32).isnan().any(dim=1).tolist() == [
        [False, True, True]
    ]
