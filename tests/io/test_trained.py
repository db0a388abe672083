"""Weights and settings that belong together, and those that do not."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch

from monai_kd.io.checksum import file_sha256
from monai_kd.io.trained import begin_settings, read_trained, save_trained


def weights(number: int) -> dict[str, torch.Tensor]:
    return {"number": torch.full((100,), float(number))}


def run(folder: Path, *numbers: int) -> Path:
    """A run whose settings are its first number."""
    settings = {"run": numbers[0]}
    begin_settings(settings, folder / "model.pt")
    for number in numbers:
        save_trained(weights(number), folder / "model.pt", settings)
    return folder / "model.pt"


def test_settings_name_their_weights(tmp_path):
    model = run(tmp_path, 1, 2)
    assert read_trained(model) == {"run": 1, "weights_sha256": file_sha256(model)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "settings.json"]


def test_only_the_weights_before_are_kept_in_mind(tmp_path):
    content = json.loads((run(tmp_path, *range(5)).parent / "settings.json").read_text())
    assert set(content) == {"run", "weights_sha256", "previous"}
    assert set(content["previous"]) == {"run", "weights_sha256"}


@pytest.mark.parametrize("copied", ["model.pt", "settings.json"])
def test_files_of_two_runs(tmp_path, copied):
    one, other = run(tmp_path / "one", 1), run(tmp_path / "other", 2)
    (one.parent / copied).write_bytes((other.parent / copied).read_bytes())
    said = (
        rf"^{one.parent}/settings\.json belongs to other weights than {one}: .*{file_sha256(one)[:12]}.* move settings"
    )
    with pytest.raises(ValueError, match=said):
        read_trained(one)


def test_weights_beside_a_run_that_has_saved_none(tmp_path):
    begin_settings({"run": 1}, tmp_path / "model.pt")
    torch.save(weights(1), tmp_path / "model.pt")
    with pytest.raises(ValueError, match="it names the SHA-256 of none yet"):
        read_trained(tmp_path / "model.pt")


def test_a_copy_of_both_fits_under_any_name(tmp_path):
    model = run(tmp_path / "run", 1, 2)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "student.pt").write_bytes(model.read_bytes())
    (tmp_path / "copy" / "settings.json").write_bytes((model.parent / "settings.json").read_bytes())
    assert read_trained(tmp_path / "copy" / "student.pt") == read_trained(model)


def test_settings_of_an_earlier_version_are_taken_with_a_warning(tmp_path, caplog):
    torch.save(weights(1), tmp_path / "model.pt")
    (tmp_path / "settings.json").write_text('{"run": 1}')
    assert read_trained(tmp_path / "model.pt") == {"run": 1}
    assert f"whether it belongs to {tmp_path / 'model.pt'} is not checked" in caplog.text


def test_weights_of_an_earlier_version_that_a_run_goes_on_from(tmp_path):
    torch.save(weights(1), tmp_path / "model.pt")
    (tmp_path / "settings.json").write_text('{"run": 1}')
    begin_settings({"run": 2}, tmp_path / "model.pt")
    assert read_trained(tmp_path / "model.pt") == {"run": 1, "weights_sha256": file_sha256(tmp_path / "model.pt")}


def test_weights_without_settings(tmp_path):
    torch.save(weights(1), tmp_path / "model.pt")
    assert read_trained(tmp_path / "model.pt") is None
    begin_settings({"run": 2}, tmp_path / "model.pt")
    assert read_trained(tmp_path / "model.pt") is None


def test_settings_without_weights(tmp_path):
    begin_settings({"run": 1}, tmp_path / "model.pt")
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*model\.pt; train first"):
        read_trained(tmp_path / "model.pt")


def test_weights_that_were_changed_by_hand_do_not_end_a_run(tmp_path, caplog):
    model = run(tmp_path, 1, 2)
    torch.save(weights(9), model)
    save_trained(weights(3), model, {"run": 1})
    assert "belongs to other weights" in caplog.text
    assert read_trained(model)["run"] == 1
    assert "previous" not in json.loads((tmp_path / "settings.json").read_text())


def test_a_reader_finds_a_pair_at_any_time(tmp_path):
    model, done, failed = run(tmp_path, 0), threading.Event(), []

    def publish() -> None:
        for number in range(150):
            save_trained(weights(number), model, {"run": number})
        done.set()

    writer = threading.Thread(target=publish)
    writer.start()
    while not done.is_set():
        try:
            assert read_trained(model)["run"] in range(150)
        except ValueError as error:
            failed.append(error)
    writer.join()
    assert not failed
