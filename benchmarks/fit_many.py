"""Fits of many targets: processes against one, with one optimum in common, and whether any digit depends on it.

.venv/bin/python benchmarks/fit_many.py [--targets 12] [--runs 300] [--resamples 400]
"""

import argparse
import os
import time

import numpy as np

from babelscale.allocation import Allocation
from babelscale.fitting import fit_many, simulate
from babelscale.laws import AdaptiveTransfer
from babelscale.workers import available_cpus

CODES = ["de", "en", "es", "fr", "hi", "it", "ja", "pt", "ru", "sw", "vi", "zh", "ar", "bn", "id", "ko", "nl", "no"]
TRUTH = {"A": 60.0, "B": 900.0, "alpha": 0.35, "beta": 0.35, "lambda": 0.065, "tau_other": 0.2}


def spent() -> float:
    """CPU seconds of this process and of those that it started and saw end."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", type=int, default=12)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--resamples", type=int, default=400)
    asked = parser.parse_args()
    codes = CODES[: asked.targets]
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(len(codes), 0.5), asked.runs)
    tokens = 10 ** rng.uniform(9, 11, asked.runs)
    D = {code: shares[:, k] * tokens for k, code in enumerate(codes)}
    allocation = Allocation(rng.choice([1e7, 3e7, 1e8, 3e8, 1e9], asked.runs), D, {codes[-1]: 1e9})
    forms = [AdaptiveTransfer(code) for code in codes]
    truths = [{"E": 0.5 + 0.02 * k, **TRUTH} for k in range(len(codes))]
    runs = simulate(forms, truths, allocation, noise=0.005, seed=0)

    print(f"{len(codes)} targets, {asked.runs} runs, {asked.resamples} resamples each, adaptive transfer")
    wall, fits = {}, {}
    for workers in sorted({1, 2, len(available_cpus())}):
        began, cpu = time.perf_counter(), spent()
        fits[workers] = fit_many(forms, runs, resamples=asked.resamples, workers=workers)
        wall[workers] = time.perf_counter() - began
        cpu = spent() - cpu
        same = "the same fits" if fits[workers] == fits[1] else "OTHER FITS"
        took = f"{wall[workers]:6.2f} s wall, {wall[1] / wall[workers]:.2f}x one; {cpu:6.2f} s CPU"
        print(f"  {workers:>2} processes {took}; {same}")
    began, cpu = time.perf_counter(), time.process_time()
    joint = fit_many(forms, runs, shared=("alpha", "lambda"), resamples=asked.resamples)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    first = joint[codes[0]]
    low, high = first.intervals["alpha"]
    print(f"  jointly, alpha and lambda shared: {took:.2f} s wall, {cpu:.2f} s CPU; {first.notes[-1]}")
    print(f"  alpha {first.parameters['alpha']:.4f} (90 % {low:.4f} to {high:.4f}), planted {TRUTH['alpha']}")
    widths = [found.intervals["alpha"] for found in fits[1].values()]
    print(f"  mean width of alpha's interval apart {np.mean([b - a for a, b in widths]):.4f}, jointly {high - low:.4f}")


if __name__ == "__main__":
    main()
