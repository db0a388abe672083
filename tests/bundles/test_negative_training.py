"""Training with slices without a tumour: taken out of slices, and listed."""

import hashlib
import json
import shutil

import pytest
from heads_folder import write_heads
from tiny import TINY_VIT, cause, prepare, settings_of, train

from monai_kd.bundle import Distillation

METRICS = {"val/dice_and_specificity", "val/dice", "val/specificity"}


def logged(folder) -> set[str]:
    return set((folder / "log.csv").read_text().splitlines()[0].split(","))


@pytest.mark.parametrize("bundle", ["seg_student", "seg_teacher"])
def test_tumours_taken_out(bundle, disc_dataset, tmp_path):
    more = {"recipe": "none"} if bundle == "seg_student" else {}
    train(bundle, disc_dataset, tmp_path, epochs=1, negative_probability=0.5, batch_dice=True, **more)
    assert logged(tmp_path) >= METRICS - {"val/specificity"}
    settings = settings_of(tmp_path)
    assert (settings["negative_probability"], settings["batch_dice"]) == (0.5, True)
    assert settings["best_epoch_by"] == "dice_and_specificity"


def test_a_teacher_that_is_trained_first_learns_from_negatives_too(disc_dataset, tmp_path):
    overrides = {"features": [4, 8, 8, 8, 16, 4], "epochs": 1, **TINY_VIT}
    train("seg_student", disc_dataset, tmp_path, epochs=1, negative_probability=0.5, teacher_overrides=overrides)
    (folder,) = tmp_path.glob("teacher-*")
    assert settings_of(folder)["negative_probability"] == 0.5


def test_slices_without_a_mask_are_trained_and_validated_on(disc_dataset, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(disc_dataset, data)
    content = json.loads((data / "datalist.json").read_text())
    for entry in content["training"][::2]:
        del entry["label"], entry["class"]
        entry["tumour"] = False
    (data / "datalist.json").write_text(json.dumps(content))
    train("seg_student", data, tmp_path / "model", epochs=1, recipe="none")
    assert logged(tmp_path / "model") >= METRICS
    assert settings_of(tmp_path / "model")["best_epoch_by"] == "dice_and_specificity"


def test_slices_of_another_folder_are_trained_on_by_student_and_teacher(disc_dataset, tmp_path, caplog):
    folder = write_heads(tmp_path / "heads")
    overrides = {"features": [4, 8, 8, 8, 16, 4], "epochs": 1, **TINY_VIT}
    run = tmp_path / "run"
    with caplog.at_level("INFO"):
        train("seg_student", disc_dataset, run, epochs=1, negatives_dir=str(folder), teacher_overrides=overrides)
    (teacher,) = run.glob("teacher-*")
    for each in (run, teacher):
        assert (each / settings_of(each)["negatives_dir"]).resolve() == folder.resolve()
    workflow = prepare("seg_student", disc_dataset, tmp_path / "other", recipe="none", negatives_dir=str(folder))
    workflow.initialize()
    trained, validated = (workflow.parser.get_parsed_content(f"{name}#dataset") for name in ("train", "validate"))
    heads = [number for number, entry in enumerate(trained.data) if not entry["tumour"]]
    assert len(heads) == len(json.loads((folder / "datalist.json").read_text())["training"])
    assert not any(trained[number]["label"].any() for number in heads)
    assert all("healthy" not in entry["image"] for entry in validated.data)
    workflow.finalize()


def test_what_a_run_stems_from_is_in_its_settings(disc_dataset, tmp_path):
    folder, first, second = write_heads(tmp_path / "heads"), tmp_path / "first", tmp_path / "second"
    train("seg_student", disc_dataset, first, epochs=1, recipe="none")
    values = {"epochs": 1, "recipe": "none", "negatives_dir": str(folder), "init_checkpoint": str(first / "model.pt")}
    train("seg_student", disc_dataset, second, **values)
    before, after = settings_of(first), settings_of(second)
    assert {"started_from", "negatives_sha256"}.isdisjoint(before)
    assert after["negatives_sha256"] == hashlib.sha256((folder / "datalist.json").read_bytes()).hexdigest()
    assert after["started_from"]["weights_sha256"] == before["weights_sha256"]
    assert after["started_from"]["recipe"] == "none"
    # Weights that are trained on elsewhere do not end a run; other negatives do.
    train("seg_student", disc_dataset, second, **{**values, "epochs": 2}, resume=True)
    (folder / "datalist.json").write_text((folder / "datalist.json").read_text() + "\n")
    with pytest.raises(RuntimeError) as caught:
        train("seg_student", disc_dataset, second, **{**values, "epochs": 3}, resume=True)
    assert "negatives_sha256 was" in cause(caught.value)


def test_negatives_never_repeat_so_that_a_store_is_refused():
    with pytest.raises(ValueError, match="negatives"):
        Distillation(None, None, {}, {}, {}, {}, store="store", images_repeat=False)
