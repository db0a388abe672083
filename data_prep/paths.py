"""Paths from a command line."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["path_argument"]


def path_argument(text: str) -> Path:
    """A path of a command line with ``~`` expanded, as ``type`` of an argument of `argparse`.

    A shell expands ``~`` at the beginning of a word only, not in ``--output_dir=~/out``, nor between quotes.

    Raises:
        argparse.ArgumentTypeError: the path is empty, or begins with the name of an unknown user, as ``~unknown/out``.

    Example:
        >>> path_argument("~/out") == Path.home() / "out", path_argument("a/~/b").as_posix()
        (True, 'a/~/b')
    """
    if not text:
        # `Path("")` is the working directory.
        raise argparse.ArgumentTypeError("the path is empty: was a variable of the shell not set?")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(
            f"{text} begins with the home folder of a user who is unknown here; give the absolute path."
        ) from error
