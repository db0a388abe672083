"""What loss terms are called with, by the names in their attribute ``inputs``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from torch import nn

__all__ = ["PROJECTED", "SUPERVISED", "TAPPED", "check_inputs", "inputs_of", "offered", "use"]

SUPERVISED = ("student", "label")  # of a term that names none
# In the names of inputs: features of the same channels on both sides, and as they are.
PROJECTED, TAPPED = "_features", "_taps"


def inputs_of(term: nn.Module) -> tuple[str, ...]:
    """The names of the arguments of a term."""
    return getattr(term, "inputs", SUPERVISED)


def use(terms: Iterable[nn.Module], *kinds: str) -> bool:
    """Whether any term gets features of one of these kinds, `PROJECTED` or `TAPPED`."""
    return any(kind in name for term in terms for name in inputs_of(term) for kind in kinds)


def offered(outputs: Collection[str]) -> set[str]:
    """The inputs that there are for the outputs of a `Distiller`, by their names.

    Example:
        >>> sorted(offered(["student", "student_features", "teacher", "teacher_features"]))[-4:]
        ['student_taps', 'teacher', 'teacher_features', 'teacher_taps']
    """
    # Of a network that also classifies, classes are output in training alone.
    names = {*outputs, "label", "class", "student_heads", "student_classes"}
    for name in outputs:
        if name.startswith(f"teacher{PROJECTED}"):
            of = name.removeprefix(f"teacher{PROJECTED}")
            names |= {f"{side}{kind}{of}" for side in ("student", "teacher") for kind in (PROJECTED, TAPPED)}
    return names


def check_inputs(terms: nn.ModuleDict | Mapping[str, nn.Module], given: Collection[str]) -> None:
    """Check that each term gets what it is called with.

    Raises:
        ValueError: an input of a term is missing.
    """
    for name, term in terms.items():
        if missing := [key for key in inputs_of(term) if key not in given]:
            raise ValueError(f"loss term '{name}' needs {', '.join(missing)}; there is {', '.join(sorted(given))}.")
