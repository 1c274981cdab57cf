"""Follow a study that other processes train: what every run does now, read again and again, and never written to.

Every read is whole or left for the next time: folders of runs are renamed and files replaced while this looks.
"""

import contextlib
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
# A study of which nothing was heard for so many seconds may be trained by nobody.
SILENT = 120.0
# Looks closer together than this are one: logs are written every few steps, not every moment.
_APART, _KEPT = 5.0, 240
# Of the speed of a run: what is remembered of its last looks, in seconds.
_RECENT = 120.0
# A log of a finished run is read from here before its end for the last loss.
_TAIL = 1 << 18


@dataclass(frozen=True)
class RunSnapshot:
    """A run as it is at this moment.

    `done` is its share, `flops` what it costs beyond what it takes over from a longer run; `loss` the latest of
    training in nats per token; `written` when its log was written last, in seconds since 1970; `speed` tokens a second.
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
    """A study at this moment: its runs, FLOPs in all and done, and what is left of it.

    `history` is (seconds since 1970, FLOPs of finished runs) at the end of each of them. `silent` is how long ago a run
    was heard of last, None before the first.
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
class _Ended:
    """What a finished run says of its end; it does not change any more."""

    at: float
    seconds: float | None
    loss: float | None


@dataclass
class _Speeds:
    """The last looks at a run under way: (seconds, step)."""

    looks: deque[tuple[float, int]] = field(default_factory=deque)

    def at(self, now: float, step: int) -> float | None:
        """Steps a second."""
        if self.looks and self.looks[-1][1] > step:
            self.looks.clear()
        if not self.looks or self.looks[-1][1] < step:
            self.looks.append((now, step))
        while len(self.looks) > 2 and now - self.looks[0][0] > _RECENT:
            self.looks.popleft()
        (began, first), (_, last) = self.looks[0], self.looks[-1]
        return (last - first) / (now - began) if last > first else None


