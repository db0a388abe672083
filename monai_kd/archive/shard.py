"""One shard of an archive: a bundle's inference on its images."""

from __future__ import annotations

import logging
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from monai.bundle import create_workflow

from data_prep.pool import available_cores

from ..config import choose_threads, literal
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

    @cached_property
    def unreadable(self) -> dict[str, str]:
        return {}


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


def run_shard(plan: Plan, number: int, device: str | None = None) -> None:
    """Run the inference of the plan's bundle on one shard, unless it is done.

    Args:
        plan, number: the shard.
        device: of the network, where the plan has none.

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
    if (device := settings["device"] or device) is not None:
        values["device"] = device
    workflow = create_workflow(config_file=settings["configs"], workflow_type="infer", **values)
    try:
        workflow.run()
    except Exception:
        # None of its images could be used, say: then each has its reason.
        if not is_done(plan, number):
            raise
    finally:
        workflow.finalize()


def run_shards(output_dir: str, numbers: list[int], place: int = 0, sharing: int = 1) -> None:
    """`run_shard` of several shards, one after the other: the work of one job.

    Args:
        output_dir: of the plan.
        numbers: of the shards.
        place: number of this job among those that share this computer, from 0: of several GPUs, each takes another.
        sharing: how many share it. Each takes its part of the cores, unless ``OMP_NUM_THREADS`` is set.

    Raises:
        Exception: the first error that ended a shard, after all others were tried.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        choose_threads(max(1, available_cores() // sharing))
    plan = read_plan(Path(output_dir))
    gpus = torch.cuda.device_count() if sharing > 1 else 1
    device = f"cuda:{place % gpus}" if gpus > 1 else None
    errors: list[Exception] = []
    for number in numbers:
        try:
            run_shard(plan, number, device)
        except Exception as error:
            logger.exception("shard %d of %d ended early", number, plan.shards)
            errors.append(error)
        else:
            logger.info("shard %d of %d is done", number, plan.shards)
    if errors:
        raise errors[0]
