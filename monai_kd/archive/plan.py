"""Which shard of an archive each image belongs to, written down once."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from data_prep.lock import only_writer
from data_prep.text import printable

from ..inference import InputFiles
from ..inference.inputs import InputImage
from ..inference.results import TABLES, UNFINISHED
from ..io.atomic import atomic_write
from ..io.table import as_text, read_table

__all__ = ["PLAN", "Plan", "is_done", "make_plan", "read_plan", "table_of"]

PLAN = "plan.jsonl"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The images of an archive, in shards.

    Attributes:
        output_dir: with the plan, a folder for each shard, and the table at the end.
        settings: what the network is run with; the same in every run that continues this one.
        shard_size: images in a shard; the last one may have fewer.
        images: all images in the order of their labels, as `InputFiles` finds them.
        skipped: files of no supported kind.
        unreadable: folders that could not be listed, and why.
    """

    output_dir: Path
    settings: dict[str, Any]
    shard_size: int
    images: list[InputImage]
    skipped: list[str]
    unreadable: dict[str, str]

    @cached_property
    def shards(self) -> int:
        """Number of shards."""
        return -(-len(self.images) // self.shard_size)

    def of_shard(self, number: int) -> list[InputImage]:
        """The images of a shard, from 0."""
        return self.images[number * self.shard_size : (number + 1) * self.shard_size]

    def folder(self, number: int) -> Path:
        """Where the outputs of a shard go."""
        return self.output_dir / "shards" / f"{number:06d}"


def make_plan(
    source: Path, output_dir: Path, settings: Mapping[str, Any], shard_size: int, found: InputFiles | None = None
) -> Plan:
    """Read the plan in the output folder, or list the images of a file or folder and write it.

    A plan that is read is not compared with the folder, which is logged as a warning. One that was made with other
    settings is made anew, with a warning too, where no shard of it is done.

    Args:
        source: as for inference.
        output_dir: of the plan.
        settings: see `Plan`; values of JSON.
        shard_size: 1 or more.
        found: the images of the source, for configs that find other ones than `InputFiles`.

    Raises:
        FileNotFoundError: there is no such file or folder.
        FolderInUse: a plan would be made anew, and a job is still working on a shard of the one before.
        ValueError: ``shard_size`` is less than 1, nothing can be segmented there, or a shard is done by the plan
            in the folder, which was made with other settings, or for other images.
    """
    if shard_size < 1:
        raise ValueError(f"shard_size must be 1 or more, got {shard_size}.")
    told = {**settings, "input": str(source.resolve())}
    if (output_dir / PLAN).is_file():
        plan = read_plan(output_dir)
        other = [name for name in told | plan.settings if told.get(name) != plan.settings.get(name)]
        other += ["shard_size"] if plan.shard_size != shard_size else []
        if not other:
            logger.warning(
                "%s is continued by its plan of %d images: those that came since are not seen, give another output_dir "
                "for them.",
                *(output_dir, len(plan.images)),
            )
            return plan
        if any(is_done(plan, number) for number in range(plan.shards)):
            raise ValueError(
                f"{output_dir} holds an archive that was begun with another {', '.join(other)}: give the values of "
                "then, or another folder."
            )
        logger.warning(
            "%s was begun with another %s, and no shard of it is done: it begins anew.", output_dir, ", ".join(other)
        )
        _clear(plan)
    inputs = InputFiles(source, output_dir) if found is None else found
    plan = Plan(output_dir, told, shard_size, inputs.images, inputs.skipped, inputs.unreadable)
    for folder, reason in plan.unreadable.items():
        logger.warning("%s: failed, %s", printable(folder), reason)
    with atomic_write(output_dir / PLAN) as temporary, open(temporary, "w", encoding="utf-8") as file:
        head = {"settings": told, "shard_size": shard_size, "skipped": plan.skipped, "unreadable": plan.unreadable}
        for line in (head, *([image.label, image.name, [str(path) for path in image.paths]] for image in plan.images)):
            file.write(json.dumps(line) + "\n")
    return plan


def _clear(plan: Plan) -> None:
    """Remove what jobs began: shards of another plan may be fewer, or without files of these names."""
    for number in range(plan.shards):
        if (folder := plan.folder(number)).is_dir():
            with only_writer(folder):
                shutil.rmtree(folder)


def read_plan(output_dir: Path) -> Plan:
    """The plan that `make_plan` wrote.

    Raises:
        ValueError: it is damaged.
    """
    return _read(output_dir, (output_dir / PLAN).stat().st_mtime_ns)


# Each shard of a job asks for it.
@lru_cache(maxsize=1)
def _read(output_dir: Path, _written: int) -> Plan:
    path = output_dir / PLAN
    try:
        head, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        images = [InputImage(tuple(map(Path, paths)), label, name) for label, name, paths in lines]
        unused = head["skipped"], head.get("unreadable", {})
        return Plan(output_dir, head["settings"], head["shard_size"], images, *unused)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and begin again in another folder.") from error


def table_of(plan: Plan, number: int) -> Path | None:
    """The table of a shard, if there is one."""
    return next((path for name in TABLES if (path := plan.folder(number) / name).is_file()), None)


def is_done(plan: Plan, number: int) -> bool:
    """Whether the table of a shard has every image of the shard, and no other, and none is unfinished."""
    table = table_of(plan, number)
    rows = [] if table is None else read_table(table)
    return UNFINISHED not in {row.get("status") for row in rows} and {row["file"] for row in rows} == {
        as_text(image.label) for image in plan.of_shard(number)
    }
