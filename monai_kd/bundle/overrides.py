"""Values of a command line, as they were typed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from ..config import install_short_errors, literal, refuse_unknown
from .workflow import running

__all__ = ["PATHS", "accept_overrides"]

# Ids of files and folders. Their values are no expressions, whatever they look like.
PATHS = frozenset(
    {
        *("bundle_root", "dataset_dir", "output_dir", "input", "checkpoint", "init_checkpoint"),
        *("teacher_checkpoint", "teacher_bundle", "teacher_store"),
    }
)


def accept_overrides() -> None:
    """Check the overrides of the config that is being initialized, and take paths among them as they were typed.

    MONAI accepts ``--epoch 3`` and ignores it. Its command line makes a number of a folder called ``100360``, a tuple
    of ``a,b``, cuts ``pat#2`` at the ``#``, and reads ``@home`` as a reference; so the paths of `PATHS` are read anew
    from the arguments of the process. ``~`` is expanded. From Python, a path that begins with ``$`` or ``@`` is an
    expression, see `monai_kd.config.literal`.

    Call it first in ``initialize``.

    Raises:
        ValueError: an override names nothing in the config, the message holds the nearest ids; or a path is ``~name``
            and there is no user of this name.
    """
    install_short_errors()
    run = running()
    if run.parser is None or not run.config_files:
        return
    known = ConfigParser()
    known.read_config(list(run.config_files))
    refuse_unknown(run.overrides, known, run.config_files[0])
    paths = {name: _as_typed(name, value) for name, value in run.overrides.items() if name in PATHS}
    changed = {name: value for name, value in paths.items() if value != run.overrides[name]}
    if changed:
        for name, value in changed.items():
            run.parser[name] = value
        # The items of the config that are there already hold the values of before.
        run.parser.parse(reset=True)


def _as_typed(name: str, value: Any) -> Any:
    """The value to put into the config for an override that is a path."""
    typed = _on_command_line(name)
    if typed is not None and DefaultParseValue(typed) == value:
        return value if value is None else literal(_expanded(name, typed))
    if isinstance(value, (str, Path)) and not str(value).startswith(("$", "@")):
        return literal(_expanded(name, value))
    return value


def _expanded(name: str, path: str | Path) -> str:
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        raise ValueError(
            f"{name} is {str(path)!r}, and there is no user of this name: a folder that is called so needs its "
            "absolute path."
        ) from None


def _on_command_line(name: str) -> str | None:
    """The text behind ``--name`` in the arguments of this process; the last one, as for Fire."""
    found = None
    for place, argument in enumerate(sys.argv[1:], 1):
        flag, equals, text = argument.partition("=")
        if flag.lstrip("-").replace("-", "_") != name or not flag.startswith("--"):
            continue
        if equals:
            found = text
        elif place + 1 < len(sys.argv):
            found = sys.argv[place + 1]
    return found
