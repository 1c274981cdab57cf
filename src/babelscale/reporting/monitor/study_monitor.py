"""Follow a study that other processes train: the state of every run, read repeatedly; nothing is written.

Folders of runs are renamed and files replaced during a read. What cannot be read completely is read the next time.
"""

import contextlib
import itertools
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from babelscale.reporting.monitor.eta import Eta, estimate_eta
from babelscale.reporting.monitor.run_logs import RunLog
from babelscale.study import RunSpec, Study
from babelscale.study.cost import spent
from babelscale.study.failures import failures
from babelscale.study.record import RECORD
from babelscale.training import LOG

State = Literal["working", "failed", "waiting", "finished"]
STATES: tuple[State, ...] = ("working", "failed", "waiting", "finished")
# If no log was written for so many seconds, the study may have stopped.
SILENT = 120.0
# Snapshots closer together than this many seconds count as one point of progress; the last ones are stored.
_APART, _STORED = 5.0, 240
# The speed of a run is measured over its last snapshots, in seconds.
_RECENT = 120.0
# Bytes at the end of a finished run's log in which its last loss is searched.
_TAIL = 1 << 18


@dataclass(frozen=True)
class RunSnapshot:
    """The state of a run.

    `done` is the share done, `flops` its cost without the part shared with a longer run, `loss` its latest training
    loss in nats per token, `written` the time of the last write to its log in seconds since 1970, and `speed` tokens a
    second.
    """

    spec: RunSpec
    state: State
    step: int
    done: float
    flops: float
    loss: float | None = None
    written: float | None = None
    speed: float | None = None
    reason: str = ""

    @property
    def name(self) -> str:
        return self.spec.name


@dataclass(frozen=True)
class StudySnapshot:
    """The state of a study: its runs, its FLOPs (all and done), and the time left.

    `history` is (seconds since 1970, FLOPs of finished runs) at the end of each of them. `silent` is the number of
    seconds since a log was written, None before the first.
    """

    title: str
    runs: tuple[RunSnapshot, ...]
    flops: float
    done: float
    left: Eta | None
    silent: float | None
    history: tuple[tuple[float, float], ...]

    def count(self, state: State) -> int:
        return sum(run.state == state for run in self.runs)


@dataclass
class _FinishedRun:
    """The facts of a finished run; they do not change any more."""

    at: float
    seconds: float | None
    loss: float | None


@dataclass
class _Speeds:
    """The last points of a run under way: (seconds, step)."""

    points: deque[tuple[float, int]] = field(default_factory=deque)

    def at(self, now: float, step: int) -> float | None:
        """Steps a second."""
        if self.points and self.points[-1][1] > step:
            self.points.clear()
        if not self.points or self.points[-1][1] < step:
            self.points.append((now, step))
        while len(self.points) > 2 and now - self.points[0][0] > _RECENT:
            self.points.popleft()
        (began, first), (_, last) = self.points[0], self.points[-1]
        return (last - first) / (now - began) if last > first else None


