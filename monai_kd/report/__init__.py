from .command import run_report

__all__ = ["run_report"]
