"""A study on a Ray cluster of two nodes on this machine whose workers, and one node, are killed at random.

Every run must be there exactly once, with the record and the log, to the byte, of the same study trained by one process
on this machine. Exit status 1 otherwise.

Usage: .venv/bin/python benchmarks/ray_kills.py [--runs 60] [--kills 20] [--seed 0] [--folder DIR]
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

MOST_COMMANDS = 20
DESIGN = """
name = "many"
title = "Tiny runs"
languages = ["sv", "da", "sw"]

[corpus]
bytes_per_language = 60_000

[tokenizer]
vocabulary = 400

[recipe]
batch_size = 4
sequence_length = 32
learning_rate = 1e-2
evaluations = 2
evaluation_tokens = 256
checkpoint_every = 20

[sizes]
xs = {{ layers = 1, heads = 1, d_model = 8, d_ff = 16, d_head = 8 }}

[[groups]]
name = "mono"
mixture = "monolingual"
sizes = ["xs"]
tokens = [{tokens}]
seeds = {seeds}

[[groups]]
name = "all"
mixture = "uniform"
sizes = ["xs"]
tokens = [{tokens}]

[[groups]]
name = "continued"
mixture = "monolingual"
sizes = ["xs"]
tokens = [4e3]
continue_from = "all"
"""


def studies(folder: Path, runs: int, tokens: float):
    """Two studies of one prepared design: to be trained in peace, and under kills."""
    from babelscale.study import Study

    path = folder / "many.toml"
    # Beside the monolingual runs one of all languages and three that continue from it.
    path.write_text(DESIGN.format(seeds=list(range(-(-(runs - 4) // 3))), tokens=tokens), encoding="utf-8")
    peace = Study.create(path, folder / "peace")
    peace.prepare()
    (folder / "killed").mkdir()
    for name in ("corpus", "tokenizer", "design.json"):
        (folder / "killed" / name).symlink_to(folder / "peace" / name)
    return peace, Study(peace.design, folder / "killed")


def cluster():
    """A head without a CPU for runs, and two nodes with one each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    return made, nodes


def tasks() -> list[int]:
    """Process ids of Ray workers on this machine that are training now."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if command.startswith(b"ray::train_on_node"):
                found.append(int(entry.name))
    return found


def harass(made, nodes, kills: int, rng: random.Random, over: threading.Event) -> dict[str, int]:
    """Kill workers at random moments, and one node in the middle; a new one joins later."""
    done = {"workers": 0, "nodes": 0}
    while not over.is_set() and done["workers"] + done["nodes"] < kills:
        over.wait(rng.uniform(0.3, 2.5))
        if done["workers"] >= kills // 2 and not done["nodes"]:
            made.remove_node(nodes[0], allow_graceful=False)
            done["nodes"] += 1
            over.wait(3)
            made.add_node(num_cpus=1)
        elif running := tasks():
            try:
                os.kill(rng.choice(running), signal.SIGKILL)
                done["workers"] += 1
            except ProcessLookupError:
                continue
    return done


def finish(study, address: str, over: threading.Event, commands: list[str]) -> None:
    """Give the command until nothing is missing, as a person would where a run lost its worker too often."""
    from babelscale.errors import StudyError
    from babelscale.study.engines import run_ray

    try:
        while study.missing and len(commands) < MOST_COMMANDS:
            commands.append("babelscale study run")
            try:
                study.train(engine=partial(run_ray, address=address))
            except StudyError as error:
                print(error, flush=True)
    finally:
        over.set()


def differences(peace, killed) -> list[str]:
    """Runs that are missing, there though nobody asked, or not the same to the byte."""
    wanted, there = set(peace.specs), {path.name for path in (killed.folder / "finished").iterdir()}
    wrong = [f"missing {name}" for name in sorted(wanted - there)] + [
        f"extra {name}" for name in sorted(there - wanted)
    ]
    for name in sorted(wanted & there):
        for part in ("record.json", "log.jsonl"):
            if (peace.finished(name) / part).read_bytes() != (killed.finished(name) / part).read_bytes():
                wrong.append(f"{name}/{part} differs")
    left = [path for path in (killed.folder / "working").iterdir() if path.name in wanted]
    return wrong + [f"left over: {path}" for path in left]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=float, default=2e4, help="of each run")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    from babelscale.study.engines import run_local

    with tempfile.TemporaryDirectory(prefix="ray.", dir=options.folder) as name:
        peace, killed = studies(Path(name), options.runs, options.tokens)
        began = time.monotonic()
        peace.train(engine=partial(run_local, slots=1))
        print(f"{len(peace.specs)} runs by one process: {time.monotonic() - began:.0f} s", flush=True)
        made, nodes = cluster()
        over, commands = threading.Event(), []
        began = time.monotonic()
        trainer = threading.Thread(target=finish, args=(killed, made.address, over, commands))
        trainer.start()
        try:
            # In the main thread, since a node's start sets handlers of signals.
            done = harass(made, nodes, options.kills, random.Random(options.seed), over)
            trainer.join()
        finally:
            over.set()
            made.shutdown()
        took = time.monotonic() - began
        print(f"on the cluster, {done} killed, command given {len(commands)} times: {took:.0f} s")
        wrong = differences(peace, killed)
        print("\n".join(wrong) or "every run once, the same to the byte")
    held = not wrong and done.get("nodes") == 1
    print("holds" if held else "FAILS")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
