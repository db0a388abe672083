"""Which values of the configs are checked before anything is built from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from monai.bundle import create_workflow
from tiny import CLASSIFICATION, OVERRIDES, cause, config, prepare

from monai_kd.config.checks import _CHECKS


@pytest.mark.parametrize("bundle", OVERRIDES)
@pytest.mark.parametrize("name", ["train", "evaluate", "inference"])
def test_configs_have_checked_what_can_be_checked(bundle, name):
    content = json.loads(Path(config(bundle, name)[0]).read_text())
    # Which folds there are is known to the data list alone; features are looked up in the network's definition; the
    # others are checked where they are written, see below.
    apart = {"fold", "features", "cache_rate", "teacher_store_limit", "augmentation", "batch_augmentation"}
    assert set(content) & set(_CHECKS) - apart <= set(content["settings"])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cache_rate": 3}, "cache_rate must be a number from 0 to 1, got 3"),
        ({"teacher_store_limit": "lots"}, "teacher_store_limit must be a number from 0, got 'lots'"),
        ({"augmentation": {"_target_": "RandFlipd"}}, "augmentation must be a list of transforms"),
        ({"cache_rate": "$0.5", "augmentation": "$[]", "std": ["$1", 1, 1]}, None),
    ],
)
def test_values_of_a_file_are_checked_too(values, said, class_dataset, tmp_path):
    (tmp_path / "more.json").write_text(json.dumps(values))
    files = [*config("seg_student", "train"), str(tmp_path / "more.json")]
    given = {"dataset_dir": str(class_dataset), "recipe": "none", "device": "cpu", "logging_file": False}
    given |= {"config_file": files, "workflow_type": "train", "output_dir": str(tmp_path / "run")}
    if said is None:
        assert create_workflow(**given).parser.get_parsed_content("cache_rate") == 0.5
        return
    with pytest.raises((RuntimeError, ValueError)) as caught:
        create_workflow(**given)
    assert said in cause(caught.value)


@pytest.mark.parametrize("bundle", CLASSIFICATION)
def test_image_size_of_efficientnet_b3_is_taken_by_the_config(bundle, class_dataset, tmp_path):
    workflow = prepare(bundle, class_dataset, tmp_path, image_size=300)
    assert workflow.parser.get_parsed_content("image_size") == 300
