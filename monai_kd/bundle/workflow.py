"""The run that a config is evaluated in: where the config lies, and how it was overridden."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow
from monai.utils import ensure_tuple

__all__ = ["ARGUMENTS", "Running", "Workflow", "running"]

# Arguments of MONAI's commands that travel beside the overrides.
ARGUMENTS = frozenset(
    inspect.signature(ConfigWorkflow.__init__).parameters.keys() - {"self", "override"} | {"args_file", "workflow_name"}
)


@dataclass(frozen=True)
class Running:
    """A config that is being evaluated.

    Attributes:
        parser: of the config, with all overrides; ``None`` when it cannot be found.
        folder: that the config lies in, the ``configs/`` of a bundle; ``None`` when it cannot be found.
        config_files: its files, later ones laid over earlier ones; known while the config is initialized.
        overrides: ids that were overridden, with their values as Python got them; known for as long.
    """

    parser: ConfigParser | None = None
    folder: Path | None = None
    config_files: Sequence[str] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)


_evaluated: ContextVar[Running | None] = ContextVar("evaluated", default=None)


class Workflow(ConfigWorkflow):
    """MONAI's ``ConfigWorkflow`` whose config can ask where it lies and how it was overridden.

    MONAI tells a config neither, so that the plain command has to look for both on the call stack, see `running`. Use
    this class from Python, or by ``--workflow_name monai_kd.bundle.Workflow``.

    Args:
        config_file: one file or several, later ones laid over earlier ones.
        kwargs: as for ``ConfigWorkflow``. Overrides are parsed; wrap values that are to be taken as they are, paths
            say, into `monai_kd.config.literal`.
    """

    def __init__(self, config_file: str | Sequence[str], **kwargs: Any) -> None:
        super().__init__(config_file, **kwargs)
        overrides = {name: value for name, value in kwargs.items() if name not in ARGUMENTS}
        files = [str(file) for file in ensure_tuple(config_file)]
        self._running = Running(self.parser, Path(self.config_root_path), files, overrides)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        token = _evaluated.set(self._running)
        try:
            yield
        finally:
            _evaluated.reset(token)

    def value(self, id: str) -> Any:
        """What stands under an id, with references and expressions resolved; nothing is run or initialized."""
        with self._evaluating():
            return self.parser.get_parsed_content(id)

    def _run_expr(self, id: str, **kwargs: Any) -> list[Any]:
        with self._evaluating():
            return super()._run_expr(id, **kwargs)

    def _get_property(self, name: str, property: dict) -> Any:
        with self._evaluating():
            return super()._get_property(name, property)


def running() -> Running:
    """The run whose config is being evaluated at this moment.

    A `Workflow` tells it. For MONAI's own commands and workflows it is read off the call stack, where the functions of
    ``monai.bundle`` that evaluate the config hold all of it in their local variables. This is the one place where
    that is done. Of configs that are evaluated within each other it is the innermost one.
    """
    told, found = _evaluated.get(), _from_stack()
    return found if told is None or found.parser not in (None, told.parser) else told


def _from_stack() -> Running:
    parser: ConfigParser | None = None
    folder: Path | None = None
    files: Sequence[str] = ()
    overrides: Mapping[str, Any] = {}
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not files:
        names, module = frame.f_locals, frame.f_globals.get("__name__", "")
        frame = frame.f_back
        if not module.startswith("monai.bundle."):
            continue
        owner, given = names.get("self"), names.get("config_file_") or names.get("config_file")
        if isinstance(owner, (ConfigParser, ConfigWorkflow)):
            own = owner if isinstance(owner, ConfigParser) else owner.parser
            if parser is not None and own is not parser:
                # A config within which this one, parsed by hand, is evaluated.
                break
            parser = own
        if folder is None and isinstance(owner, ConfigWorkflow):
            folder = Path(owner.config_root_path)
        if given is not None and not isinstance(given, Mapping):
            files = [str(file) for file in ensure_tuple(given)]
            folder = folder or Path(files[0]).parent
            arguments = names.get("_args")
            if isinstance(arguments, Mapping):
                overrides = {name: value for name, value in arguments.items() if name not in ARGUMENTS}
    return Running(parser, folder, files, overrides)
