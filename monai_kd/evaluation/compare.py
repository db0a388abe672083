"""``python -m monai_kd compare``: comparison of two evaluations."""

from __future__ import annotations

from pathlib import Path

from ..config.errors import one_line_errors
from ..data import NO_TUMOUR
from ..metrics import (
    VOLUME_METRICS,
    check_same_data,
    metrics_of,
    notes_of,
    paired_differences,
    paired_presence,
    paired_table,
    read_slices,
    with_kinds,
)

__all__ = ["run_compare"]


LEAST_RESAMPLES = 100  # of which 2.5 % at each end are an interval


@one_line_errors
def run_compare(first: Path, second: Path, resamples: int = 2000, seed: int = 0) -> int:
    """Print `monai_kd.metrics.paired_table` of two evaluations, and `paired_presence` where slices have no tumour.

    Before the table stand the notes of the evaluations, such as that slices are drawn or were trained on.

    Of classifiers of which one knows "no tumour", the kinds of tumours are compared too, see `with_kinds`.

    Args:
        first, second: output folders of ``evaluate.json`` for the same slices or volumes.
        resamples, seed: of the bootstrap over patients, see `monai_kd.metrics.paired_differences`.

    Returns:
        The exit code: 0, or 2 if they can't be compared, with the reason on stderr.
    """
    if resamples < LEAST_RESAMPLES:
        raise ValueError(f"--resamples must be at least {LEAST_RESAMPLES}, got {resamples}: fewer give no interval.")
    if seed < 0:
        raise ValueError(f"--seed must be a whole number from 0, got {seed}.")
    check_same_data(first, second)
    slices = with_kinds(read_slices(first), read_slices(second), NO_TUMOUR)
    found = paired_differences(*slices, resamples, seed) | paired_presence(*slices, resamples, seed)
    of = "volumes" if metrics_of(slices[0][0]) == VOLUME_METRICS else "slices"
    print(f"first: {first}\nsecond: {second}")
    notes = {"first": notes_of(first), "second": notes_of(second)}
    for note in dict.fromkeys(note for each in notes.values() for note in each):
        who = [name for name, own in notes.items() if note in own]
        print(f"NOTE on {' and '.join(who)}: {note}")
    print(f"\n{paired_table(found, of)}")
    return 0
