"""Kill a training run at random moments, damage its newest state now and then, and compare with a run left in peace.

Each life of the run is a process of its own that is killed with SIGKILL; the next one goes on. In the end `log.jsonl`
and the tokens of each language at every evaluation must be the same to the byte as those of a run that nobody killed,
and a damaged state must have been named. Exit status 1 otherwise.

Usage: .venv/bin/python benchmarks/kill.py [--kills 30] [--seed 0] [--folder DIR]
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHARES = {"sw": 0.5, "yo": 0.3, "ha": 0.2}
EVERY = 10  # steps between saved states
STEPS_A_KILL, FEWEST_STEPS = 40, 400
LOG, COUNTS = "log.jsonl", "counts.json"


def train(folder: Path, steps: int) -> None:
    """One life of the run."""
    import numpy as np

    from babelscale.mixture import Mixture
    from babelscale.model import Shape
    from babelscale.training.batches import Batches
    from babelscale.training.evaluation import HeldOut
    from babelscale.training.loop import Job
    from babelscale.training.loop import train as train_run
    from babelscale.training.recipe import Recipe

    shape = Shape(layers=1, heads=2, d_model=32, d_ff=64, d_head=16, vocabulary=256)
    recipe = Recipe(batch_size=4, sequence_length=32, evaluations=4, evaluation_tokens=320, checkpoint_every=EVERY)
    rng = np.random.default_rng(0)
    tokens = {code: rng.integers(0, 256, 3000).astype(np.uint16) for code in SHARES}
    batches = Batches(tokens, Mixture(SHARES), 0, recipe.batch_size, recipe.sequence_length)
    bytes_of, unigram = np.full(256, 3, np.uint16), np.full(256, np.log(256))
    held_out = tuple(HeldOut.of(code, part, bytes_of, unigram, 32, 320) for code, part in tokens.items())
    job = Job(shape, recipe, steps, 0, batches, held_out)
    train_run(job, folder, keep_state=True)
    counts = {
        step: {code: count * recipe.sequence_length for code, count in batches.counts(step).items()}
        for step in recipe.evaluation_steps(steps)
    }
    (folder / COUNTS).write_text(json.dumps(counts), encoding="utf-8")


def life(folder: Path, steps: int, compiled: Path) -> subprocess.Popen[bytes]:
    """The run in a process of its own; what it says goes to a file beside its folder."""
    environment = os.environ | {
        "NPROC": "1",
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_COMPILATION_CACHE_DIR": str(compiled),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    with folder.with_suffix(".said").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, __file__, "--live", str(folder), "--steps", str(steps)], stderr=said, env=environment
        )


def lines(folder: Path) -> int:
    log = folder / LOG
    return log.read_bytes().count(b"\n") if log.exists() else 0


def saved(folder: Path) -> list[tuple[int, Path]]:
    """The states that count, by step."""
    return sorted((int(path.name), path) for path in (folder / "state").glob("*") if path.name.isdecimal())


def kill(process: subprocess.Popen[bytes], folder: Path, rng: random.Random) -> str:
    """Kill one life at a random moment: soon after its start, while it writes its log, or while it saves a state."""
    # The first kill leaves two states, so that one can be damaged however few the kills are.
    where = rng.choice(("start", "log", "log", "save", "save")) if len(saved(folder)) >= 2 else "two states"
    before, seconds, until = lines(folder), rng.uniform(0, 2.0), rng.randint(1, 2 * STEPS_A_KILL)
    began = time.monotonic()
    while process.poll() is None:
        if where == "start" and time.monotonic() - began >= seconds:
            break
        if where == "log" and lines(folder) > 0 and abs(lines(folder) - before) >= until:
            break
        if where == "two states" and len(saved(folder)) >= 2:
            break
        if where == "save" and time.monotonic() - began > 1 and any((folder / "state").glob("*.partial*")):
            time.sleep(rng.uniform(0, 0.03))
            break
        time.sleep(0.002)
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()
    return where


def damage(folder: Path, rng: random.Random) -> str | None:
    """Flip a bit of the newest saved state, or cut a file of it short; None where it has no other to fall back on."""
    steps = saved(folder)
    if len(steps) < 2:
        return None
    file = rng.choice([path for path in sorted(steps[-1][1].rglob("*")) if path.is_file() and path.stat().st_size])
    content = bytearray(file.read_bytes())
    if rng.random() < 0.5:
        content = content[: rng.randrange(len(content))]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)
    return f"step {steps[-1][0]} is damaged"


def unnamed(damaged: list[str], folder: Path) -> int:
    """How many of the damages no life has spoken of yet."""
    said = folder.with_suffix(".said").read_text(encoding="utf-8", errors="replace")
    return sum(max(0, damaged.count(told) - said.count(told)) for told in set(damaged))


def ended_well(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.wait() != 0:
        said = folder.with_suffix(".said").read_text(encoding="utf-8", errors="replace")
        sys.exit(f"a life ended with status {process.returncode}\n{said[-3000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--live", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--steps", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.live is not None:
        train(options.live, options.steps)
        return 0
    rng = random.Random(options.seed)
    steps = max(FEWEST_STEPS, STEPS_A_KILL * options.kills)
    with tempfile.TemporaryDirectory(prefix="kill.", dir=options.folder) as name:
        peace, killed, compiled = (Path(name) / part for part in ("peace", "killed", "compiled"))
        ended_well(life(peace, steps, compiled), peace)
        kinds: dict[str, int] = {}
        damaged = []
        done = 0
        while done < options.kills:
            process = life(killed, steps, compiled)
            kind = kill(process, killed, rng)
            if process.returncode == 0:
                break
            if process.returncode != -signal.SIGKILL:
                ended_well(process, killed)
            done += 1
            kinds[kind] = kinds.get(kind, 0) + 1
            # The first chance is taken, so that few kills see one too; a life killed early may not have looked yet.
            wanted = (not damaged or rng.random() < 0.3) and not unnamed(damaged, killed)
            if wanted and (told := damage(killed, rng)) is not None:
                damaged.append(told)
        ended_well(life(killed, steps, compiled), killed)
        silent = unnamed(damaged, killed)
        same = {part: (peace / part).read_bytes() == (killed / part).read_bytes() for part in (LOG, COUNTS)}
    print(f"{done} kills of {options.kills} in {steps} steps: {json.dumps(kinds, sort_keys=True)}")
    print(f"{len(damaged)} newest states damaged, {len(damaged) - silent} of them named")
    for part, equal in same.items():
        print(f"{part} {'is the same to the byte' if equal else 'DIFFERS'}")
    held = done == options.kills and all(same.values()) and not silent and bool(damaged)
    print("holds" if held else "FAILS")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
