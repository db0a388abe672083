"""What the demo does between the bundles."""

from pathlib import Path

import pytest

from data_prep.phantom import write_phantoms
from monai_kd import demo


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """No training, and phantoms of two small slices."""
    monkeypatch.setattr(demo, "_bundle", lambda *arguments, **paths: None)
    monkeypatch.setattr(demo, "NEW_SLICES", 2)
    monkeypatch.setattr(
        demo,
        "write_phantoms",
        lambda dst, slices, seed: write_phantoms(dst, slices, seed, size=64, workers=1, progress=False),
    )


def test_new_slices_that_an_interrupted_demo_left_are_completed(tmp_path: Path) -> None:
    assert demo.run_demo(tmp_path) == 0
    (tmp_path / "new_slices/2.mat").unlink()
    assert demo.run_demo(tmp_path) == 0
    assert (tmp_path / "new_slices/2.mat").exists()


def test_a_folder_with_other_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new_slices").mkdir()
    (tmp_path / "new_slices/mine.mat").write_text("mine")
    assert demo.run_demo(tmp_path) == 1
    assert "error: " in (said := capsys.readouterr().err)
    assert "new_slices is not empty and holds no phantoms: choose another folder" in said
