"""Jobs that end the process that they run in, as a crash in a library does. Named by functions that children import."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

from data_prep.worker import Done, Job, convert_file


class Awkward(Exception):
    """An error that can be pickled and not be read again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


def double(number: int) -> int:
    print("printed by a library")
    return 2 * number


def refuse(number: int) -> NoReturn:
    raise ValueError(f"not {number}")


def refuse_awkwardly(number: int) -> NoReturn:
    raise Awkward("not ", str(number))


def end(_: object) -> NoReturn:
    os._exit(7)


def abort(_: object) -> NoReturn:
    os.abort()


def end_at_three(number: int) -> int:
    return abort(number) if number == 3 else double(number)


def end_once(marker: Path) -> str:
    """Ends the first time only."""
    if not marker.exists():
        marker.touch()
        os._exit(7)
    return "done"


def convert_or_end(job: Job) -> Done:
    """`convert_file`, where the number of the file says that a library would crash on it."""
    return abort(job) if Path(job.name).name in ("4.mat", "17.mat") else convert_file(job)


def no_memory(*_: object, **__: object) -> NoReturn:
    raise MemoryError
