"""Several first trainings that are started at once make the phantoms once."""

from __future__ import annotations

import threading
from pathlib import Path

from locks import started_and_waiting

from data_prep import convert, phantom
from monai_kd.bundle import data


def test_the_second_run_waits_for_the_phantoms_of_the_first(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("MONAI_KD_HOME", str(tmp_path))
    made, begun, go_on = [], threading.Event(), threading.Event()

    def write_phantoms(folder: Path, **_options: object) -> None:
        made.append(folder)
        begun.set()
        assert go_on.wait(10)

    def written(_folder: Path, target: Path) -> None:
        target.mkdir()
        (target / "datalist.json").write_text("{}")

    monkeypatch.setattr(phantom, "write_phantoms", write_phantoms)
    monkeypatch.setattr(convert, "convert", written)
    found: list[str] = []

    def run() -> None:
        found.append(data.dataset_folder(None))

    first = threading.Thread(target=run)
    first.start()
    assert begun.wait(10)
    second = started_and_waiting(run, caplog)
    go_on.set()
    for each in (first, second):
        each.join(10)
    assert found == [str(data.phantom_folder() / "dataset")] * 2
    assert made == [data.phantom_folder() / "raw"]
