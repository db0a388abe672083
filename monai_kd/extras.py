"""Optional dependencies, which only some commands need, such as ``monai_kd[dicom]`` and ``monai_kd[openvino]``."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

__all__ = ["require_extra"]


def require_extra(extra: str, modules: Sequence[str], asked: str, otherwise: str = "") -> None:
    """Check that the packages of an extra are installed, without importing them.

    Args:
        extra: name of the extra in ``setup.cfg``.
        modules: modules that are needed.
        asked: the command or setting that needs them.
        otherwise: an alternative, as the end of the message.

    Raises:
        ImportError: a module is not installed; the message has the command to install it.

    Example:
        >>> require_extra("serve", ["json", "no_such_module"], "serve")
        Traceback (most recent call last):
        ImportError: serve needs no_such_module: pip install 'monai_kd[serve]'.
    """
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    if absent:
        raise ImportError(f"{asked} needs {', '.join(absent)}: pip install 'monai_kd[{extra}]'{otherwise}.")
