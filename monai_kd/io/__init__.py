from .readers import SliceReader, read_image
from .unreadable import UnreadableImage

__all__ = ["SliceReader", "UnreadableImage", "read_image"]
