from .command import run_serve

__all__ = ["run_serve"]