class StudyMonitor:
    """Looks at a study's folder; what cannot have changed is read once.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._clock = clock
        self._lock = threading.Lock()
        self._study: tuple[object, Study] | None = None
        self._logs: dict[str, RunLog] = {}
        self._ended: dict[str, _Ended] = {}
        self._speeds: dict[str, _Speeds] = {}
        self._looks: deque[tuple[float, float]] = deque(maxlen=_KEPT)

    def snapshot(self) -> StudySnapshot:
        """The study now.

        Raises:
            InputError: the folder holds no study, or one whose text is not prepared.
        """
        with self._lock:
            study, now = self._opened(), self._clock()
            costs, failed = spent(study.specs), failures(self.folder)
            runs = [self._run(study, spec, costs[name], failed, now) for name, spec in study.specs.items()]
            runs = _orphaned(runs)
            whole, done = sum(costs.values()), sum(run.flops * run.done for run in runs)
            if not self._looks or now - self._looks[-1][0] >= _APART:
                self._looks.append((now, done))
            # A run that was restored from its record has no log, and tells nothing of the pace here.
            here = {name: each for name, each in self._ended.items() if name in costs and each.loss is not None}
            ends = sorted((each.at, costs[name]) for name, each in here.items())
            history = tuple(_summed(ends))
            heard = [run.written for run in runs if run.written is not None]
            return StudySnapshot(
                study.design.title or study.design.name,
                tuple(runs),
                whole,
                done,
                self._left(runs, whole - done, history),
                max(0.0, now - max(heard)) if heard else None,
                history,
            )

    def logs(self, names: Sequence[str]) -> dict[str, RunLog]:
        """The logs of runs, as far as they can be read now."""
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
        """The study, opened anew when its design or its text changes."""
        stamp = [_stamp(path) for path in self._made_of()]
        if self._study is None or self._study[0] != stamp:
            study = Study.open(self.folder)
            study.specs  # noqa: B018 - raises while the text is being prepared
            self._study = (stamp, study)
        return self._study[1]

    def _made_of(self) -> Iterator[Path]:
        yield from (self.folder / "design.json", self.folder / "corpus" / "store.json")
        yield self.folder / "tokenizer" / "tokenizer.json"

    def _run(self, study: Study, spec: RunSpec, flops: float, failed: Mapping[str, str], now: float) -> RunSnapshot:
        name = spec.name
        # In this order: a run that is published in between is found in one of the two places.
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
        state: State = "failed" if name in failed else "working"
        return RunSnapshot(
            spec,
            state,
            log.step,
            done,
            flops,
            log.loss,
            log.written,
            speed if state == "working" else None,
            failed.get(name, ""),
        )

    def _log(self, name: str) -> RunLog | None:
        """The log of a run under way, as it was last where its folder is just being renamed; None of any other."""
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

    def _end(self, folder: Path) -> _Ended | None:
        """None where it was taken away at this moment."""
        if folder.name not in self._ended:
            try:
                at = (folder / RECORD).stat().st_mtime
            except FileNotFoundError:
                return None
            self._ended[folder.name] = _Ended(at, _seconds(folder / "timing.json"), _last(folder / LOG))
        return self._ended[folder.name]

    def _left(self, runs: Sequence[RunSnapshot], flops: float, history: Sequence[tuple[float, float]]) -> Eta | None:
        """From what was seen of this study lately, or from the ends of its runs."""
        if flops <= 0:
            return None
        took = {name: ended.seconds for name, ended in self._ended.items() if ended.seconds}
        paces = [run.flops / took[run.name] for run in runs if run.name in took]
        alone = _longest_chain(runs) / max(paces) if paces else 0.0
        ends = _steady(history, max(took.values(), default=0.0))
        return estimate_eta(flops, _moving(self._looks), alone) or estimate_eta(flops, ends, alone)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def _moving(looks: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The looks since the study went on last: where nothing moved for long, nobody trained."""
    since, still = 0, 0.0
    for k in range(1, len(looks)):
        still = still + looks[k][0] - looks[k - 1][0] if looks[k][1] <= looks[k - 1][1] else 0.0
        if still > SILENT:
            since = k
    return list(looks)[since:]


def _steady(history: Sequence[tuple[float, float]], longest: float) -> list[tuple[float, float]]:
    """The ends of runs since the last time that the study stood still."""
    gap = max(SILENT, 4 * longest)
    since = max((k for k in range(1, len(history)) if history[k][0] - history[k - 1][0] > gap), default=0)
    return list(history[since:])


def _summed(ends: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    total = 0.0
    for at, flops in ends:
        total += flops
        yield at, total


def _longest_chain(runs: Sequence[RunSnapshot]) -> float:
    """FLOPs left of the run that has most before it: its own, and its base's."""
    left = {run.name: run.flops * (1 - run.done) for run in runs}

    def chain(run: RunSnapshot) -> float:
        base = run.spec.base
        return left[run.name] + (left.get(base.name, 0.0) if isinstance(base, RunSpec) else 0.0)

    return max((chain(run) for run in runs), default=0.0)


def _orphaned(runs: Sequence[RunSnapshot]) -> list[RunSnapshot]:
    """Runs whose base failed are told to wait for it."""
    failed = {run.name for run in runs if run.state == "failed"}

    def told(run: RunSnapshot) -> RunSnapshot:
        base = run.spec.base
        if run.state != "waiting" or base is None or base.name not in failed:
            return run
        return RunSnapshot(run.spec, "failed", run.step, run.done, run.flops, reason=f"continues from {base.name}")

    return [told(run) for run in runs]


def _seconds(path: Path) -> float | None:
    """How long a run took; None where it does not say, as runs of other machines may not."""
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["seconds"])
    except (FileNotFoundError, KeyError, ValueError, TypeError):
        return None


def _last(path: Path) -> float | None:
    """The last training loss of a log, found at its end."""
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
