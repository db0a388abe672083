"""Slices without a tumour in evaluate.json: what is reported, and the operating point."""

import json
import logging
import re
from pathlib import Path

import pytest
import torch
from heads_folder import write_heads
from test_evaluate import block, evaluate, write_slices
from tiny import bright, cause

from monai_kd.io.trained import add_settings, read_trained
from monai_kd.metrics import PRESENCE_SCORES

SIZE = (32, 32)
MASK, NONE = block(SIZE, (4, 4), (14, 14)), block(SIZE, (0, 0), (0, 0))
FALSE = block(SIZE, (20, 18), (28, 28))


def blocks(folder):
    """Of five patients: a tumour found and one missed; two without a tumour, one of them marked; one found as well."""
    data = write_slices(folder, [(MASK, MASK), (NONE, MASK), (FALSE, NONE), (NONE, NONE), (MASK + FALSE, MASK)])
    content = json.loads((data / "datalist.json").read_text())
    for entry in content["training"][2:4]:
        del entry["label"], entry["class"]
        entry["tumour"] = False
    (data / "datalist.json").write_text(json.dumps(content))
    return data


def test_counted_by_hand(tmp_path):
    network = bright(tmp_path / "bright")
    data = blocks(tmp_path / "data")
    metrics, slices = evaluate(tmp_path / "eval", dataset_dir=str(data), specificity=0.5, **network)
    presence = metrics["presence"]
    assert presence["sensitivity"]["by_slice"] == {**presence["sensitivity"]["by_slice"], "value": 2 / 3, "of": 3}
    assert presence["specificity"]["by_examination"]["value"] == presence["specificity"]["by_slice"]["value"] == 0.5
    assert presence["false_marks"]["tumour_free_slices"]["value"] == 0.5
    assert presence["false_area_mm2"]["all_slices"]["value"] == pytest.approx(2 * 80 * 0.4 / 5, rel=0.2)
    assert [row["class_name"] for row in slices[2:4]] == ["no tumour"] * 2
    assert [row["false_marks"] for row in slices] == ["0", "0", "1", "0", "1"]
    assert [float(row["presence_max"]) > 0.9 for row in slices] == [True, False, True, False, True]
    assert set(presence["auc"]) == set(PRESENCE_SCORES)
    # Dice is that of the three slices with a tumour.
    assert metrics["overall"]["metrics"]["dice"]["over_slices"]["defined"] == 3
    for name in ("roc.png", "froc.png", "operating_point.json"):
        assert (tmp_path / "eval" / name).stat().st_size > 0
    point = read_trained(network["checkpoint"])["operating_point"]
    assert point == presence["operating_point"]
    assert set(point) == {"score", "threshold", "specificity", "sensitivity", "measured_on"}
    assert "fold 0 (counted from 0): 3 slices with a tumour, 2 without" in point["measured_on"]


def test_the_operating_point_of_the_weights_is_measured_on_other_slices(tmp_path, caplog):
    network, data = bright(tmp_path / "bright"), blocks(tmp_path / "data")
    options = {"dataset_dir": str(data), **network}
    assert "at_operating_point" not in evaluate(tmp_path / "without", **options)[0]["presence"]
    evaluate(tmp_path / "chosen", specificity=0.5, **options)
    point = read_trained(network["checkpoint"])["operating_point"]
    add_settings(network["checkpoint"], {"operating_point": {**point, "score": "max", "threshold": 1.0}})
    with caplog.at_level("INFO"):
        metrics, slices = evaluate(tmp_path / "none", **options)
    found = metrics["presence"]["at_operating_point"]
    assert (found["score"], found["threshold"]) == ("max", 1.0)
    pairs = [
        (float(row["presence_max"]) >= 1 and float(row["predicted_area_mm2"]) > 0, float(row["truth_area_mm2"]) > 0)
        for row in slices
    ]
    assert found["sensitivity"]["by_slice"]["value"] == pytest.approx(sum(own == (True, True) for own in pairs) / 3)
    assert found["specificity"]["by_slice"]["value"] == sum(own == (False, False) for own in pairs) / 2
    assert metrics["presence"]["specificity"]["by_slice"]["value"] == 0.5
    assert "specificity by slice, by the operating point" in caplog.text


