"""Command lines of the pages, as they are printed there, and how a test runs one of them."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import shutil
import sys
import textwrap
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
# What the changelog names may be gone: its lines are of their time.
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "bundles").glob("*/docs/README.md")),
]
_ASSIGNMENT = r"(\w+)=('[^']*'|\"[^\"]*\"|\S+)"
_OPTIONAL = r"\[(--?\w[^]]*)\]"


def text_and_code(page: Path) -> tuple[str, list[str]]:
    """The text without blocks of code, and the blocks."""
    text, blocks, fenced, before = [], [[]], False, ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or (line.startswith("    ") and (not before.strip() or blocks[-1])):
            blocks[-1].append(line)
        elif line.strip():
            text.append(line)
            blocks.append([])
        elif blocks[-1]:
            blocks[-1].append(line)
        before = line
    return "\n".join(text), ["\n".join(block) for block in blocks if block]


def _filled(line: str, values: Mapping[str, str]) -> str:
    """With the variables filled in; within double quotes, a quotation mark of a value stays one."""

    def filled(part: str, quoted: bool) -> str:
        for name, value in values.items():
            given = value.replace('"', r"\"") if quoted else value
            # `${name#* }` is the value without its first word.
            part = part.replace(f"${{{name}#* }}", given.partition(" ")[2]).replace(f"${{{name}}}", given)
            part = re.sub(rf"\${name}\b", lambda _, given=given: given, part)
        return part

    return '"'.join(filled(part, bool(place % 2)) for place, part in enumerate(line.split('"')))


def shell_lines(block: str) -> list[str]:
    """The lines of a block as a shell comes to run them.

    Continued lines are joined, commands joined by ``&&`` are apart, loops are unrolled, and variables that the block
    sets are filled in. Of a here-document, only the command that reads it is left.
    """
    text = re.sub(r" *\\\n\s*", " ", block)
    # A value in quotes may continue on the next line too.
    text = re.sub(r"',\n +'", "','", text)
    text = re.sub(r"(?ms)(<<'(\w+)')\n.*?^\s*\2$", r"\1", text)
    text = re.sub(
        r"(?ms)^ *for (\w+) in ([^;\n]+); do[^\n]*\n(.*?)\n *done$",
        lambda loop: "\n".join(_filled(loop[3], {loop[1]: value}) for value in loop[2].split()),
        text,
    )
    values: dict[str, str] = {}
    lines = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if re.fullmatch(rf"(?:{_ASSIGNMENT}\s*)+", line):
            for name, value in re.findall(_ASSIGNMENT, line):
                values[name] = value[1:-1] if value[0] == "'" else _filled(value.strip('"'), values)
        elif not line.startswith("#"):
            lines += re.split(r"\s&&\s", _filled(line, values))
    return lines


def _is_code(block: str) -> bool:
    """Whether it is Python, JSON or names of files, and no command lines."""
    if block.lstrip().startswith(("{", '"', "images/")):
        return True
    try:
        tree = ast.parse(textwrap.dedent(block))
    except SyntaxError:
        return False
    return any(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree))


@cache
def command_lines(page: str) -> list[str]:
    """All command lines in the blocks of code of a page, see `shell_lines`.

    Args:
        page: path in the repository.
    """
    blocks = text_and_code(ROOT / page)[1]
    return [line for block in blocks if not _is_code(block) for line in shell_lines(block)]


def words_of(line: str) -> list[str]:
    """The words of a command line; those in brackets, which may be given, are given."""
    return shlex.split(re.sub(_OPTIONAL, r"\1", line), comments=True)


def copied_checkout(folder: Path) -> Path:
    """Programs and bundles without weights, of which a line may change any, and a folder for pictures."""
    (folder / "docs" / "images").mkdir(parents=True)
    shutil.copytree(ROOT / "docs" / "experiments", folder / "docs" / "experiments")
    shutil.copytree(ROOT / "bundles", folder / "bundles", ignore=shutil.ignore_patterns("models", "runs", "eval"))
    return folder


def run(
    line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, instead: Mapping[str, Any] | None = None, **more: Any
) -> None:
    """In this process, as ``python -m package …`` or ``python file …`` does.

    Args:
        instead: values that replace those of the line, and are added if it has none.
        more: overrides that are added to the line if it has none.
    """
    words = words_of(line)
    assert words.pop(0) == "python"
    is_module = words[0] == "-m"
    name, *given = words[1:] if is_module else words
    arguments: list[str] = []
    for word in given:
        # Names of files as a shell completes them.
        found = sorted(str(path.relative_to(folder)) for path in folder.glob(word)) if re.search(r"[*?]", word) else []
        arguments += found or [word]
    for option, value in {**more, **(instead or {})}.items():
        if f"--{option}" not in arguments:
            arguments += [f"--{option}", str(value)]
        elif option in (instead or {}):
            arguments[arguments.index(f"--{option}") + 1] = str(value)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    code: object = None
    try:
        if is_module:
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            monkeypatch.syspath_prepend(Path(name).resolve().parent)  # as Python does for a program
            runpy.run_path(name, run_name="__main__")
    except SystemExit as end:
        code = end.code
    assert code in (0, None), line
