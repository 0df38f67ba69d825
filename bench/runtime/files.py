"""Files that are either whole or not there."""

from __future__ import annotations

import logging
import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.runtime.holder import parse, this_process
from fixtures.errors import BenchError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


LOG = logging.getLogger("triggerbench")

ABANDONED_S = 24 * 3600.0
"""After that many seconds another host's half-written file is taken for left behind."""


def make_folder(folder: Path) -> Path:
    """Create a folder that can be written to. Raises BenchError with the reason in one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BenchError(f"cannot write to {folder}: {error.strerror}") from error
    return folder


def write(path: Path, content: bytes | str) -> Path:
    """Write under a temporary name, then move into place. Raises BenchError, leaving nothing."""
    data = content.encode() if isinstance(content, str) else content
    make_folder(path.parent)
    with whole(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary name to write to, which is moved to ``path`` at the end of the block.

    Where the block raises, nothing is left. An OSError becomes a BenchError, one line.
    """
    _sweep(path.parent)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.{this_process()}.part")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise BenchError(f"cannot write {path}: {error.strerror}") from error
        raise


@cache
def _sweep(folder: Path) -> None:
    """Remove what killed processes left half-written in a folder, once in each process.

    Looking at every write would make 30,000 files of one folder take as many looks at all of them.
    """
    for part in folder.glob(".*.part"):
        with suppress(OSError):  # another user's, say: it stays
            if abandoned(part):
                part.unlink(missing_ok=True)


def abandoned(part: Path) -> bool:
    """Whether whoever was writing a ``.part`` file is no more.

    Of this system's processes that is known. Another host's are left alone for `ABANDONED_S`, since
    nobody here can tell whether they still write.
    """
    owner = parse(part.name.split(".")[-2])
    if owner is not None and owner.is_here:
        return owner.is_gone
    try:
        return time.time() - part.stat().st_mtime > ABANDONED_S
    except FileNotFoundError:  # moved into place meanwhile
        return False


def set_aside(path: Path) -> None:
    """Rename a damaged file to ``<name>.damaged``: out of the way, and there to be looked at."""
    if path.exists():
        path.replace(path.with_name(path.name + ".damaged"))


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process at a time works on ``path``; who it is stands in ``<path>.lock.holder``.

    Whoever has to wait logs once for whom. The file's time of change, if it is there already,
    becomes now: what the cache goes by. Raises BenchError where no lock can be had.
    """
    lock = FileLock(path.with_suffix(".lock"))
    try:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            LOG.info("waiting for %s, held by %s", path, holder_of(path) or "another process")
            lock.acquire()
        with suppress(OSError):  # not there yet, or another user's
            os.utime(path)
        _holder_file(path).write_text(f"{this_process()}\n")
    except OSError as error:
        raise BenchError(f"cannot lock {path}: {error.strerror}") from error
    try:
        yield
    finally:
        _holder_file(path).unlink(missing_ok=True)
        lock.release()


def holder_of(path: Path) -> str:
    """Who works on ``path``, ``process 12 on host``; empty where nobody says so."""
    try:
        found = parse(_holder_file(path).read_text().strip())
    except (OSError, UnicodeDecodeError):
        return ""
    return "" if found is None or found.is_gone else found.words


def _holder_file(path: Path) -> Path:
    # Not the lock itself: whoever tries to lock it empties it.
    return path.with_suffix(".lock.holder")


def marked(name: str, text: str) -> str:
    """Text between the two markers by which it can be found again."""
    return f"<!-- {name}: begin -->\n\n{text}\n\n<!-- {name}: end -->"


def replace_marked(page: Path, name: str, text: str) -> Path:
    """Replace what stands between a page's markers. Raises BenchError where it has none."""
    try:
        before = page.read_text()
    except OSError as error:
        raise BenchError(f"{page}: {error.strerror}") from error
    head, begin, rest = before.partition(f"<!-- {name}: begin -->")
    _, end, tail = rest.partition(f"<!-- {name}: end -->")
    if not begin or not end:
        raise BenchError(f"{page}: no <!-- {name}: begin --> with a <!-- {name}: end --> after it")
    return write(page, head + marked(name, text) + tail)


def read_toml(path: Path) -> dict[str, Any]:
    """Raises BenchError, one line that names the file, where it is missing or no TOML."""
    try:
        return tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BenchError(f"{path}: {error}") from error
