"""The doors to MONAI Label; what needs it is in `monai_kd.label.server` and what that imports."""

from .app import make_app, run_label_app
from .result import ForMonaiLabeld

__all__ = ["ForMonaiLabeld", "make_app", "run_label_app"]
