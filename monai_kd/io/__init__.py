"""Read and write files."""

from .atomic import atomic_write, write_json
from .checkpoints import load_weights, read_checkpoint, save_checkpoint
from .readers import SliceReader, read_image
from .unreadable import UnreadableImage

__all__ = [
    "SliceReader",
    "UnreadableImage",
    "atomic_write",
    "load_weights",
    "read_checkpoint",
    "read_image",
    "save_checkpoint",
    "write_json",
]
