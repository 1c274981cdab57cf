"""CPU seconds of fits, and of the PyPI package `chinchilla` on the same 240 rows.

Usage: .venv/bin/python benchmarks/fit_speed.py [--slices 5] [--no-peer]
Must hold, in one process and one run (CPU of its children included): one Chinchilla fit <= 50 ms; 4,000 bootstrap
refits <= 3 s; adaptive transfer with three sources on 500 rows <= 1 s, its 1,000 run-resampled refits <= 30 s; 2,000x
less CPU than the package with its README's grid of 5^5 starts, at an objective that is never worse.

The package is installed into a temporary environment. It runs twice: as its README has it (asymmetric absolute errors,
the default) and with its own `log_huber` at delta 1e-3, the objective fitted here. Both results are then judged by the
sum of log-Huber 1e-3. `--slices 1` runs a fifth of its starts (one of the grid's five values of E) and multiplies the
CPU by five.
"""

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

import babelscale as bs
from babelscale import importers

TABLE = Path(__file__).parents[2] / "shared" / "tables" / "chinchilla" / "runs.csv"
PEER = """
import functools, json, os, sys
import numpy as np
from chinchilla import Chinchilla
from chinchilla._metrics import log_huber

slices, kind = int(sys.argv[1]), sys.argv[2]
chosen = {} if kind == "default" else {"loss_fn": functools.partial(log_huber, delta=1e-3)}
values = np.linspace(1, 2, 5)[[2, 1, 3, 0, 4][:slices]]
axis = [np.linspace(1, 10, 5), np.linspace(0.1, 0.7, 5)]

def seconds():
    return sum(os.times()[:4])

found, before = [], seconds()
for E in [np.linspace(1, 2, 5)] if slices == 5 else [[value] for value in values]:
    grid = dict(E=E, a=axis[0], b=axis[0], alpha=axis[1], beta=axis[1])
    cc = Chinchilla("./", param_grid=grid, log_level=40, **chosen)
    cc.fit()
    found.append({name: float(value) for name, value in cc.params.items()})
print(json.dumps({"cpu": seconds() - before, "found": found}))
"""


def cpu() -> float:
    """CPU seconds of this process and of children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    before = cpu()
    result = work()
    return cpu() - before, result


def line(what: str, seconds: float, limit: float) -> None:
    print(f"  {what:<66}{seconds:>9.3f} s   limit {limit:g} s{'' if seconds <= limit else '   MISS'}", flush=True)


def chinchilla() -> bs.Runs:
    """The 240 rows of Besiroglu et al."""
    runs = importers.table(TABLE, {"params": "Model Size", "flops": "Training FLOP"}, tokens_from_flops=True)
    worst = runs.losses.sort("nats", descending=True)["run"][:5].to_list()
    return runs.select(name for name in runs.names if name not in worst)


def atlas(runs: int = 100, checkpoints: int = 5) -> bs.Runs:
    """Mixtures of five languages at five sizes, `checkpoints` losses a run, 0.5 % noise, repeated target data."""
    rng = np.random.default_rng(0)
    codes = ("sw", "en", "fr", "ar", "ha")
    law = bs.laws.AdaptiveTransfer("sw", ("en", "fr", "ar"))
    truth = {"E": 0.6, "A": 60.0, "B": 900.0, "alpha": 0.35, "beta": 0.35, "lambda": 0.1}
    truth |= {"tau_en": 0.25, "tau_fr": -0.05, "tau_ar": 0.1, "tau_other": 0.05}
    U = {"sw": 1e9, "en": 1e13, "fr": 1e12, "ar": 1e11, "ha": 1e10}
    table, exposure, losses = [], [], []
    for k in range(runs):
        run = f"r{k:03d}"
        share = rng.dirichlet([0.8] * len(codes))
        share = np.where(share < 0.05, 0.0, share)
        share[0] = max(share[0], 0.1)
        share = np.eye(len(codes))[0] if rng.random() < 0.3 else share / share.sum()
        N, total = float(rng.choice([1e7, 3e7, 1e8, 3e8, 1e9])), float(10 ** rng.uniform(9, 11))
        table.append({"run": run, "params": N, "tokens": total})
        common = rng.normal(0, 0.003)
        for step in range(1, checkpoints + 1):
            seen = {code: float(s * total * step / checkpoints) for code, s in zip(codes, share, strict=True) if s > 0}
            loss = float(law.loss(truth, bs.Allocation(N, seen, U))) * np.exp(common + rng.normal(0, 0.004))
            key = {"run": run, "step": step}
            exposure += [key | {"language": c, "tokens": d, "unique_tokens": U[c]} for c, d in seen.items()]
            losses.append(
                key | {"language": "sw", "split": "validation", "lr_state": "decayed", "nats": loss, "tokens": 1.0}
            )
    return bs.Runs.of(pl.DataFrame(table), pl.DataFrame(exposure), pl.DataFrame(losses))


def log_huber(runs: bs.Runs, parameters: dict[str, float]) -> float:
    """The sum that is minimised here, at another program's parameters."""
    seen = runs.observations()
    miss = np.abs(np.log(bs.laws.Chinchilla().loss(parameters, seen.allocation)) - np.log(seen.loss))
    return float(np.where(miss <= 1e-3, miss**2 / 2, 1e-3 * (miss - 5e-4)).sum())


