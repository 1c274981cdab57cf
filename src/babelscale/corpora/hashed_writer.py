"""Writing the files of a token store: each is hashed while it is written and gets its name only when it is complete.

A full disk, a quota and a limit on the size of files are reported alike, with the name of the file.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from babelscale.errors import BabelscaleError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FileFacts(BaseModel):
    """Size and checksum of one file."""

    bytes: int
    sha256: str

    def hold(self, path: Path) -> bool:
        """Whether the file is there and is the one described; reads it whole."""
        return path.is_file() and path.stat().st_size == self.bytes and sha256(path) == self.sha256


class Output:
    """A new file: `write` arrays inside the `with` block, then `facts` describe it; a failure leaves no file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # A name of its own: a worker may live on for a moment when its build is killed and begun again.
        self._partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        self._hash = hashlib.sha256()
        self._bytes = 0

    def __enter__(self) -> "Output":
        with disk(self.path):
            self._file = self._partial.open("wb")
        return self

    def write(self, data: NDArray[np.generic] | bytes) -> None:
        view = data if isinstance(data, bytes) else np.ascontiguousarray(data).view(np.uint8).data
        with disk(self.path):
            self._file.write(view)
        self._hash.update(view)
        self._bytes += len(view)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with disk(self.path):
                self._file.close()
                if kind is None:
                    self._partial.replace(self.path)
        finally:
            self._partial.unlink(missing_ok=True)

    @property
    def facts(self) -> FileFacts:
        return FileFacts(bytes=self._bytes, sha256=self._hash.hexdigest())


def write(path: Path, data: NDArray[np.generic] | bytes) -> FileFacts:
    """Write one file."""
    with Output(path) as output:
        output.write(data)
    return output.facts


@contextmanager
def disk(path: Path) -> Iterator[None]:
    """Tell what the disk refuses.

    Raises:
        BabelscaleError: the file could not be written.
    """
    try:
        yield
    except OSError as error:
        full = error.errno in _FULL
        raise BabelscaleError(
            f"{path}: cannot be written, {'the disk is full' if full else 'the disk refused it'} "
            f"({error.strerror or error})",
            hint=f"{'make room' if full else 'see to it'} and run the same command again: finished work is not "
            "repeated",
        ) from error


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
