"""The run that a config is evaluated in: its folder, its files and its overrides."""

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

from ..config import install_short_errors

__all__ = ["ARGUMENTS", "Running", "Workflow", "loading", "running"]

# Arguments of MONAI's commands that are passed together with the overrides.
ARGUMENTS = frozenset(
    inspect.signature(ConfigWorkflow.__init__).parameters.keys() - {"self", "override"} | {"args_file", "workflow_name"}
)


@dataclass(frozen=True)
class Running:
    """A config that is being evaluated.

    Attributes:
        parser: parser of the config, with all overrides; ``None`` when it can't be found.
        folder: folder of the config, ``configs/`` of a bundle; ``None`` when it can't be found.
        config_files: its files, later ones override earlier ones; empty outside the initialization of the config.
        overrides: id to value as Python received it; empty outside the initialization of the config.
    """

    parser: ConfigParser | None = None
    folder: Path | None = None
    config_files: Sequence[str] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)


_evaluated: ContextVar[Running | None] = ContextVar("evaluated", default=None)


class Workflow(ConfigWorkflow):
    """MONAI's ``ConfigWorkflow``, which makes the folder and the overrides of its config known to `running`.

    With MONAI's own workflow, `running` has to look for them on the call stack. Use this class from Python, or with
    ``--workflow_name monai_kd.bundle.Workflow``.

    Args:
        config_file: one file or several, of which later ones override earlier ones.
        kwargs: as for ``ConfigWorkflow``. Overrides are parsed as expressions; wrap values that are not, such as paths,
            in `monai_kd.config.literal`.
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
        """The value of an id, with references and expressions resolved, without running or initializing the config."""
        with self._evaluating():
            return self.parser.get_parsed_content(id)

    def _run_expr(self, id: str, **kwargs: Any) -> list[Any]:
        with self._evaluating():
            return super()._run_expr(id, **kwargs)

    def _get_property(self, name: str, property: dict) -> Any:
        with self._evaluating():
            return super()._get_property(name, property)


def running() -> Running:
    """The run whose config is being evaluated; of configs that are evaluated within each other, the innermost one.

    A `Workflow` records it. For MONAI's own commands and workflows it is found on the call stack, in the local
    variables of the functions of ``monai.bundle`` that evaluate the config. Only this function and `loading` inspect
    the stack.

    Raises:
        ValueError: ``init_id`` or ``final_id`` of MONAI's workflow is no id of the config, see `_check_stages`.
    """
    recorded, found = _evaluated.get(), _from_stack()
    return found if recorded is None or found.parser not in (None, recorded.parser) else recorded


def loading() -> Path | None:
    """The checkpoint that ``monai.bundle.load`` is loading into the network of the config that is being evaluated.

    ``None`` when the config is evaluated for anything else. MONAI's function does not pass the checkpoint on to the
    config, so that it is found on the call stack.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == "monai.bundle.scripts" and frame.f_code.co_name == "load":
            return Path(frame.f_locals["full_path"])
        frame = frame.f_back
    return None


def _check_stages(workflow: ConfigWorkflow) -> None:
    """MONAI ignores a stage that its config does not have. Its arguments behind the first may be the further files of
    ``--input slices/*``, which the shell expands: only the first would be used, and the config not initialized."""
    for name, default in (("init_id", "initialize"), ("final_id", "finalize")):
        given = getattr(workflow, name, default)
        if given != default and given not in workflow.parser:
            install_short_errors()
            raise ValueError(
                f"'{given}' is no id of the config, and was given as {name}. If it is a further value of an option: "
                "an option takes one, such as --input with a file or a folder."
            )


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
                # An outer config, within which a ConfigParser evaluates this one.
                break
            parser = own
        if folder is None and isinstance(owner, ConfigWorkflow):
            _check_stages(owner)
            folder = Path(owner.config_root_path)
        if given is not None and not isinstance(given, Mapping):
            files = [str(file) for file in ensure_tuple(given)]
            folder = folder or Path(files[0]).parent
            arguments = names.get("_args")
            if isinstance(arguments, Mapping):
                overrides = {name: value for name, value in arguments.items() if name not in ARGUMENTS}
    return Running(parser, folder, files, overrides)
