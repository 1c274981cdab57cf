"""Peak memory and CPU of one fit of a long table: a simulated Chinchilla table, whole runs weighed anew.

    python benchmarks/fit_memory.py [--rows 100000] [--resamples 200]

Must hold at 100,000 rows and 200 resamples: at most 1 GB of resident memory at the peak.
"""

import argparse
import resource
import time

import numpy as np

from babelscale.allocation import Allocation
from babelscale.fitting import fit, simulate
from babelscale.laws import Chinchilla

LIMIT = 1000.0
TRUTH = {"E": 1.7, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


def peak() -> float:
    """The most resident memory of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--resamples", type=int, default=200)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    allocation = Allocation(10 ** rng.uniform(7, 10, asked.rows), {"en": 10 ** rng.uniform(9, 12, asked.rows)})
    runs = simulate(Chinchilla("en"), TRUTH, allocation, noise=0.005, seed=0)
    before, began, cpu = peak(), time.perf_counter(), time.process_time()
    found = fit(Chinchilla("en"), runs, resamples=asked.resamples)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    said = f"within {LIMIT:.0f} MB" if peak() <= LIMIT else f"ABOVE {LIMIT:.0f} MB"
    print(f"{asked.rows} rows, {asked.resamples} resamples: {cpu:.1f} s CPU, {wall:.1f} s wall")
    print(f"peak {peak():.0f} MB ({before:.0f} MB before the fit), {said}")
    low, high = found.intervals["alpha"]
    print(f"objective {found.objective!r}; alpha {found.parameters['alpha']!r}, 90 % {low!r} to {high!r}")


if __name__ == "__main__":
    main()
