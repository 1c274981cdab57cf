"""Saved fits of a served folder, each file parsed once for as long as it stays the same."""

import threading
from collections.abc import Sequence
from pathlib import Path

from babelscale.fitting import Fit


class SavedFits:
    """Fits by the path, time and size of their files; the files of the last question are kept."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Path, int, int], Fit] = {}
        self._lock = threading.Lock()

    def load(self, paths: Sequence[Path]) -> list[Fit]:
        """The fits at some paths, as the files are now.

        Raises:
            InputError: a file is no fit, or is not there any more.
        """
        with self._lock:
            found = {}
            for path in paths:
                key = _key(path)
                found[key] = self._kept.get(key) or Fit.load(path)
            self._kept = found
            return list(found.values())


def _key(path: Path) -> tuple[Path, int, int]:
    # Asked before the file is read: one that is replaced in between is read again for the next question.
    try:
        stat = path.stat()
    except FileNotFoundError:
        return path, 0, 0  # what reads it says so
    return path, stat.st_mtime_ns, stat.st_size