class StudyMonitor:
    """Takes snapshots of a study's folder; what cannot have changed is read once.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._study: tuple[object, Study] | None = None
        self._logs: dict[str, RunLog] = {}
        self._ended: dict[str, _FinishedRun] = {}
        self._speeds: dict[str, _Speeds] = {}
        self._points: deque[tuple[float, float]] = deque(maxlen=_STORED)

    def snapshot(self) -> StudySnapshot:
        """The study now.

        Raises:
            InputError: the folder holds no study, or its text is not prepared.
        """
        with self._lock:
            study, now = self._opened(), self._clock()
            costs, failed = spent(study.specs), failures(self.folder)
            runs = [self._run(study, spec, costs[name], failed, now) for name, spec in study.specs.items()]
            runs = _orphaned(runs)
            whole, done = sum(costs.values()), sum(run.flops * run.done for run in runs)
            if not self._points or now - self._points[-1][0] >= _APART:
                self._points.append((now, done))
            # A run that was restored from its record has no log, and was not trained at the pace of this machine.
            local = {name: each for name, each in self._ended.items() if name in costs and each.loss is not None}
            ends = sorted((each.at, costs[name]) for name, each in local.items())
            history = tuple(zip((at for at, _ in ends), itertools.accumulate(f for _, f in ends), strict=True))
            writes = [run.written for run in runs if run.written is not None]
            return StudySnapshot(
                study.design.title or study.design.name,
                tuple(runs),
                whole,
                done,
                self._left(runs, whole - done, history),
                max(0.0, now - max(writes)) if writes else None,
                history,
            )

    def logs(self, names: Sequence[str]) -> dict[str, RunLog]:
        """The logs of the named runs, as far as they can be read now."""
        found: dict[str, RunLog] = {}
        with self._lock:
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    if name in self._ended:
                        self._logs.setdefault(name, RunLog()).follow(self.folder / "finished" / name / LOG)
                if (log := self._logs.get(name)) is not None and log.step:
                    found[name] = log
        return found

    def _opened(self) -> Study:
        """The study, opened again when its design or its text changes."""
        places = ("design.json", "corpus/store.json", "tokenizer/tokenizer.json")
        stamp = [_stamp(self.folder / place) for place in places]
        if self._study is None or self._study[0] != stamp:
            study = Study.open(self.folder)
            study.specs  # noqa: B018 - raises while the text is being prepared
            self._study = (stamp, study)
        return self._study[1]

    def _run(self, study: Study, spec: RunSpec, flops: float, failed: Mapping[str, str], now: float) -> RunSnapshot:
        name = spec.name
        # In this order, a run that is published in between is found in one of the two places.
        log = self._log(name)
        if study.is_finished(name) and (ended := self._end(study.finished(name))) is not None:
            self._speeds.pop(name, None)
            return RunSnapshot(spec, "finished", spec.steps, 1.0, flops, ended.loss, ended.at)
        if self._ended.pop(name, None) is not None:
            self._logs.pop(name, None)
        if log is None:
            return RunSnapshot(
                spec, "failed" if name in failed else "waiting", 0, 0.0, flops, reason=failed.get(name, "")
            )
        first = spec.fork if name in study.trunks else 0
        done = min(1.0, max(0.0, (log.step - first) / (spec.steps - first)))
        pace = self._speeds.setdefault(name, _Speeds()).at(now, log.step)
        speed = pace * spec.recipe.tokens_per_step if pace is not None and now - log.written < SILENT else None
        known = (log.step, done, flops, log.loss, log.written)
        if name in failed:
            return RunSnapshot(spec, "failed", *known, reason=failed[name])
        return RunSnapshot(spec, "working", *known, speed)

    def _log(self, name: str) -> RunLog | None:
        """The log of a run under way; its last content while its folder is being renamed; None for other runs."""
        found: list[tuple[float, Path]] = []
        try:
            attempts = list((self.folder / "working" / name).iterdir())
        except FileNotFoundError:
            return None
        for attempt in attempts:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found.append(((attempt / LOG).stat().st_mtime, attempt / LOG))
        log = self._logs.setdefault(name, RunLog())
        with contextlib.suppress(FileNotFoundError):
            if found:
                log.follow(max(found)[1])
        return log

    def _end(self, folder: Path) -> _FinishedRun | None:
        """The facts of a finished run; None if its folder disappears at this moment."""
        if folder.name not in self._ended:
            try:
                at = (folder / RECORD).stat().st_mtime
            except FileNotFoundError:
                return None
            self._ended[folder.name] = _FinishedRun(at, _seconds(folder / "timing.json"), _last(folder / LOG))
        return self._ended[folder.name]

    def _left(self, runs: Sequence[RunSnapshot], flops: float, history: Sequence[tuple[float, float]]) -> Eta | None:
        """From the recent progress of the study, or from the ends of its runs."""
        if flops <= 0:
            return None
        took = {name: ended.seconds for name, ended in self._ended.items() if ended.seconds}
        paces = [run.flops / took[run.name] for run in runs if run.name in took]
        alone = _longest_chain(runs) / max(paces) if paces else 0.0
        ends = _steady(history, max(took.values(), default=0.0))
        return estimate_eta(flops, _moving(self._points), alone) or estimate_eta(flops, ends, alone)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def _moving(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points since the study last stood still for long."""
    since, still = 0, 0.0
    for k in range(1, len(points)):
        still = still + points[k][0] - points[k - 1][0] if points[k][1] <= points[k - 1][1] else 0.0
        if still > SILENT:
            since = k
    return list(points)[since:]


def _steady(history: Sequence[tuple[float, float]], longest: float) -> list[tuple[float, float]]:
    """The ends of runs since the study last stood still."""
    gap = max(SILENT, 4 * longest)
    since = max((k for k in range(1, len(history)) if history[k][0] - history[k - 1][0] > gap), default=0)
    return list(history[since:])


def _longest_chain(runs: Sequence[RunSnapshot]) -> float:
    """The most FLOPs that one run still waits for: its own, and its base's."""
    remaining = {run.name: run.flops * (1 - run.done) for run in runs}

    def chain(run: RunSnapshot) -> float:
        base = run.spec.base
        return remaining[run.name] + (remaining.get(base.name, 0.0) if isinstance(base, RunSpec) else 0.0)

    return max((chain(run) for run in runs), default=0.0)


def _orphaned(runs: Sequence[RunSnapshot]) -> list[RunSnapshot]:
    """The runs, with those failed that wait for a base that failed."""
    failed = {run.name for run in runs if run.state == "failed"}
    return [
        replace(run, state="failed", reason=f"continues from {run.spec.base.name}")
        if run.state == "waiting" and run.spec.base is not None and run.spec.base.name in failed
        else run
        for run in runs
    ]


def _seconds(path: Path) -> float | None:
    """The seconds that a run took; None where they are not recorded, as for some restored runs."""
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["seconds"])
    except (FileNotFoundError, KeyError, ValueError, TypeError):
        return None


def _last(path: Path) -> float | None:
    """The last training loss of a log, read from its end."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return None
    for line in reversed(lines[:-1]):
        with contextlib.suppress(ValueError, TypeError):
            entry = json.loads(line)
            if "language" not in entry and "loss" in entry:
                return float(entry["loss"])
    return None