def peer(runs: bs.Runs, slices: int, kind: str, python: Path, folder: Path) -> tuple[float, float]:
    """CPU seconds over the whole grid (extrapolated where `slices` < 5) and our objective at its result."""
    seen = runs.observations()
    N, D = seen.allocation.params, seen.allocation.total_tokens
    rows = zip(6 * N * D, N, D, seen.loss, strict=True)
    (folder / "df.csv").write_text("C,N,D,loss\n" + "".join(f"{c:.17g},{n:.17g},{d:.17g},{y}\n" for c, n, d, y in rows))
    command = [str(python), "-c", PEER, str(slices), kind]
    quiet = os.environ | {"MPLBACKEND": "Agg"}
    done = subprocess.run(command, cwd=folder, env=quiet, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.strip().splitlines()[-1])
    return told["cpu"] * 5 / slices, min(log_huber(runs, found) for found in told["found"])


def install(folder: Path) -> Path | None:
    """A temporary environment with the package, or None, having said why."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "chinchilla==0.2.0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"\nchinchilla 0.2.0 could not be installed, so it is not compared:\n{done.stderr.strip()[-400:]}")
        return None
    return python


def beside(runs: bs.Runs, ours: float, objective: float, slices: int) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        python = install(folder / "environment")
        if python is None:
            return
        grid = "all 3,125 starts of its README's grid"
        if slices < 5:
            grid = f"{625 * slices} of its README's 3,125 starts ({slices} of 5 values of E), CPU extrapolated linearly"
        print(f"\nPyPI chinchilla 0.2.0 on the same 240 rows: {grid}")
        for kind, title in (("default", "its README, default loss"), ("log-huber", "its log_huber, delta 1e-3")):
            seconds, value = peer(runs, slices, kind, python, folder)
            ratio = seconds / ours
            print(
                f"  {title:<28}{seconds:>8.1f} s CPU = {ratio:,.0f}x ours ({1e3 * ours:.1f} ms), limit 2,000x"
                f"{'' if ratio >= 2000 else '   MISS'}\n"
                f"  {'':<28}sum of log-Huber {value:.12f}, ours {objective:.12f}"
                f"{'' if objective <= value * (1 + 1e-12) else '   MISS: ours is worse'}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU seconds of fits, beside the PyPI package chinchilla")
    parser.add_argument("--slices", type=int, default=5, choices=range(1, 6), help="values of E in the package's grid")
    parser.add_argument("--no-peer", action="store_true", help="leave the package out")
    chosen = parser.parse_args()
    if not TABLE.exists():
        sys.exit(f"the reference table is not beside this checkout ({TABLE})")
    runs = chinchilla()
    law = bs.laws.Chinchilla()
    print("CPU seconds in this process, children included")
    loading, _ = timed(lambda: importlib.import_module("babelscale.fitting"))
    first, _ = timed(lambda: bs.fit(law, runs, resamples=0))
    line(f"Chinchilla, 240 rows, no resamples: first call (imports {loading:.3f} s more)", first, 0.05)
    several = [timed(lambda: bs.fit(law, runs, resamples=0)) for _ in range(9)]
    ours, found = float(np.median([seconds for seconds, _ in several])), several[0][1]
    line("Chinchilla, 240 rows, no resamples: median of 9 further calls", ours, 0.05)
    seconds, _ = timed(lambda: bs.fit(law, runs, resamples=4000))
    line("the same with 4,000 bootstrap refits", seconds, 3)
    table = atlas()
    form = bs.laws.AdaptiveTransfer("sw", ("en", "fr", "ar"))
    seconds, plain = timed(lambda: bs.fit(form, table, resamples=0))
    rows = plain.provenance["observations"]
    line(f"adaptive transfer, three sources and other, {rows} rows of {len(table)} runs", seconds, 1)
    seconds, _ = timed(lambda: bs.fit(form, table, resamples=1000))
    line("the same with 1,000 refits to resampled runs", seconds, 30)
    assert found.objective is not None
    if not chosen.no_peer:
        beside(runs, ours, found.objective, chosen.slices)


if __name__ == "__main__":
    main()
