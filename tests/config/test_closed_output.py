"""Commands whose output is read by a program that stops reading, such as ``head``."""

from __future__ import annotations

import os

import pytest

from monai_kd.config.errors import one_line_errors


@pytest.mark.parametrize("lines", [1, 100_000], ids=["less than a buffer", "more than a buffer"])
def test_a_reader_that_has_enough_ends_a_command_silently(
    lines: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    @one_line_errors
    def command() -> int:
        print("line\n" * lines)
        return 0

    with open(writer, "w") as output, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", output)
        assert command() == 141
    assert capfd.readouterr().err == ""


def test_another_broken_pipe_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    @one_line_errors
    def command() -> int:
        raise BrokenPipeError(32, "Broken pipe")

    assert command() == 2
    assert "Broken pipe" in capsys.readouterr().err
