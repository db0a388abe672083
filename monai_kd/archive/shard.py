"""One shard of an archive: a bundle's inference on its images."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.bundle import create_workflow

from ..config import literal
from ..inference import InputFiles
from ..inference.inputs import InputImage
from ..inference.results import TABLES, UNFINISHED
from ..io.table import as_text, read_table
from .plan import Plan, read_plan

__all__ = ["ShardFiles", "is_done", "run_shard", "run_shards", "table_of"]

logger = logging.getLogger(__name__)


class ShardFiles(InputFiles):
    """The images of one shard, in place of a folder.

    Args:
        plan_dir: folder of the plan.
        number: of the shard.
        output_dir: of the shard.
    """

    def __init__(self, plan_dir: str | Path, number: int, output_dir: str | Path) -> None:
        super().__init__(plan_dir, output_dir)
        self.plan_dir, self.number = Path(plan_dir), int(number)

    @cached_property
    def images(self) -> list[InputImage]:
        return read_plan(self.plan_dir).of_shard(self.number)

    @cached_property
    def skipped(self) -> list[str]:
        return []


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


def run_shard(plan: Plan, number: int) -> None:
    """Run the inference of the plan's bundle on one shard, unless it is done.

    Raises:
        Exception: whatever ends the run before every image has a row, such as a full disk.
    """
    if is_done(plan, number):
        return
    settings, folder = plan.settings, plan.folder(number)
    inputs = {
        "_target_": "monai_kd.archive.ShardFiles",
        **{"plan_dir": literal(str(plan.output_dir)), "number": number, "output_dir": literal(str(folder))},
    }
    values: dict[str, Any] = {"checkpoint": literal(settings["checkpoint"]), "output_dir": literal(str(folder))}
    values |= {"input": literal(settings["input"]), "inputs": inputs, "logging_file": False}
    if settings["device"] is not None:
        values["device"] = settings["device"]
    workflow = create_workflow(config_file=settings["configs"], workflow_type="infer", **values)
    try:
        workflow.run()
    except Exception:
        # None of its images could be used, say: then each has its reason.
        if not is_done(plan, number):
            raise
    finally:
        workflow.finalize()


def run_shards(output_dir: str, numbers: list[int]) -> None:
    """`run_shard` of several shards, one after the other: the work of one job."""
    plan = read_plan(Path(output_dir))
    for number in numbers:
        run_shard(plan, number)
        logger.info("shard %d of %d is done", number, plan.shards)
