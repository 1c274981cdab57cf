"""`python -m babelscale.study.engines.ray_driver FOLDER --address A`: feeds a Ray cluster with the runs named on
standard input, and says on standard output, a JSON line each, how they go.

On SIGTERM it leaves a file in the study's folder that every task looks for, and ends once all have saved.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import ray  # pyright: ignore[reportMissingImports]
from ray.exceptions import LocalRayletDiedError, RayError, RayTaskError  # pyright: ignore[reportMissingImports]

from babelscale.study.engines.common import ATTEMPTS, ENVIRONMENT, Event, Schedule, compiled
from babelscale.study.engines.local import TOGETHER
from babelscale.study.engines.ray import train_on_node
from babelscale.study.study import Study
from babelscale.workers import write_line

# Tasks that Ray is given at once, so that a cluster that grows by demand sees some.
_IN_FLIGHT = 1000
_SECONDS = 1.0
VANISHED = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--address", default="auto")
    options = parser.parse_args()
    study = Study.open(options.folder.absolute())
    specs = [study.specs[line.rstrip("\n")] for line in sys.stdin]
    # The cluster's own workers log into files; what they print is no event.
    try:
        ray.init(address=options.address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError, ImportError) as error:
        write_line({"error": f"no Ray cluster at {options.address} ({str(error).splitlines()[0]})"})
        return 1
    stop_file = study.folder / "working" / f"stop-{os.getpid()}"
    # After ray.init, which has a handler of its own.
    signal.signal(signal.SIGTERM, lambda *_: stop_file.touch())
    try:
        _feed(study, Schedule(specs, study.folder, study.trunks), stop_file)
    except LocalRayletDiedError:
        return VANISHED
    finally:
        stop_file.unlink(missing_ok=True)
    ray.shutdown()
    return 0


def _feed(study: Study, schedule: Schedule, stop_file: Path) -> None:
    """Hand out runs as they become ready, until all are finished or have failed."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    task = _task(study.folder, gpus)
    told = _Told(study)
    pending: dict[Any, list[str]] = {}
    stopping = False
    while True:
        stopping = stopping or stop_file.exists()
        while not stopping and len(pending) < _IN_FLIGHT:
            names = schedule.take(TOGETHER if gpus else 1, max(1, gpus))
            if not names:
                break
            pending[task.remote(str(study.folder), names, str(stop_file))] = names
        if not pending:
            return
        done, _ = ray.wait(list(pending), num_returns=1, timeout=_SECONDS)
        for reference in done:
            if _settle(schedule, reference, pending.pop(reference)):
                # Tasks that wait for a CPU need not find out for themselves.
                with contextlib.suppress(OSError):
                    stop_file.touch()
        told.progress()


def _task(folder: Path, gpus: int) -> Any:
    environment = compiled(folder) | ({} if gpus else ENVIRONMENT)
    resources = {"num_cpus": 1, "num_gpus": 1} if gpus else {"num_cpus": 1}
    # Ray tries again by itself where a worker or its node died; a run's own errors come back as events.
    return ray.remote(train_on_node).options(
        max_retries=ATTEMPTS - 1, retry_exceptions=False, runtime_env={"env_vars": environment}, **resources
    )


def _settle(schedule: Schedule, reference: Any, names: list[str]) -> bool:
    """Take note of what a task left; returns whether it found the disk full."""
    try:
        events: list[Event] = ray.get(reference)
    except LocalRayletDiedError:
        # The driver's own node is gone, and with it the cluster: no run is to blame.
        raise
    except RayTaskError as error:
        events = [{"run": name, "failed": str(error).strip().splitlines()[-1]} for name in names]
    except RayError as error:
        events = []
        schedule.lose(names, f"its worker or node died ({type(error).__name__})")
        for name in names:
            if name in schedule.failures:
                write_line({"run": name, "failed": schedule.failures[name]})
    for event in events:
        schedule.note(event)
        if "run" in event:
            write_line(event)
    return any("full" in event for event in events)


class _Told:
    """What was last said of the runs under way, read from the ends of their logs."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._steps: dict[str, int] = {}

    def progress(self) -> None:
        for log in (self._study.folder / "working").glob("*/*/log.jsonl"):
            name = log.parent.parent.name
            line = _last_step(log)
            if line is not None and name in self._study.specs and line["step"] != self._steps.get(name):
                self._steps[name] = line["step"]
                write_line({"run": name, "step": line["step"], "loss": line["loss"]})


def _last_step(log: Path) -> dict[str, Any] | None:
    """The last whole line of a step; None where there is none near the end, or the run was published meanwhile."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().split(b"\n")
    except FileNotFoundError:
        return None
    for line in reversed(lines[1:-1]):
        entry = json.loads(line)
        if "language" not in entry:
            return entry
    return None


if __name__ == "__main__":
    sys.exit(main())
