"""The configs stay short enough to be read in one go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import BUNDLES

LONGEST = {"seg_student": 200, "cls_student": 200, "seg_teacher": 150, "cls_teacher": 150}


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def of_bundles() -> list[Path]:
    """All configs, also those laid over others; ``metadata.json`` describes a bundle and configures nothing."""
    return [path for path in sorted(BUNDLES.rglob("configs/**/*.json")) if path.name != "metadata.json"]


@pytest.mark.parametrize("bundle", LONGEST)
def test_lines_of_the_training(bundle):
    assert len(lines(BUNDLES / bundle / "configs" / "train.json")) <= LONGEST[bundle]


def test_lines_of_all_bundles():
    assert {path.relative_to(BUNDLES).parts[0] for path in of_bundles()} == set(LONGEST)
    assert sum(len(lines(path)) for path in of_bundles()) <= 1613


@pytest.mark.parametrize("path", sorted(BUNDLES.rglob("configs/**/*.json")), ids=lambda p: str(p.relative_to(BUNDLES)))
def test_lines_are_no_wider_than_code(path):
    # Texts of metadata.json are whole paragraphs.
    assert path.name == "metadata.json" or max(map(len, lines(path))) <= 120


@pytest.mark.parametrize("path", sorted(BUNDLES.rglob("configs/**/*.json")), ids=lambda p: str(p.relative_to(BUNDLES)))
def test_no_key_is_there_twice(path):
    """JSON takes the last one without a word."""

    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        keys = [key for key, _ in pairs]
        assert len(keys) == len(set(keys)), sorted(key for key in keys if keys.count(key) > 1)
        return dict(pairs)

    json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
