"""A run that no other run into the same folder gets mixed with."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from data_prep.lock import only_writer

from .workflow import running

__all__ = ["run_alone"]


def run_alone(engine: str, output_dir: str | Path, is_main: bool = True) -> None:
    """Build and run an engine of the config that is being run, as the only process that writes into its folder.

    Two trainings into one folder would both end well, and leave the weights of one with the settings of the other; two
    evaluations, tables of different slices. Reading from the folder is free: a server may serve what is trained in it.

    The engine is named, not given: an expression that refers to it would have built it already, and with it trained the
    teacher, before the folder is locked.

    Args:
        engine: its id, ``"train#trainer"``, say.
        output_dir: locked until the engine has run or failed, see `data_prep.lock.only_writer`.
        is_main: whether this process writes; of several, only the first one locks.

    Raises:
        FolderInUse: another process writes into the folder.
        RuntimeError: called elsewhere than from a config.
    """
    parser = running().parser
    if parser is None:
        raise RuntimeError("run_alone is for configs that MONAI runs.")
    with only_writer(output_dir, "output_dir") if is_main else nullcontext():
        parser.get_parsed_content(engine).run()
