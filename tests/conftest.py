"""Data that several test folders share."""

import logging
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from disc_slices import write_disc_slices
from documented import ROOT
from matplotlib.figure import Figure
from monai.bundle import ComponentLocator
from page_lines import lines_of_test

torch.set_num_threads(1)  # tests run side by side
os.environ.setdefault("OMP_NUM_THREADS", "1")  # and so do the processes that they start


# What MONAI finds in the same modules stays the same; each of its parsers looks again.
_found_in = cache(ComponentLocator._find_classes_or_functions)
ComponentLocator._find_classes_or_functions = lambda self, modnames: _found_in(ComponentLocator, tuple(modnames))


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """A bundle that runs sets the level of all logs by its logging.conf, also for the tests that come after."""
    level = logging.getLogger().level
    yield
    logging.getLogger().setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory) -> Iterator[None]:
    """Where runs keep prepared slices and phantoms: not in the home of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        if "MONAI_KD_HOME" not in os.environ:
            patch.setenv("MONAI_KD_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def disc_dataset(tmp_path_factory) -> Path:
    return write_disc_slices(tmp_path_factory.mktemp("discs"))


@pytest.fixture(scope="session")
def class_dataset(tmp_path_factory) -> Path:
    """Every class in each of the three folds, one patient of it; in `disc_dataset` each fold has one class."""
    return write_disc_slices(tmp_path_factory.mktemp("classes"), count=18, class_of=lambda patient: patient // 3)


@pytest.fixture
def lines(request: pytest.FixtureRequest) -> list[str]:
    """The command lines of the pages that the test is said to run, see `page_lines.OWN`."""
    return lines_of_test(f"{request.path.relative_to(ROOT).as_posix()}::{request.function.__name__}")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved while the test runs."""
    saved: list[Figure] = []
    original = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (saved.append(self), original(self, *a, **k)))
    return saved
