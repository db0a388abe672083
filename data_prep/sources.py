"""Find and read source files: in folders, single files, zip archives and nested archives, which stay in memory."""

from __future__ import annotations

import hashlib
import io
import lzma
import os
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from data_prep.limits import MAX_PIXELS, TooLarge, check_bytes, read_at_most
from data_prep.regular import check_regular

# Raised by zipfile for a damaged, encrypted or unsupported archive; ValueError for impossible offsets and names.
UNREADABLE = (
    *(OSError, EOFError, ValueError, RuntimeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
LONGEST_ID = 200  # characters; suffixes and temporary names add some 30 to it

MOST_NESTED = 4  # levels of archives: one that contains itself has no end
# Bytes of a bzip2 or LZMA member that are decompressed at once: zipfile does not limit the size of the result.
SMALL_STEP = 64


class SourceError(Exception):
    """SRC cannot be used at all."""


@dataclass(frozen=True)
class Source:
    """One `.mat` file.

    Attributes:
        name: path relative to SRC with forward slashes, through archives: `part1.zip/12.mat`.
        chain: path on disk, followed by the member names that lead to the file through archives.
        stamp: size and CRC-32 of the content, `212964-7d3f01aa`, of a member of an archive; else None.
        problem: why this file cannot be read at all, or None.
    """

    name: str
    chain: tuple[str, ...]
    stamp: str | None = None
    problem: str | None = None


def stamp_of(blob: bytes) -> str:
    """Size and CRC-32 of a file's content, by which a changed file is recognised."""
    return _stamp(len(blob), zlib.crc32(blob))


def _stamp(size: int, crc: int) -> str:
    return f"{size}-{crc:08x}"


def slice_id(name: str) -> str:
    """Stem of a slice's output files: `0012` for `a/12.mat`; other names are kept, unsafe characters as underscores.

    Names of letters other than A to Z are kept distinct by a hash of the whole name, and so are those that leave no
    room for a suffix, which are cut.
    """
    stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    if re.fullmatch(r"[0-9]{1,9}", stem):
        return f"{int(stem):04d}"
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", stem)
    if len(safe) <= LONGEST_ID and stem.isascii():
        return safe
    return f"{safe[: LONGEST_ID - 9]}-{hashlib.sha256(stem.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def reason_of(error: Exception) -> str:
    """The message of an error, or its type where the message is empty, as of an ``EOFError`` in an archive."""
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    return str(error) or type(error).__name__


class Reader:
    """Reads sources. Keeps the last archive open, so that reading in the order of `scan` opens each archive once.

    An archive inside an archive is held in memory while its members are read (220 MB for a Figshare part).

    Args:
        max_pixels: largest number of pixels of an image, which also limits the size of its file in bytes.
    """

    def __init__(self, max_pixels: int = MAX_PIXELS) -> None:
        self.max_pixels = max_pixels
        self._open: list[tuple[str, zipfile.ZipFile]] = []

    def read(self, chain: tuple[str, ...]) -> bytes:
        """Content of the file.

        Raises:
            TooLarge: it is larger than `most_bytes` of `max_pixels`, before or after decompression.
            Exception: one of `UNREADABLE`.
        """
        if len(chain) == 1:
            check_bytes(check_regular(chain[0]), self.max_pixels)
            return Path(chain[0]).read_bytes()
        return _member(self.archive(chain[:-1]), chain[-1], self.max_pixels)

    def archive(self, chain: tuple[str, ...]) -> zipfile.ZipFile:
        """The archive at the end of the chain, opened."""
        same = 0
        while same < min(len(chain), len(self._open)) and self._open[same][0] == chain[same]:
            same += 1
        while len(self._open) > same:
            self._open.pop()[1].close()
        for name in chain[same:]:
            if self._open:
                # An archive of many small images is larger than one of them.
                file = io.BytesIO(_member(self._open[-1][1], name, max(self.max_pixels, MAX_PIXELS)))
                self._open.append((name, zipfile.ZipFile(file)))
            else:
                check_regular(name)
                self._open.append((name, zipfile.ZipFile(name)))
        return self._open[-1][1]

    def close(self) -> None:
        while self._open:
            self._open.pop()[1].close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _member(archive: zipfile.ZipFile, name: str, max_pixels: int) -> bytes:
    """Content of a member; its bytes are counted, because the size in the archive's directory may be wrong."""
    info = archive.getinfo(name)
    check_bytes(info.file_size, max_pixels)
    with archive.open(info) as stream:
        if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return read_at_most(stream, max_pixels)
        assert isinstance(stream, zipfile.ZipExtFile), "it is open for reading"
        stream.MIN_READ_SIZE = SMALL_STEP
        return read_at_most(_Stepwise(stream), max_pixels)


class _Stepwise:
    """A member of an archive, decompressed from so few bytes at once that the result can't fill the memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream

    def read(self, size: int, /) -> bytes:
        return self.stream.read(min(size, SMALL_STEP))


def scan(src: str | Path, max_pixels: int = MAX_PIXELS) -> list[Source]:
    """List all `.mat` files of SRC: a folder, with its subfolders and zip archives, one archive, or a single file.

    Files are sorted by folder or archive, and in it by number. Hidden files and `__MACOSX` folders are left out: macOS
    puts files of the same names there that hold no data. Linked files are read, linked folders are not entered. A
    folder that may not be read, and a pipe or a device with the name of a file, is a source with a problem.

    Args:
        src: folder or file.
        max_pixels: as for `Reader`.

    Raises:
        SourceError: SRC does not exist, is of another kind, may not be read, or has no `.mat` file in it.
    """
    src = Path(src)
    if not src.exists():
        raise SourceError(f"{src} does not exist")
    closed: list[OSError] = []
    if src.is_dir():
        files = [Path(folder, name) for folder, _, names in os.walk(src, onerror=closed.append) for name in names]
        named = {path.relative_to(src).as_posix(): str(path) for path in files}
    else:
        named = {src.name: str(src)}
    found: list[Source] = []
    with Reader(max_pixels) as reader:
        for name in sorted(filter(_wanted, named), key=_order):
            found += _expand(name, (named[name],), None, reader)
    found += _closed_folders(src, closed)
    if not found:
        raise SourceError(f"no .mat file and no .zip archive with .mat files in {src}")
    return found


def _closed_folders(src: Path, errors: list[OSError]) -> list[Source]:
    found = []
    for error in sorted(errors, key=lambda error: str(error.filename)):
        path = Path(error.filename)
        if path == src:
            raise SourceError(f"{src} cannot be read ({error.strerror}): ask for the right to read it")
        name = path.relative_to(src).as_posix()
        if not _hidden(name):
            problem = f"the folder cannot be read ({error.strerror}): ask for the right to read it"
            found.append(Source(name, (str(path),), None, problem))
    return found


def _wanted(name: str) -> bool:
    return name.lower().endswith((".mat", ".zip")) and not _hidden(name)


def _hidden(name: str) -> bool:
    return any(part == "__MACOSX" or part.startswith(".") for part in name.split("/"))


def _order(name: str) -> tuple[str, int, int, str]:
    folder, _, file = name.rpartition("/")
    number = re.match(r"[0-9]+", file)
    return folder, number is None, int(number.group()) if number else 0, file


def _expand(name: str, chain: tuple[str, ...], stamp: str | None, reader: Reader) -> list[Source]:
    if len(chain) == 1:
        try:
            check_regular(chain[0])
        except OSError as error:
            return [Source(name, chain, stamp, f"cannot be read ({error.strerror or error})")]
    if not name.lower().endswith(".zip"):
        return [Source(name, chain, stamp)]
    if len(chain) > MOST_NESTED:
        return [Source(name, chain, stamp, f"archives in archives are read {MOST_NESTED} deep: unpack the outer ones")]
    try:
        members = {member.filename: member for member in reader.archive(chain).infolist()}
    except (TooLarge, MemoryError) as error:
        return [Source(name, chain, stamp, reason_of(error))]
    except UNREADABLE as error:
        return [
            Source(name, chain, stamp, f"not a readable zip archive ({reason_of(error)}): copy or download it again")
        ]
    found = []
    for inner in sorted(filter(_wanted, members), key=_order):
        member_stamp = _stamp(members[inner].file_size, members[inner].CRC)
        found += _expand(f"{name}/{inner}", (*chain, inner), member_stamp, reader)
    return found
