"""One shard of an archive: a bundle's inference on its images."""

from __future__ import annotations

import logging
import os
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from monai.bundle import create_workflow

from data_prep.lock import only_writer
from data_prep.pool import available_cores

from ..config import cause_of, choose_threads, literal
from ..inference import InputFiles
from ..inference.inputs import InputImage
from .plan import Plan, is_done, read_plan

__all__ = ["ShardFiles", "run_shard", "run_shards"]

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


def run_shard(plan: Plan, number: int, device: str | None = None) -> None:
    """Run the inference of the plan's bundle on one shard, unless it is done.

    Another process that is working on the shard, such as a job of a run that was killed, is waited for.

    Args:
        plan, number: the shard.
        device: of the network, where the plan has none.

    Raises:
        Exception: whatever ends the run before every image has a row, such as a full disk.
    """
    settings, folder = plan.settings, plan.folder(number)
    with only_writer(folder, wait=True):
        if is_done(plan, number):
            return
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


def run_shards(output_dir: str, numbers: list[int], place: int = 0, sharing: int = 1) -> dict[int, str]:
    """`run_shard` of several shards, one after the other: the work of one job.

    Args:
        output_dir: of the plan.
        numbers: of the shards.
        place: number of this job among those that share this computer, from 0: of several GPUs, each takes another.
        sharing: how many share it. Each takes its part of the cores, unless ``OMP_NUM_THREADS`` is set.

    Returns:
        The errors that ended shards, after which the others were tried.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        choose_threads(max(1, available_cores() // sharing))
    gpus = torch.cuda.device_count() if sharing > 1 else 1
    device = f"cuda:{place % gpus}" if gpus > 1 else None
    errors: dict[int, str] = {}
    for number in numbers:
        try:
            run_shard(read_plan(Path(output_dir)), number, device)
        except Exception as error:
            logger.exception("shard %d ended early", number)
            cause = cause_of(error)
            errors[number] = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
        else:
            logger.info("shard %d is done", number)
    return errors
