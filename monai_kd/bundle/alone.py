"""Runs that have their output folder to themselves."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from data_prep.lock import only_writer

from .workflow import running

__all__ = ["run_alone"]


def run_alone(engine: str, output_dir: str | Path, is_main: bool = True) -> None:
    """Build and run an engine of the config that is being run, with the output folder locked against other writers.

    Without the lock, two trainings with one output folder would both finish, and leave the weights of one beside the
    settings of the other; two evaluations would leave tables of different slices. Reading is not locked: a server may
    serve the model that is being trained in the folder.

    The engine is given by its id, not as an object: a reference to it in the expression would build it, and train the
    teacher on the way, before the folder is locked.

    Args:
        engine: id of the engine, such as ``"train#trainer"``.
        output_dir: locked until the engine has finished or failed, see `data_prep.lock.only_writer`.
        is_main: whether this process writes; of several processes, only the first one locks.

    Raises:
        FolderInUse: another process writes into the folder.
        RuntimeError: not called from a config.
    """
    parser = running().parser
    if parser is None:
        raise RuntimeError("run_alone is for configs that MONAI runs.")
    with only_writer(output_dir, "output_dir") if is_main else nullcontext():
        parser.get_parsed_content(engine).run()
