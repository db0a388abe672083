"""Which values of the configs are checked before anything is built from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import CLASSIFICATION, OVERRIDES, config, prepare

from monai_kd.config.checks import _CHECKS


@pytest.mark.parametrize("bundle", OVERRIDES)
@pytest.mark.parametrize("name", ["train", "evaluate", "inference"])
def test_configs_have_checked_what_can_be_checked(bundle, name):
    content = json.loads(Path(config(bundle, name)[0]).read_text())
    # Which folds there are is known to the data list alone; features are looked up in the network's definition.
    assert set(content) & set(_CHECKS) - {"fold", "features"} <= set(content["settings"])


@pytest.mark.parametrize("bundle", CLASSIFICATION)
def test_image_size_of_efficientnet_b3_is_taken_by_the_config(bundle, class_dataset, tmp_path):
    workflow = prepare(bundle, class_dataset, tmp_path, image_size=300)
    assert workflow.parser.get_parsed_content("image_size") == 300
