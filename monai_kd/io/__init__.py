"""Read and write files."""

from .atomic import atomic_write, write_json
from .checkpoints import load_weights, read_checkpoint, save_checkpoint
from .readers import SliceReader, read_image
from .source import SourceImage, read_source
from .unreadable import UnreadableImage
from .volumes import VolumeReader, read_volume

__all__ = [
    "SliceReader",
    "SourceImage",
    "UnreadableImage",
    "VolumeReader",
    "atomic_write",
    "load_weights",
    "read_checkpoint",
    "read_image",
    "read_source",
    "read_volume",
    "save_checkpoint",
    "write_json",
]
