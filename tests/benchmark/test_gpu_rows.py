"""Rows of a GPU, on a CPU."""

import numpy as np
import torch
from torch import nn

from monai_kd.benchmark.gpus import gpu_rows
from monai_kd.benchmark.options import Options


def test_rows():
    sizes = []

    class Recorded(nn.Conv2d):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            output = super().forward(image)
            sizes.append((len(image), output.dtype))
            return output

    image = np.ones((1, 3, 16, 16), np.float32)
    rows = list(gpu_rows("student", Recorded(3, 1, 3).eval(), image, Options(repeat=1, tiny=True), "cpu"))
    assert [row.name for row in rows] == [
        f"student on a GPU, {slices}: float32, eager ÷ {kind} autocast"
        for slices in ("one slice", "16 slices")
        for kind in ("bfloat16", "float16")
    ]
    assert set(sizes) == {(n, dtype) for n in (1, 16) for dtype in (torch.float32, torch.bfloat16, torch.float16)}
    for row in rows:
        first, second = row.measured.values()
        assert row.ratio == first / second > 0
