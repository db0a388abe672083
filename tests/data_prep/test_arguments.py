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


def test_a_misspelt_option_is_not_called_missing(capsys):
    command = CommandParser(prog="report")
    command.add_argument("--output_dir", required=True)
    with pytest.raises(SystemExit):
        command.parse_args(["--output_dirr", "a"])
    assert "unrecognized arguments: --output_dirr (did you mean --output_dir?)" in capsys.readouterr().err
    # argparse takes beginnings of names.
    assert command.parse_args(["--out", "a"]).output_dir == "a"
