"""Links, commands and names in the pages are those of the code."""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import inspect
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import documented
import monai.bundle
import pytest
from documented import ROOT, shell_lines, text_and_code, words_of

from data_prep.__main__ import _parser as data_prep_parser
from monai_kd.__main__ import command_parser
from monai_kd.bundle.workflow import ARGUMENTS

PAGES = [*documented.PAGES, ROOT / "CHANGELOG.md"]
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
# The changelog names what is gone, too.
EACH_PRESENT = pytest.mark.parametrize("page", documented.PAGES, ids=lambda page: str(page.relative_to(ROOT)))
PARSERS = {"monai_kd": command_parser, "data_prep": data_prep_parser}
# Of other programs.
FOREIGN = {
    *("--ckpt_file", "--host", "--input_shape", "--config_file", "--studies", "--overwrite"),
    *("--tracking_uri", "--experiment_name", "--run_name", "--backend-store-uri", "--bundle", "--precision"),
}


def commands(block: str) -> Iterator[list[str]]:
    """Words of each command line."""
    for line in shell_lines(block):
        try:
            words = words_of(line)
        except ValueError:  # lines of Python
            continue
        if words:
            yield words


def options_of(words: list[str]) -> list[str]:
    return [word[2:].partition("=")[0] for word in words if word.startswith("--")]


def value_of(words: list[str], option: str) -> str | None:
    return next((words[place + 1] for place, word in enumerate(words[:-1]) if word == f"--{option}"), None)


def config_files(text: str, page: Path) -> list[Path]:
    """Those of `--config_file`; examples of one's own files are left out."""
    names = ast.literal_eval(text) if text.startswith("[") else [text]
    folder = page.parents[1] if page.is_relative_to(ROOT / "bundles") else ROOT
    # Archives of bundles are unpacked there.
    files = [folder / name.replace("unpacked/", "bundles/") for name in names]
    assert files[0].is_file(), f"there is no {files[0]}"
    absent = [file.name for file in files if not file.is_file()]
    assert set(absent) <= {"ct.json", "my_net.json", "own.json", "student.json", "teacher.json", "deploy.json"}, absent
    return [file for file in files if file.is_file()]


@cache
def ids(file: Path) -> set[str]:
    """Ids of a config, nested ones too."""

    def nested(content: Any, before: str) -> Iterator[str]:
        for name, value in content.items() if isinstance(content, dict) else ():
            yield before + name
            yield from nested(value, f"{before}{name}#")

    return set(nested(json.loads(file.read_text(encoding="utf-8")), ""))


def options_of_parser(parser: argparse.ArgumentParser) -> set[str]:
    actions = list(parser._actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                actions += each._actions
    return {option for action in actions for option in action.option_strings}


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def located(name: str) -> bool:
    """Whether a dotted name is a module, or lies in one; modules are not imported for their own name alone."""
    try:
        if importlib.util.find_spec(name) is not None:
            return True
    except ModuleNotFoundError:
        pass
    module, _, rest = name.rpartition(".")
    while module:
        try:
            found: Any = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, first = module.rpartition(".")
            rest = f"{first}.{rest}"
            continue
        for part in rest.split("."):
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def test_pages_are_found() -> None:
    assert len(PAGES) > 15
    blocks = [block for page in PAGES for block in text_and_code(page)[1]]
    runs = [words for block in blocks for words in commands(block) if "monai.bundle" in words]
    assert len(runs) > 40


@EACH_PAGE
def test_links(page: Path) -> None:
    text, _ = text_and_code(page)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors(file), f"{target}: there is no such heading"


@EACH_PAGE
def test_paths_of_the_repository(page: Path) -> None:
    text, _ = text_and_code(page)
    for path in re.findall(r"`((?:docs|tests|bundles|monai_kd|data_prep|\.ci)/[\w./-]+)`", text):
        assert (ROOT / path).exists() or "my_" in path, path


@EACH_PAGE
def test_options_of_configs(page: Path) -> None:
    for block in text_and_code(page)[1]:
        for words in commands(block):
            if "monai.bundle" not in words:
                continue
            # torchrun has options of its own in front.
            command, *words = words[words.index("monai.bundle") + 1 :]
            given = value_of(words, "config_file")
            assert given is not None, words
            known = set().union(*map(ids, config_files(given, page)))
            own = ARGUMENTS if command == "run" else inspect.signature(getattr(monai.bundle, command)).parameters
            for option in options_of(words):
                assert option in own or option in known, f"--{option} is no id of {given}: {' '.join(words)}"
            if command == "run":
                assert words[0] in known, words


@EACH_PAGE
def test_commands_of_the_packages(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in text_and_code(page)[1]:
        for words in commands(block):
            for package, parser in PARSERS.items():
                if words[:3] == ["python", "-m", package]:
                    try:
                        # Default values stand for those in capitals that must be numbers.
                        parser().parse_args([word if word != "N" else "1" for word in words[3:]])
                    except SystemExit:
                        pytest.fail(f"{' '.join(words)}: {capsys.readouterr().err}")


@EACH_PAGE
def test_scripts(page: Path) -> None:
    for block in text_and_code(page)[1]:
        for words in commands(block):
            if words[0] == "python" and words[1:] and words[1].endswith(".py") and "/" in words[1]:
                assert (ROOT / words[1]).is_file() or words[1].startswith("package"), words


@EACH_PRESENT
def test_options_in_the_text(page: Path) -> None:
    known = {f"--{name}" for file in ROOT.glob("bundles/*/configs/**/*.json") for name in ids(file)}
    known |= {f"--{name}" for name in ARGUMENTS} | FOREIGN
    known |= set().union(*(options_of_parser(parser()) for parser in PARSERS.values()))
    text, _ = text_and_code(page)
    found = {option for code in re.findall(r"`([^`]+)`", text) for option in re.findall(r"(?<!\S)--[\w-]+", code)}
    assert not found - known


@EACH_PRESENT
def test_names_of_the_packages(page: Path) -> None:
    text, blocks = text_and_code(page)
    names = set(re.findall(r"`((?:monai_kd|data_prep)(?:\.\w+)+)[`(]", text))
    for block in blocks:
        for module, imported in re.findall(r"from ((?:monai_kd|data_prep)[\w.]*) import ([\w, ]+)", block):
            names |= {f"{module}.{name.strip()}" for name in imported.split(",")}
        names |= set(re.findall(r"\"_target_\": \"(monai_kd\.[\w.]+)\"", block))
    assert not [name for name in sorted(names) if not located(name) and not name.endswith(".MyTerm")]


def test_names_that_are_gone_are_not_located() -> None:
    assert located("monai_kd.io.SliceReader")
    assert located("monai_kd.label.server")
    assert not located("monai_kd.handlers.MaskReport")
    assert not located("monai_kd.nothing.at.all")
