"""The image size in a compressed codestream, which decoders use instead of the size in the DICOM header."""

from __future__ import annotations

__all__ = ["frame_of", "size_of"]

ITEM = b"\xfe\xff\x00\xe0"
JPEG, JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
# Markers of frame headers of all kinds of JPEG, and of JPEG-LS.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xD9)})


def frame_of(pixel_data: bytes) -> bytes:
    """The joined fragments of the encapsulated pixel data of one frame, without the basic offset table."""
    fragments, at = [], 0
    while pixel_data[at : at + 4] == ITEM:
        length = int.from_bytes(pixel_data[at + 4 : at + 8], "little")
        fragments.append(pixel_data[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(fragments[1:])


def size_of(stream: bytes) -> tuple[int, int, int] | None:
    """Rows, columns and components of a JPEG, JPEG-LS or JPEG 2000 codestream; ``None`` for any other.

    Example:
        >>> size_of(bytes.fromhex("ffd8 ffe00004 0000 ffc0000b 08 0040 0030 01"))
        (64, 48, 1)
    """
    start = stream.find(JPEG_2000)
    if start >= 0 and not stream.startswith(JPEG):
        # After the marker: length, capabilities, eight numbers of four bytes, and the number of components.
        header = stream[start + 4 : start + 42]
        columns, rows, left, top = (int.from_bytes(header[at : at + 4], "big") for at in (4, 8, 12, 16))
        return rows - top, columns - left, int.from_bytes(header[36:38], "big")
    at = 2 if stream.startswith(JPEG) else len(stream)
    while at + 10 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker in FRAMES:
            rows, columns = (int.from_bytes(stream[place : place + 2], "big") for place in (at + 5, at + 7))
            return rows, columns, stream[at + 9]
        if marker == 0xFF:
            at += 1
        elif marker in WITHOUT_LENGTH:
            at += 2
        else:
            at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None
