"""Logs of runs, read while other processes write them: complete lines only, each of them once."""

import json
import os
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Bytes read at once, so that a long log needs no more memory than its numbers.
_CHUNK = 1 << 20


class RunLog:
    """The content of a run's log so far.

    Attributes:
        steps, losses: of training, in nats per token, one value a step.
        held_out: the entries of evaluations.
        written: time of the last write, in seconds since 1970.
    """

    def __init__(self) -> None:
        self._clear(None)

    def _clear(self, file: tuple[int, int] | None) -> None:
        self._file, self._offset = file, 0
        self.steps, self.losses = array("q"), array("d")
        self.held_out: list[dict[str, Any]] = []
        self.written = 0.0

    @property
    def step(self) -> int:
        """Steps done."""
        return self.steps[-1] if self.steps else 0

    @property
    def loss(self) -> float | None:
        """The latest training loss."""
        return self.losses[-1] if self.losses else None

    def follow(self, path: Path) -> None:
        """Read the new lines of the file at `path`; all of it where it is another file than before, or a shorter one.

        An incomplete last line is left for the next call.

        Raises:
            FileNotFoundError: there is no such file (any more); the lines read before are kept.
        """
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            here = (facts.st_dev, facts.st_ino)
            if here != self._file or facts.st_size < self._offset:
                self._clear(here)
            self.written = facts.st_mtime
            file.seek(self._offset)
            for line in self._lines(file):
                self._take(line)

    def _lines(self, file: Any) -> Iterator[bytes]:
        rest = b""
        while chunk := file.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._offset += len(line) + 1
                yield line

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
        except ValueError:
            return  # cut by a kill; the continued run writes the step again
        if not isinstance(entry, dict) or "step" not in entry:
            return
        if "language" in entry:
            self.held_out.append(entry)
        elif isinstance(loss := entry.get("loss"), float | int):
            self.steps.append(int(entry["step"]))
            self.losses.append(float(loss))

    def curve(self, points: int) -> list[tuple[int, float]]:
        """(step, mean training loss since the point before), at most `points` points, evenly spaced in log steps."""
        count = len(self.losses)
        if count == 0:
            return []
        ends = sorted({max(1, round(count ** (k / points))) for k in range(points + 1)})
        return [
            (self.steps[end - 1], sum(self.losses[start:end]) / (end - start))
            for start, end in zip([0, *ends], ends, strict=False)
        ]
