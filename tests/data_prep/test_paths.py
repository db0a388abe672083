"""``~`` in paths of the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from data_prep.__main__ import main
from data_prep.paths import path_argument


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_home_folder_is_expanded(home: Path) -> None:
    assert path_argument("~") == home
    assert path_argument("~/a/b") == home / "a/b"


@pytest.mark.parametrize("text", ["a", "/a/b", "../a", "a/~", "a~"])
def test_other_paths_stay_as_they_are(text: str) -> None:
    assert path_argument(text) == Path(text)


def test_unknown_user_is_refused() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"~no\.such\.user/a begins with the home folder of a user"):
        path_argument("~no.such.user/a")


def test_an_empty_path_is_not_the_working_directory(capsys) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="the path is empty"):
        path_argument("")
    with pytest.raises(SystemExit):
        main(["figshare", "", "dataset"])
    assert "the path is empty: was a variable of the shell not set?" in capsys.readouterr().err


def test_commands_expand_it(home: Path) -> None:
    assert main(["phantom", "~/raw", "--slices", "2", "--size", "64", "--workers", "1"]) == 0
    assert main(["figshare", "~/raw", "~/dataset", "--workers", "1"]) == 0
    assert (home / "dataset/datalist.json").is_file()
