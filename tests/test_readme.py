"""The README's example of the Python API, run as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch.utils.data import DataLoader

README = Path(__file__).parents[1] / "README.md"


def test_the_example_trains_a_student() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len([line for line in code.splitlines() if line and not line.startswith(("import", "from"))]) <= 12
    torch.manual_seed(0)
    item = {"image": torch.rand(1, 64, 64), "label": (torch.rand(1, 64, 64) > 0.5).float()}
    names: dict = {"loader": DataLoader([item] * 4, batch_size=2)}
    exec(compile(code, str(README), "exec"), names)
    student = names["student"].state_dict()
    assert names["trainer"].state.epoch == 1
    names.clear()
    torch.manual_seed(0)
    # What the same lines build, and do not train.
    untrained: dict = {"loader": None}
    exec(compile(code.rsplit("\n", 2)[0], str(README), "exec"), untrained)
    moved = [name for name, value in untrained["student"].state_dict().items() if not torch.equal(value, student[name])]
    assert any(name.startswith("final_conv") for name in moved)
