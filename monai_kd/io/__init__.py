"""Read and write files."""

from .atomic import atomic_write, write_json
from .checkpoints import load_weights, read_checkpoint, save_checkpoint
from .readers import SliceReader, read_image
from .unreadable import UnreadableImage
from .volumes import VolumeReader, read_volume

__all__ = [
    "SliceReader",
    "UnreadableImage",
    "VolumeReader",
    "atomic_write",
    "load_weights",
    "read_checkpoint",
    "read_image",
    "read_volume",
    "save_checkpoint",
    "write_json",
]