def test_slices_without_a_tumour_alone(tmp_path):
    network, heads = bright(tmp_path / "bright"), write_heads(tmp_path)
    metrics, slices = evaluate(tmp_path / "eval", dataset_dir=str(heads), fold=0, **network)
    assert {row["class_name"] for row in slices} == {"no tumour"}
    marked = sum(float(row["predicted_area_mm2"]) > 0 for row in slices)
    assert metrics["presence"]["specificity"]["by_slice"]["value"] == pytest.approx(1 - marked / len(slices))
    assert not (tmp_path / "eval" / "roc.png").exists()


def test_slices_without_a_tumour_choose_the_threshold(tmp_path, caplog):
    network, heads = bright(tmp_path / "bright", steepness=1), write_heads(tmp_path)
    options = {"dataset_dir": str(heads), "fold": 0, "presence": "top_k_mean", "specificity": 0.7, **network}
    with caplog.at_level("INFO"):
        metrics, slices = evaluate(tmp_path / "eval", **options)
    point = read_trained(network["checkpoint"])["operating_point"]
    assert point == metrics["presence"]["operating_point"]
    left = [float(row["presence_top_k_mean"]) < point["threshold"] for row in slices]
    assert point["specificity"] == pytest.approx(sum(left) / len(left))
    assert point["specificity"] >= 0.7
    assert point["sensitivity"] is None
    assert "sensitivity unknown, as no slice shows a tumour" in caplog.text
    assert (tmp_path / "eval" / "operating_point.json").is_file()
    assert not (tmp_path / "eval" / "roc.png").exists()


def test_tumours_are_taken_out_of_a_share(disc_dataset, tmp_path):
    options = {"dataset_dir": str(disc_dataset), "part": "all", "negative_share": 0.5, **bright(tmp_path / "bright")}
    metrics, slices = evaluate(tmp_path / "eval", **options)
    presence = metrics["presence"]
    assert 0 < presence["tumour_free_slices"] < 12
    # What is bright was the tumour; noise may be brighter than half of what is left.
    truth = [float(row["truth_area_mm2"]) > 0 for row in slices]
    assert presence["tumour_free_slices"] == truth.count(False)
    assert all(
        float(row["predicted_area_mm2"]) > 0 for row, with_tumour in zip(slices, truth, strict=True) if with_tumour
    )
    assert metrics["settings"]["negative_share"] == 0.5


def test_an_operating_point_that_can_not_be_kept_is_an_error_before_the_network_runs(tmp_path, monkeypatch):
    data, network = blocks(tmp_path / "data"), bright(tmp_path / "bright")
    options = {"dataset_dir": str(data), "specificity": 0.5, **network}

    def refuse(folder: Path) -> None:
        if folder == Path(network["checkpoint"]).parent:
            raise OSError(f"{folder} can't be written to")

    monkeypatch.setattr("monai_kd.evaluation.presence.check_writable", refuse)
    monkeypatch.setattr(torch.nn.Conv2d, "forward", lambda *_: pytest.fail("the network ran"))
    with pytest.raises(RuntimeError) as caught:
        evaluate(tmp_path / "eval", **options)
    assert "bright can't be written to" in cause(caught.value)


def test_pictures_that_are_not_drawn_are_not_named(tmp_path, caplog):
    data = write_slices(tmp_path / "data", [(MASK, NONE)] * 2)
    with caplog.at_level(logging.INFO):
        evaluate(tmp_path / "eval", dataset_dir=str(data), **bright(tmp_path / "bright"))
    (named,) = (record.getMessage() for record in caplog.records if "written to" in record.getMessage())
    assert all((tmp_path / "eval" / name).is_file() for name in named.rpartition(": ")[2].split(", "))


@pytest.mark.parametrize(
    ("free", "specificity", "match"),
    [(False, 0.9, "no slice without a tumour"), (True, 1.0, "too many slices without a tumour")],
)
def test_no_threshold_can_be_chosen(free, specificity, match, tmp_path, caplog):
    data = blocks(tmp_path / "data") if free else write_slices(tmp_path / "data", [(MASK, MASK)] * 2)
    network = bright(tmp_path / "bright")
    options = {"dataset_dir": str(data), "specificity": specificity, **network}
    metrics, _ = evaluate(tmp_path / "eval", **options)
    assert re.search(f"NO operating point.*{match}|{match}.*NO operating point", caplog.text)
    assert ("presence" in metrics) == free
    assert "operating_point" not in read_trained(network["checkpoint"])
