"""Reading the settings beside a checkpoint."""

from __future__ import annotations

import pytest

from monai_kd.bundle import trained_settings
from monai_kd.io.atomic import write_json
from monai_kd.io.trained import read_trained


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ("[1, 2]", "not an object with names and values"), ("null", "not an object")],
)
def test_settings_that_are_none(tmp_path, content, message):
    (tmp_path / "model.pt").write_bytes(b"")
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_trained(tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"settings\.json is .* restore it"):
        trained_settings(tmp_path / "model.pt")


def test_numbers_that_json_has_no_word_for_are_refused(tmp_path):
    (tmp_path / "a.json").write_text("earlier")
    with pytest.raises(ValueError, match="JSON"):
        write_json({"mean": float("nan")}, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == "earlier"
    assert len(list(tmp_path.iterdir())) == 1
