"""The preset of a run that names none."""

from __future__ import annotations

import pytest
import torch

from monai_kd.bundle import preset


@pytest.mark.parametrize(
    ("dataset_dir", "given", "gpu", "name", "warned"),
    [
        ("data", False, False, "full", True),
        ("data", False, True, "full", False),
        (None, False, False, "demo", False),
        # slices that are labelled one by one
        (None, True, False, "labelling", False),
    ],
)
def test_the_full_one_without_a_gpu_names_that_for_a_trial(dataset_dir, given, gpu, name, warned, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert preset(dataset_dir, given) == name
    assert ("give --preset demo" in caplog.text) is warned
