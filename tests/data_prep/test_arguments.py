"""Options that a command does not know."""

from __future__ import annotations

import argparse

import pytest

from data_prep.arguments import CommandParser


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--segmentaton", "a"], "unrecognized arguments: --segmentaton (did you mean --segmentation?)"),
        (["--segmentaton=a"], "unrecognized arguments: --segmentaton (did you mean --segmentation?)"),
        (["--zzz"], "unrecognized arguments: --zzz\n"),
    ],
)
def test_the_command_names_its_nearest_option(given, said, capsys):
    parser = argparse.ArgumentParser(prog="program")
    command = parser.add_subparsers(parser_class=CommandParser).add_parser("report")
    command.add_argument("--segmentation")
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(["report", *given])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("usage: program report [-h] [--segmentation SEGMENTATION]")
    assert said in error
    assert parser.parse_args(["report", "--segmentation", "a"]).segmentation == "a"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("B C D --device cpu", ("B", "C", "D", "cpu")),
        ("B --device cpu C D", ("B", "C", "D", "cpu")),
        ("B --device cpu D", ("B", None, "D", "cpu")),
        ("--device cpu B D", ("B", None, "D", "cpu")),
        ("B D", ("B", None, "D", None)),
        ("--device cpu -- -b D", ("-b", None, "D", "cpu")),
        ("B --device cpu", "the following arguments are required: data\n"),
        ("B C D --device cpu E", "unrecognized arguments: E\n"),
    ],
)
def test_options_may_stand_between_positional_arguments(given, expected, capsys):
    parser = argparse.ArgumentParser(prog="program")
    command = parser.add_subparsers(parser_class=CommandParser).add_parser("fit")
    command.add_argument("bundle")
    command.add_argument("checkpoint", nargs="?")
    command.add_argument("data")
    command.add_argument("--device")
    if isinstance(expected, tuple):
        found = parser.parse_args(["fit", *given.split()])
        assert (found.bundle, found.checkpoint, found.data, found.device) == expected
        return
    with pytest.raises(SystemExit):
        parser.parse_args(["fit", *given.split()])
    error = capsys.readouterr().err
    assert error.startswith("usage: program fit ")
    assert expected in error


def test_a_misspelt_option_is_not_called_missing(capsys):
    command = CommandParser(prog="report")
    command.add_argument("--output_dir", required=True)
    with pytest.raises(SystemExit):
        command.parse_args(["--output_dirr", "a"])
    assert "unrecognized arguments: --output_dirr (did you mean --output_dir?)" in capsys.readouterr().err
    # argparse takes beginnings of names.
    assert command.parse_args(["--out", "a"]).output_dir == "a"
