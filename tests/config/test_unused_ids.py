"""Values of a file that is laid over a config, and that nothing refers to."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from monai_kd.config import unused_ids

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "bundles" / "seg_student" / "configs"
# Which that of classes adds to.
BELOW = [ROOT / "docs" / "experiments" / name for name in ("nnunet.json", "all_folds.json")]
LAID_OVER = [
    [bundle / "configs" / "train.json", *between, *(BELOW if file.name == "nnunet_cls.json" else []), file]
    for bundle in sorted((ROOT / "bundles").iterdir())
    for file in (
        *itertools.chain.from_iterable((bundle / "configs" / kind).glob("*.json") for kind in ("students", "teachers")),
        bundle / "configs" / "multi_gpu_train.json",
        *sorted((ROOT / "docs" / "experiments").glob("*.json")),
    )
    for between in ([], [bundle / "configs" / "volumes.json"])
    if (bundle / "configs" / "train.json").is_file() and all(each.is_file() for each in between)
    # Of terms that only this bundle has, and of students that may start from pretrained weights.
    if (file.name != "fixed_target.json" or bundle.name == "seg_student") and file.name != "random_weights.json"
]
LAID_OVER.append(
    [
        CONFIGS / "train.json",
        CONFIGS / "students" / "timm_lite0_pretrained.json",
        BELOW[0].parent / "random_weights.json",
    ]
)


def unused(*files: Path) -> list[str]:
    known = ConfigParser()
    known.read_config([str(file) for file in files])
    return unused_ids([str(file) for file in files], known)


@pytest.mark.parametrize("files", LAID_OVER, ids=lambda files: "-".join(file.stem for file in files))
def test_files_of_this_project_have_none(files):
    assert unused(*files) == []


def test_a_misspelt_value_is_named_with_the_nearest_one(tmp_path):
    (tmp_path / "own.json").write_text(json.dumps({"spacin": [1, 1, 1], "overlap": 0.3, "settings#mine": 3}))
    (said,) = unused(CONFIGS / "train.json", CONFIGS / "volumes.json", tmp_path / "own.json")
    assert f"spacin in {tmp_path / 'own.json'} has NO effect: nothing refers to it (did you mean --spacing" in said


def test_what_is_referred_to_or_is_a_run_of_its_own_is_used(tmp_path):
    own = {
        "width": 3, "features": "$[@width] * 6", "part": {"a": 1}, "taps": "$dict(x=@part#a)",
        "look": ["$print(1)"], "_meta_": {}, "entry": 5, "epochs": "$int(__import__('os').environ['entry'])",
    }  # fmt: skip
    (tmp_path / "own.json").write_text(json.dumps(own))
    assert unused(CONFIGS / "train.json", tmp_path / "own.json") == []
    # A later file may refer to what an earlier one brings.
    (tmp_path / "first.json").write_text('{"width": 3}')
    (tmp_path / "second.json").write_text('{"features": "$[@width] * 6"}')
    assert unused(CONFIGS / "train.json", tmp_path / "first.json", tmp_path / "second.json") == []
    assert len(unused(CONFIGS / "train.json", tmp_path / "first.json")) == 1
