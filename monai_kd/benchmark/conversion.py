"""Raw slices into a data set folder: against a plain loop of h5py and nibabel."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from data_prep.benchmark import plain_loop
from data_prep.convert import convert
from data_prep.phantom import write_phantoms
from data_prep.pool import available_cores

from .options import Options
from .row import Row
from .timing import interleaved

__all__ = ["rows"]

SLICES, SIZE = 240, 512
TINY_SLICES, TINY_SIZE = 8, 64


def rows(options: Options) -> Iterator[Row]:
    """The plain loop, which checks nothing and runs in one process, divided by the conversion with all cores."""
    slices, size = (TINY_SLICES, TINY_SIZE) if options.tiny else (SLICES, SIZE)
    with tempfile.TemporaryDirectory() as folder:
        raw = write_phantoms(Path(folder, "raw"), slices, size=size, progress=False)
        files = sorted(raw.glob("*.mat"))
        loop, ours = f"plain loop, {slices} slices", f"data_prep figshare, {available_cores()} processes"
        times = interleaved(
            {
                loop: lambda: _into_new_folder(lambda target: plain_loop(files, target)),
                ours: lambda: _into_new_folder(
                    lambda target: convert(raw, target, split="slice", progress=False, folds_n=2)
                ),
            },
            options.repeat,
        )
    yield Row("conversion: plain loop of h5py and nibabel ÷ data_prep", ">= 3", times[loop] / times[ours], times)


def _into_new_folder(work: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        work(Path(folder))
