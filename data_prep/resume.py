"""Which source files still have to be converted: those that no earlier run has converted, and no duplicates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep import dataset, journal
from data_prep.limits import TooLarge
from data_prep.sources import UNREADABLE, Reader, Source, reason_of, slice_id, stamp_of
from data_prep.worker import BAD, DUPLICATE, OK, Job, Row, output_files

__all__ = ["converted_earlier", "duplicate", "first_of_each", "jobs", "remove_outputs"]


def converted_earlier(dst: Path, sources: list[Source], log: journal.Journal) -> dict[str, Row]:
    """Rows of the slices that an earlier run converted into `dst`, by file name.

    Raises:
        DatasetError: `dst` holds slices that are not in `sources`, or its manifest is damaged.
    """
    # By number first: of several files with the same number, only the one converted last is in the output.
    last = {row["id"]: row for row in dataset.read_manifest(dst) if row["status"] == OK} | log.done
    rows = {row["file"]: row for row in last.values()}
    foreign = sorted(rows.keys() - {source.name for source in sources})
    if foreign:
        raise dataset.DatasetError(
            f"{dst} holds {len(foreign)} slices that are not in SRC ({foreign[0]}, for one): "
            "choose another folder, or delete this one"
        )
    return rows


def jobs(
    sources: list[Source],
    reader: Reader,
    dst: Path,
    format: str,
    earlier: dict[str, Row],
    rows: dict[str, Row],
    reused: list[str],
) -> Iterator[Job]:
    """Yield a job for each source that has to be converted.

    Args:
        sources: files to convert, unless an earlier run has.
        reader: reads the members of archives.
        dst: data set folder.
        format: of the output files, see `convert`.
        earlier: rows of `converted_earlier`.
        rows: filled here with the rows of files that need no job.
        reused: filled here with the names of files whose output is kept.
    """
    for source in sources:
        identity = slice_id(source.name)
        old = earlier.get(source.name)
        try:
            stamp = _stamp(source, reader) if old else None
            if old and old["stamp"] == stamp and _complete(dst, identity, format):
                rows[source.name] = _as_converted(old)
                reused.append(source.name)
                continue
            content = Path(source.chain[0]) if len(source.chain) == 1 else reader.read(source.chain)
        except (*UNREADABLE, MemoryError) as error:
            rows[source.name] = _unreadable(source, error)
            continue
        yield Job(source.name, identity, content, dst, format, reader.max_pixels)


def first_of_each(sources: list[Source]) -> list[Source]:
    """The first file of each number, in the order of `sources`."""
    firsts: dict[str, Source] = {}
    for source in sources:
        firsts.setdefault(slice_id(source.name), source)
    return list(firsts.values())


def duplicate(source: Source, taken: Row, reader: Reader) -> Row:
    """The row of a file with the number of a usable file before it, whose row is `taken`."""
    try:
        stamp = _stamp(source, reader)
    except (*UNREADABLE, MemoryError) as error:
        return _unreadable(source, error)
    found = f"slice {taken['id']} was already found in {taken['file']}"
    if stamp == taken["stamp"]:
        reason = f"{found}, with the same content: only that one is used"
    else:
        reason = f"{found}, with other content: only that one is used; give this file another name to keep both"
    return {"file": source.name, "status": DUPLICATE, "reason": reason, "stamp": stamp}


def remove_outputs(dst: Path, identity: str, slices: list[Row], format: str) -> None:
    """Remove the files of a slice whose source can't be converted any more, unless another file has its number."""
    if all(row["id"] != identity for row in slices):
        for pair in output_files(identity, format):
            for path in pair:
                (dst / path).unlink(missing_ok=True)


def _unreadable(source: Source, error: Exception) -> Row:
    reason = reason_of(error)
    if not isinstance(error, TooLarge | MemoryError):
        reason = f"cannot be read ({reason}): copy or download it again"
    return {"file": source.name, "status": BAD, "reason": reason}


def _stamp(source: Source, reader: Reader) -> str:
    return source.stamp or stamp_of(reader.read(source.chain))


def _complete(dst: Path, identity: str, format: str) -> bool:
    return all((dst / path).exists() for pair in output_files(identity, format) for path in pair)


def _as_converted(row: Row) -> Row:
    """The row without notes on folds, which are assigned anew by each run."""
    notes = row.get("reason", "").split("; ")
    kept = "; ".join(note for note in notes if "cvind.mat" not in note)
    return {**row, "reason": kept}
