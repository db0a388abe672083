"""``python -m monai_kd archive``: inference on more images than one process can do, by several at a time."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from data_prep.lock import only_writer

from ..bundle.familiarity import files_of_weights
from ..bundle.folder import bundle_folder
from ..config.errors import one_line_errors
from ..extras import require_extra
from ..inference import BundlePredictor, InputFiles
from ..inference.file_report import UNSUPPORTED, none_of
from ..inference.results import PATHS
from ..io.checksum import file_sha256
from ..io.table import read_table, write_table
from ..io.trained import settings_path
from .jobs import job_executor, run_jobs
from .plan import Plan, make_plan, table_of

__all__ = ["run_archive"]


@one_line_errors
def run_archive(
    bundle: str | Path,
    checkpoint: Path,
    input: Path,
    output_dir: Path,
    shard_size: int = 1000,
    workers: int = 2,
    cluster: str = "local",
    slurm: Sequence[str] = (),
    config: Path | None = None,
    device: str | None = None,
    bundles: Path | None = None,
) -> int:
    """Segment or classify all images of a folder in shards, by jobs of submitit, and write one table.

    A shard is done when its table has all its images; what a killed job left undone is given to a new one, up to three
    times. The same command continues a run that was ended. One such command at a time works in an output folder.

    Args:
        bundle: name of the bundle, see `find_bundle`, or its folder.
        checkpoint, input: as for its inference.json.
        output_dir: for ``plan.jsonl``, ``shards/<number>/`` with the outputs, ``jobs/`` with the logs, and the table.
        shard_size: images in a shard.
        workers: number of jobs at a time.
        cluster: ``"local"``: processes of this computer; ``"slurm"``: a job array.
        slurm: ``name=value`` of options of ``sbatch``.
        config: a file that is laid over inference.json, with other settings.
        device: of the network.
        bundles: folder of the bundles.

    Returns:
        The exit code: 0; 1 when some shards could not be done, or no image could be used; 2 after an error on stderr.
    """
    output_dir = Path(output_dir).expanduser().resolve()
    require_extra("cluster", ["submitit"], "archive")
    if workers < 1:
        raise ValueError(f"workers must be 1 or more, got {workers}.")
    folder = bundle_folder(bundle, bundles)
    configs = [str(folder.resolve() / "configs" / "inference.json"), *([str(config.resolve())] if config else [])]
    settings: dict[str, Any] = {"configs": configs, "checkpoint": str(Path(checkpoint).resolve()), "device": device}
    settings["checkpoint_sha256"] = file_sha256(Path(checkpoint))
    # What lies beside it decides too: the operating point, the temperature, what is unlike the training.
    beside = [settings_path(checkpoint), *files_of_weights(checkpoint).values()]
    settings["beside_sha256"] = {path.name: file_sha256(path) for path in beside if path.is_file()}
    settings["configs_sha256"] = [file_sha256(Path(path)) for path in configs]
    found = _found(folder, checkpoint, config, Path(input).expanduser(), output_dir)
    with only_writer(output_dir, "output_dir"):
        executor = job_executor(output_dir / "jobs", cluster, workers, slurm)
        plan = make_plan(Path(input).expanduser(), output_dir, settings, shard_size, found)
        # Jobs on one computer share its cores; one of Slurm has its own.
        sharing = workers if cluster == "local" else 1
        left = run_jobs(plan, executor, workers, sharing)
        if left:
            first, reason = next(iter(left.items()))
            print(
                f"error: {len(left)} of {plan.shards} shards are not done. Shard {first}: {reason}. The logs are in "
                f"{output_dir / 'jobs'}; the same command tries again.",
                file=sys.stderr,
            )
            return 1
        table, used = _write_table(plan)
    if used == 0:
        print(f"error: {none_of(len(plan.images))} be used; {table} has the reasons.", file=sys.stderr)
        return 1
    return 0


def _found(folder: Path, checkpoint: Path, config: Path | None, input: Path, output_dir: Path) -> InputFiles:
    """The images as the configs find them, whose network takes the weights: wrong ones would fail in every job."""
    over = [str(config.resolve())] if config else []
    places = {"input": str(input.absolute()), "output_dir": str(output_dir)}
    return BundlePredictor(folder, checkpoint, over, device="cpu", **places).value("inputs")


def _write_table(plan: Plan) -> tuple[Path, int]:
    """Write the rows of all shards, in the order of the files, and those of skipped files; how many could be used."""
    first = table_of(plan, 0)
    assert first is not None, "every shard is done"
    columns = list(read_table(first)[0])
    count = {"ok": 0, "failed": len(plan.unreadable), "skipped": len(plan.skipped)}

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(plan.shards):
            table = table_of(plan, number)
            assert table is not None, "every shard is done"
            within = plan.folder(number).relative_to(plan.output_dir).as_posix()
            for row in read_table(table):
                count[row["status"]] += 1
                yield {**row, **{name: f"{within}/{row[name]}" for name in PATHS if row.get(name)}}
        for folder, reason in plan.unreadable.items():
            yield {"file": folder, "status": "failed", "reason": reason}
        for file in plan.skipped:
            yield {"file": file, "status": "skipped", "reason": UNSUPPORTED}

    write_table(rows(), columns, plan.output_dir / first.name)
    counted = ", ".join(f"{number} {status}" for status, number in count.items())
    print(f"{counted}: {plan.output_dir / first.name}")
    return plan.output_dir / first.name, count["ok"]
