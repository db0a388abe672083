from .template import page_template

__all__ = ["page_template"]
