"""Kill local workers with SIGKILL at random moments while they train the runs of a study.

The engine, the claims, the saved progress and the publishing are the study's own; the trainer is a stub that writes a
few lines of log, so that hundreds of kills take a minute. In the end every run must be there exactly once, with the
bytes of a run nobody killed. Exit status 1 otherwise.

Usage: .venv/bin/python benchmarks/local_kills.py [--runs 100] [--kills 200] [--seed 0] [--folder DIR]
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

STEPS, SECONDS_A_STEP, EVERY = 30, 0.01, 5
MOST_COMMANDS = 100


def expected(name: str) -> dict[str, str]:
    """What a run leaves."""
    log = "".join(json.dumps({"step": step, "run": name}) + "\n" for step in range(1, STEPS + 1))
    return {"log.jsonl": log, "record.json": json.dumps({"run": name, "steps": STEPS}) + "\n"}


def stub(folder: Path) -> int:
    """A worker: the protocol, claims, publishing and states of the real one around a trainer that only writes lines."""
    from babelscale import files
    from babelscale.study import record

    for line in sys.stdin:
        (name,) = line.rstrip("\n").split("\t")
        finished = folder / "finished" / name
        if not (finished / record.RECORD).exists():
            attempt = record.claim(folder / "working" / name)
            whole = expected(name)
            lines = whole["log.jsonl"].splitlines(keepends=True)
            saved = max((int(path.name) for path in attempt.glob("state/*") if path.name.isdecimal()), default=0)
            files.write_text(attempt / "log.jsonl", "".join(lines[:saved]))
            for step in range(saved + 1, STEPS + 1):
                time.sleep(SECONDS_A_STEP)
                with (attempt / "log.jsonl").open("r+", encoding="utf-8") as log:
                    log.seek(0, os.SEEK_END)
                    log.write(lines[step - 1])
                if step % EVERY == 0:
                    (attempt / "state" / f"{step}.partial").mkdir(parents=True, exist_ok=True)
                    (attempt / "state" / f"{step}.partial").rename(attempt / "state" / str(step))
                print(json.dumps({"run": name, "step": step, "loss": 1.0}), flush=True)
            files.write_text(attempt / record.RECORD, whole["record.json"])
            for state in sorted((attempt / "state").glob("*")):
                state.rmdir()
            (attempt / "state").rmdir()
            record.publish(attempt, finished)
        print(json.dumps({"run": name, "finished": True}), flush=True)
    return 0


def workers(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if b"--stub" in command and str(folder).encode() in command:
                    found.append(int(entry.name))
    return found


def harass(folder: Path, kills: int, rng: random.Random, over: threading.Event, killed: list[int]) -> None:
    while not over.wait(rng.uniform(0, 0.25)) and len(killed) < kills:
        if running := workers(folder):
            with contextlib.suppress(ProcessLookupError):
                chosen = rng.choice(running)
                os.kill(chosen, signal.SIGKILL)
                killed.append(chosen)


def specs(runs: int):
    from babelscale.mixture import Mixture
    from babelscale.model.shape import Shape
    from babelscale.study import RunSpec
    from babelscale.training.recipe import Recipe

    shape = Shape(layers=1, heads=1, d_model=8, d_ff=16, d_head=8, vocabulary=64)
    return [
        RunSpec("xs", shape, Mixture({"sw": 1.0}), Recipe(batch_size=1, sequence_length=8), STEPS, seed, "", "")
        for seed in range(runs)
    ]


def wrong(folder: Path, names: set[str]) -> list[str]:
    """Runs that are missing, there though nobody asked, or not as they should be; and what was left behind."""
    there = {path.name for path in (folder / "finished").iterdir()}
    found = [f"missing {name}" for name in sorted(names - there)] + [f"extra {name}" for name in sorted(there - names)]
    for name in sorted(names & there):
        held = {path.name: path.read_text(encoding="utf-8") for path in (folder / "finished" / name).iterdir()}
        if held != expected(name):
            found.append(f"{name} is not what a run left in peace leaves")
    return found + [f"left over: {path}" for path in (folder / "working").iterdir() if path.name in names]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--stub", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stub is not None:
        return stub(options.stub)
    from babelscale.errors import StudyError
    from babelscale.study.engines import local

    local.WORKER = (__file__, "--stub")
    runs = specs(options.runs)
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory(prefix="kills.", dir=options.folder) as name:
        folder, killed, over, commands = Path(name), [], threading.Event(), 0
        killer = threading.Thread(target=harass, args=(folder, options.kills, rng, over, killed))
        killer.start()
        began = time.monotonic()
        try:
            while commands < MOST_COMMANDS:
                missing = [spec for spec in runs if not (folder / "finished" / spec.name / "record.json").exists()]
                if not missing:
                    break
                commands += 1
                with contextlib.suppress(StudyError):
                    local.run_local(missing, folder, slots=[local.Slot(f"cpu-{k}") for k in range(4)])
        finally:
            over.set()
            killer.join()
        found = wrong(folder, {spec.name for spec in runs})
    took = time.monotonic() - began
    print(f"{len(killed)} kills of {options.kills} over {len(runs)} runs, command given {commands} times: {took:.0f} s")
    print("\n".join(found) or "every run once, the same to the byte")
    held = not found and len(killed) == options.kills
    print("holds" if held else "FAILS")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
