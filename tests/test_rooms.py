"""The rooms of the house stand on each other: no import runs up."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "monai_kd"
# From low to high; those of one line may not import each other.
FLOORS = [
    ["io"],
    ["networks", "losses"],
    ["config"],
    ["distillation"],
    ["engines"],
    ["data"],
    ["transforms"],
    ["metrics"],
    ["plots"],
    ["handlers"],
    ["inference", "evaluation"],
    ["bundle"],
    ["pages"],
    ["report", "serve", "label", "export", "demo", "taps", "archive"],
    ["benchmark"],
    ["__main__"],
]
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
# Names without a room: the package's own version, whether an extra is installed, and what a name may have meant.
BELOW_ALL = {"__init__", "extras", "near_names", "__version__"}


def _room(path: Path) -> str:
    part = path.relative_to(PACKAGE).parts[0]
    return part.removesuffix(".py")


def _imported(path: Path) -> list[tuple[int, str]]:
    """Rooms that a module imports from, with the line."""
    package = ["monai_kd", *path.relative_to(PACKAGE).parent.parts]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        found += [(node.lineno, name.split(".")[1]) for name in names if name.startswith("monai_kd.")]
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_imports_upward(path: Path) -> None:
    room = _room(path)
    if room in BELOW_ALL:
        assert not [name for _, name in _imported(path) if name not in BELOW_ALL]
        return
    assert room in HEIGHT, f"{room} has no floor: add it to FLOORS and to CONTRIBUTING.md"
    for line, other in _imported(path):
        if other in BELOW_ALL or other == room:
            continue
        assert HEIGHT[other] < HEIGHT[room], f"{path.relative_to(PACKAGE)}:{line} imports from {other}, which is above"


def test_data_prep_knows_nothing_of_monai_kd() -> None:
    for path in (PACKAGE.parent / "data_prep").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "monai_kd" not in text or path.name in ("convert.py",), path
        assert "import torch" not in text, path


def test_no_two_test_modules_have_one_name() -> None:
    """Without packages among the tests, pytest imports the first one for both, and ends with an error."""
    names = [path.name for path in Path(__file__).parent.rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
