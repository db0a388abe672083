"""Patients and images on both sides of a split."""

from __future__ import annotations

import json
import logging

import pytest

from monai_kd.data import find_leaks, load_fold


def entry(folder, name: str, patient: str, group: str, content: bytes | None = None, fold: int = 0) -> dict:
    (folder / name).write_bytes(name.encode() if content is None else content)
    place = {"image": str(folder / name), "patient": patient, "group": group, "fold": fold}
    return {**place, "class": 0, "source": name}


def test_patients_and_groups(tmp_path):
    trained = [entry(tmp_path, f"t{n}", f"P{n}", f"P{n}") for n in range(4)]
    held_out = [
        entry(tmp_path, "same", "P1", "P1"),
        entry(tmp_path, "same_again", "P1", "P1"),
        entry(tmp_path, "same_group_alone", "P2b", "P2"),
        entry(tmp_path, "same_patient_alone", "P3", "other"),
        entry(tmp_path, "new", "P9", "P9"),
    ]
    (found,) = find_leaks(trained, held_out)
    assert found.startswith("4 of the 5 slices held out are of 3 patients or groups (P1, P2, other) with")
    assert find_leaks(trained, held_out[-1:]) == []


@pytest.mark.parametrize("unknown", ["", None])
def test_unknown_patients_are_not_one_patient(tmp_path, unknown):
    entries = [entry(tmp_path, name, unknown, unknown) for name in "ab"]
    assert find_leaks(entries[:1], entries[1:]) == []


def test_images_that_are_equal(tmp_path):
    trained = [entry(tmp_path, "a", "1", "1", b"12345"), entry(tmp_path, "b", "2", "2", b"67890")]
    held_out = [
        entry(tmp_path, "c", "3", "3", b"67890"),
        entry(tmp_path, "d", "4", "4", b"67891"),
        {**trained[0], "patient": "5", "group": "5"},
    ]
    (found,) = find_leaks(trained, held_out)
    assert found == "2 of the 3 slices held out have images that are in the training part too (a, c is b)."


def test_a_list_that_leaks_is_warned_of_when_it_trains(tmp_path, caplog):
    entries = [entry(tmp_path, f"{n}.png", f"P{n % 4}", f"P{n % 4}", fold=n % 3) for n in range(12)]
    for each in entries:
        each["image"] = each["image"].removeprefix(f"{tmp_path}/")
    (tmp_path / "datalist.json").write_text(json.dumps({"training": entries}))
    with caplog.at_level(logging.WARNING):
        load_fold(tmp_path, 0, "validation", keys=["image"])
        assert caplog.text == ""
        load_fold(tmp_path, 0, "training", [1], keys=["image"])
    (record,) = caplog.records
    # fold 1 is held out too
    assert record.getMessage().startswith("8 of the 8 slices held out are of 4 patients or groups (P0, P1, P3, …) with")
    assert "leak" in record.getMessage()


def test_patients_kept_together_are_no_leak(disc_dataset, caplog):
    with caplog.at_level(logging.WARNING):
        load_fold(disc_dataset, 0, "training")
    assert caplog.text == ""
