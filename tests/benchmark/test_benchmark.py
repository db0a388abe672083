"""The benchmark runs; how fast things are, no test says."""

from __future__ import annotations

import json
import multiprocessing
import time

import pytest
from documented import run

from monai_kd.__main__ import main
from monai_kd.benchmark import Row, interleaved, resources
from monai_kd.benchmark.options import Options
from monai_kd.benchmark.table import plot_rows, reached, table


def test_ways_take_turns():
    order = []
    ways = {"a": lambda: order.append("a"), "b": lambda: (order.append("b"), time.sleep(0.02))}
    found = interleaved(ways, 3)
    assert "".join(order) == "abababab"
    assert found["b"] >= 20 > found["a"]
    with pytest.raises(ValueError, match="repeat must be 1 or more"):
        interleaved(ways, 0)


def test_the_median_leaves_out_the_first_and_an_outlier(monkeypatch):
    clock = iter([0, 9, 9, 10, 10, 90, 90, 92])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert interleaved({"a": lambda: None}, 3) == {"a": 2000}


@pytest.mark.parametrize(
    ("aim", "ratio", "expected"),
    [
        ("<= 1.3", 1.3, True),
        ("≤ 1.3", 1.31, False),
        (">= 3", 3.5, True),
        ("≥ 3", 2.9, False),
        ("as small as can be", 1.0, None),
    ],
)
def test_aims(aim, ratio, expected, tmp_path):
    row = Row("a ÷ b", aim, ratio, {"a": 2.0, "b": 1.0})
    assert reached(row) is expected
    text = table([row])
    assert ("MISSED" in text, "reached" in text) == (expected is False, expected is True)
    plot_rows([row, row], tmp_path / "rows.png", "a machine")
    assert (tmp_path / "rows.png").stat().st_size > 1000


def test_it_runs_at_tiny_size(tmp_path, capsys):
    files = {"--json": tmp_path / "rows.json", "--plot": tmp_path / "rows.png"}
    command = ["benchmark", "--only", "data", "inference", "conversion", "--tiny", "--repeat", "1"]
    assert main([*command, *(str(each) for pair in files.items() for each in pair)]) == 0
    out, said = capsys.readouterr()
    content = json.loads(files["--json"].read_text())
    assert [f"{row['ratio']:8.2f}  {row['name']}" for row in content["rows"]] == [
        line for line in said.splitlines() if " ÷ " in line
    ]
    assert {"name", "cpu", "threads", "versions"} <= content["machine"].keys()
    names = [row["name"] for row in content["rows"]]
    assert sum(name.startswith("inference of a folder") for name in names) == 2
    assert sum(name.startswith("student, one slice") for name in names) >= 1
    assert sum(name.startswith("conversion") for name in names) == 1
    assert sum(name.startswith("store of a slice") for name in names) == 2
    assert sum(name.startswith(("start of a run", "a slice as a network gets it")) for name in names) == 2
    for row in content["rows"]:
        assert row["name"] in out
        first, second = row["measured"].values()
        assert row["ratio"] == pytest.approx(first / second)
    assert files["--plot"].stat().st_size > 1000


def test_memory_and_time_of_teachers_and_students():
    found = list(resources.rows(Options(repeat=1, tiny=True)))
    names = [row.name for row in found]
    assert len(set(names)) == len(names) == 4
    assert all("teacher ÷ student" in name for name in names)
    for row in found:
        first, second = row.measured.values()
        assert row.ratio == pytest.approx(first / second)
        assert first > 0 < second
    assert {row.unit for row in found} == {"ms", "MB"}
    assert "MB" in table(found)


def test_memory_of_a_known_size():
    """A network of 40 million weights: itself, the gradients and two moments of AdamW."""
    definition = {"_target_": "torch.nn.Conv2d", "in_channels": 3, "out_channels": 40_000_000 // 27}
    large = {**definition, "kernel_size": 3, "stride": 32}
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        _, trained = pool.apply(resources._measured, (large, 32, True, 1, 1))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        _, used = pool.apply(resources._measured, (large, 32, False, 1, 1))
    assert used == pytest.approx(160, rel=0.5)
    assert trained > 0.9 * 4 * 160


def test_without_a_measure_of_memory_the_rows_are_left_out(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(resources, "PEAK", tmp_path / "none")
    assert list(resources.rows(Options(repeat=1, tiny=True))) == []
    assert "memory can't be measured on this system" in caplog.text


def test_line_of_the_page(lines, tmp_path, monkeypatch, capsys):
    """With its options, and at tiny size."""
    (line,) = lines
    files = {"json": "rows.json", "plot": "rows.png"}
    run(f"{line} --tiny", tmp_path, monkeypatch, instead={**files, "repeat": 1})
    assert "inference of a folder" in capsys.readouterr().out
    assert all((tmp_path / name).stat().st_size > 1000 for name in files.values())


def test_errors_end_it_with_a_message(tmp_path, capsys):
    assert main(["benchmark", "--only", "inference", "--tiny", "--bundles", str(tmp_path)]) == 2
    assert "there is no bundle seg_student" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["rows", "rows.jpgg", "rows.txt"])
def test_a_picture_of_no_format_is_refused_before_anything_is_measured(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("monai_kd.benchmark.command._rows", lambda *_: pytest.fail("measured"))
    assert main(["benchmark", "--plot", str(tmp_path / name)]) == 2
    assert f"{name}: the name of a picture must end with one of ." in capsys.readouterr().err
