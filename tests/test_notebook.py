"""The notebook of the Python API, run cell by cell."""

from __future__ import annotations

import json
from pathlib import Path

import torch

NOTEBOOK = Path(__file__).parents[1] / "docs" / "examples" / "distillation.ipynb"


def test_the_notebook_distils() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    names: dict = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            exec(compile("".join(cell["source"]), str(NOTEBOOK), "exec"), names)
    assert set(names["report"].weighted) == {"supervised", "logit", "feature", "attention"}
    for name, value in names["student"].state_dict().items():
        assert torch.equal(value, names["alone"].state_dict()[name])
    assert names["dice"](names["alone"]) > 0.05  # an untrained student finds nothing: 0
