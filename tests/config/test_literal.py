"""Values from outside come out of a config as they went in."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.bundle import ConfigParser
from monai.utils.enums import CommonKeys

from monai_kd.config import literal

# Text in which the characters that MONAI looks for are frequent, next to each other and to its separator.
PARTS = [
    "$",
    "@",
    "%",
    "#",
    "::",
    "+",
    "a",
    "0",
    "\\",
    "'",
    '"',
    "\n",
    "import os",
    "_target_",
    "other",
    ".json",
    "é",
    "\udc80",
]
TEXT = st.one_of(st.text(max_size=8), st.lists(st.sampled_from(PARTS), max_size=8).map("".join))
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), TEXT)
KEYS = st.one_of(
    TEXT, st.sampled_from(["_target_", "_mode_", "_disabled_", "_requires_", "_meta_", "<name>", "0", "x::y"])
)


def nested(keys: st.SearchStrategy, *more: st.SearchStrategy) -> st.SearchStrategy:
    return st.recursive(
        PLAIN,
        lambda values: st.one_of(
            st.lists(values, max_size=4),
            st.dictionaries(keys, values, max_size=4),
            *(each(values) for each in more),
        ),
        max_leaves=12,
    )


JSON = nested(KEYS)
PYTHON = nested(
    st.one_of(KEYS, st.integers(), st.tuples(TEXT)),
    lambda values: st.lists(values, max_size=3).map(tuple),
)


def resolved(value: Any) -> dict[str, Any]:
    """Of a config that holds the value, all ways to get at it; ``other`` is what a reference could find."""
    parser = ConfigParser(
        {
            "imports": ["$import os"],
            "other": "not this",
            "value": value,
            "inside": {"value": value, "list": [value, 1]},
            "reference": "@value",
            "expression": "$[@value][0]",
            "argument": {"_target_": "dict", "value": "@value", "own": value},
        }
    )
    found = {name: parser.get_parsed_content(name) for name in ("value", "reference", "expression")}
    inside, argument = parser.get_parsed_content("inside"), parser.get_parsed_content("argument")
    return {**found, "inside": inside["value"], "item": inside["list"][0], **argument}


@settings(max_examples=200, deadline=None)
@given(PYTHON)
def test_a_parser_gives_the_value_back(value):
    for where, found in resolved(literal(value)).items():
        assert (found, type(found)) == (value, type(value)), where


@settings(max_examples=100, deadline=None)
@given(JSON)
def test_a_config_that_is_written_as_json_gives_it_back_too(value):
    assert resolved(json.loads(json.dumps(literal(value))))["value"] == value


@settings(deadline=None)
@given(PYTHON)
def test_text_is_an_expression_without_what_monai_looks_for(value):
    def check(made: Any) -> None:
        if isinstance(made, list):
            for each in made:
                check(each)
        elif isinstance(made, str):
            assert made.isascii()
            assert made[0] == "$"
            assert not set("$@%#\n") & set(made[1:])
        else:
            assert made is None or isinstance(made, (int, float))

    check(literal(value))


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite(number):
    for found in (resolved(literal(number))["value"], resolved(literal({"a": [number]}))["value"]["a"][0]):
        assert found == pytest.approx(number, nan_ok=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Path("/a/#1/$x"), "/a/#1/$x"),
        (torch.device("cuda", 1), "cuda:1"),
        (CommonKeys.IMAGE, "image"),
        ({CommonKeys.IMAGE: Path("a")}, {"image": "a"}),
    ],
)
def test_what_stands_for_text_becomes_text(value, expected):
    found = resolved(literal(value))["value"]
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    "value", [object(), b"bytes", {1, 2}, torch.zeros(1), lambda: 0, [object()], {"a": (object(),)}]
)
def test_other_objects_are_refused(value):
    with pytest.raises(
        TypeError, match="a value of a config must be text, a number, True, False, None, a path, or lists"
    ):
        literal(value)


@pytest.mark.parametrize(
    "wrap", [lambda value: value, lambda value: [value], lambda value: {"a": value}, lambda value: (value,)]
)
def test_a_dictionary_is_never_a_component(tmp_path, wrap):
    value = {"_target_": "pathlib.Path.touch", "self": "@path"}
    config = {"path": tmp_path / "marker", "given": literal(wrap(value))}
    assert ConfigParser(config).get_parsed_content("given") == wrap(value)
    assert not (tmp_path / "marker").exists()
    # The same dictionary, not literal, is called.
    ConfigParser({**config, "given": value}).get_parsed_content("given")
    assert (tmp_path / "marker").exists()
