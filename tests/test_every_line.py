"""Every command line of the pages is run by a test, or stands in a list of lines that are not run, with the reason."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest
from documented import PAGES, ROOT, command_lines
from page_lines import LABEL, LABEL_PAGE, LINES, NOT_RUN, OWN, TRAININGS, beginnings, lines_of

NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# Path, line, reason; a comment after a line is no part of it.
REASONS = {(page, line): reason for page, line, reason in NOT_RUN}


def without_comment(line: str) -> str:
    return re.sub(r"\s+# .*", "", line)


@cache
def functions(file: str) -> dict[str, set[str]]:
    """The functions of a test file, with the names of their parameters."""
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    found = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return {node.name: {each.arg for each in node.args.args} for node in found}


@pytest.mark.parametrize("page", NAMES)
def test_each_line_is_run_or_has_a_reason(page):
    run = tuple(beginnings(page))
    others = [line for line in command_lines(page) if not line.startswith(run)]
    neither = [line for line in others if (page, without_comment(line)) not in REASONS]
    assert not neither, f"run these in a test, or give the reason why not, in tests/page_lines.py: {neither}"


def test_pages_have_lines():
    assert {"README.md", "docs/training.md", "bundles/seg_student/docs/README.md"} <= set(NAMES)
    assert sum(len(command_lines(page)) for page in NAMES) > 120


@pytest.mark.parametrize(("page", "line"), list(REASONS), ids=": ".join)
def test_a_line_with_a_reason_is_there_and_not_run(page, line):
    assert line in map(without_comment, command_lines(page))
    assert not line.startswith(tuple(beginnings(page))), "it is run: take it out of the list"
    # What a reason names is there.
    for path in re.findall(r"(?:tests|\.ci)/[\w/.]*\w", REASONS[page, line]):
        assert (ROOT / path).exists(), path


def test_no_line_is_given_to_two_tests():
    entries = [entry[:2] for entry in [*LINES, *TRAININGS, *(each for some in OWN.values() for each in some)]]
    assert len(set(entries)) == len(entries)
    for page, beginning in entries:
        assert lines_of(page, beginning)


@pytest.mark.parametrize("name", OWN)
def test_a_named_test_takes_its_lines(name):
    file, function = name.split("::")
    assert "lines" in functions(file)[function], f"{name} must take them by the fixture `lines`"


def test_lines_of_monai_label_are_taken_by_its_tests():
    texts = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "tests" / "label").glob("test_*.py"))
    for name, starts in LABEL.items():
        assert f'LABEL["{name}"]' in texts, name
        for beginning in starts:
            assert lines_of(LABEL_PAGE, beginning)


def test_a_new_line_is_noticed(monkeypatch):
    """A line of another program, and one that is like a known one."""
    page = "docs/serve.md"
    lines = command_lines(page)
    for new in ("wget http://127.0.0.1:8000", "python -m monai_kd report OUT"):
        monkeypatch.setattr("test_every_line.command_lines", lambda _, new=new: [*lines, new])
        with pytest.raises(AssertionError, match=new):
            test_each_line_is_run_or_has_a_reason(page)
