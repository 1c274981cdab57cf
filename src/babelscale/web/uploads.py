"""Uploaded tables: read in a process of their own, kept under the hash of their content while the server runs."""

import shutil
import tempfile
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from babelscale.web.parse_client import Refused, UploadParser

# What is kept: uploads, and bytes of their checked tables.
_KEPT, _KEPT_BYTES = 24, 512_000_000


@dataclass(frozen=True)
class Upload:
    """One table that is kept: `place` holds the three tables, `about` what they hold."""

    source: str
    name: str
    place: Path
    about: dict[str, Any]
    size: int


@dataclass
class Uploads:
    """Tables by source, the oldest gone first. They lie in a private folder that ends with the server."""

    parser: UploadParser = field(default_factory=UploadParser)
    _kept: "OrderedDict[str, Upload]" = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _folder: "tempfile.TemporaryDirectory[str] | None" = None
    in_transit: int = 0

    @property
    def folder(self) -> Path:
        """Made for its owner alone, when it is first needed."""
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="babelscale-uploads-")
            return Path(self._folder.name)

    @property
    def kept(self) -> list[Upload]:
        """The newest first."""
        with self._lock:
            return list(reversed(self._kept.values()))

    def find(self, source: str) -> Upload | None:
        """An upload by its source, if it is still kept."""
        with self._lock:
            return self._kept.get(source)

    def take(self, file: Path, name: str, source: str) -> Upload:
        """Read a file that has arrived, and keep its tables.

        Raises:
            Refused: it is no table of runs, or too large.
        """
        if (held := self.find(source)) is None:
            into = self.folder / source
            try:
                about = self.parser.read(file, name, into)
            except Refused:
                shutil.rmtree(into, ignore_errors=True)
                raise
            size = sum(each.stat().st_size for each in into.iterdir())
            held = Upload(source, name, into, about, size)
        held = replace(held, name=name)
        with self._lock:
            self._kept[source] = held
            self._kept.move_to_end(source)
            while len(self._kept) > _KEPT or sum(each.size for each in self._kept.values()) > _KEPT_BYTES:
                shutil.rmtree(self._kept.popitem(last=False)[1].place, ignore_errors=True)
        return held

    def close(self) -> None:
        """Forget and remove everything."""
        self.parser.close()
        with self._lock:
            self._kept.clear()
            folder, self._folder = self._folder, None
            if folder is not None:
                folder.cleanup()
