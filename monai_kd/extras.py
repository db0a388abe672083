"""What only some commands need, and pip installs by name: ``monai_kd[dicom]``, ``[export]``, ``[serve]``."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

__all__ = ["require_extra"]


def require_extra(extra: str, modules: Sequence[str], asked: str, otherwise: str = "") -> None:
    """Say how to get packages of an extra, when they are not installed; none is imported.

    Args:
        extra: its name in ``setup.cfg``.
        modules: that are about to be imported.
        asked: the command or setting that needs them.
        otherwise: what else can be done, to end the sentence with.

    Raises:
        ImportError: one of them is not installed.

    Example:
        >>> require_extra("serve", ["json", "no_such_module"], "serve")
        Traceback (most recent call last):
        ImportError: serve needs no_such_module: pip install 'monai_kd[serve]'.
    """
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    if absent:
        raise ImportError(f"{asked} needs {', '.join(absent)}: pip install 'monai_kd[{extra}]'{otherwise}.")
