from .result import ForMonaiLabeld

__all__ = ["ForMonaiLabeld"]
