"""How far an optimum moves when the same table is written otherwise.

Usage: .venv/bin/python benchmarks/fit_invariance.py
Must hold: parameters (in the same units) and the objective move by less than 1e-6 relative under another order of
rows, other units of N, D and loss, and every run counted three times. tests/fitting/test_invariance.py holds it.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np

import babelscale as bs
from babelscale import importers
from babelscale.fitting.estimate import Objective

LIMIT = 1e-6
TABLE = Path(__file__).parents[2] / "shared" / "tables" / "chinchilla" / "runs.csv"
Columns = tuple[np.ndarray, np.ndarray, np.ndarray]
WAYS: dict[str, tuple[Callable[[Columns], Columns], tuple[float, float, float], int]] = {
    # What is done to (N, D, loss); the units of N, D and loss it amounts to; how often each run then counts.
    "row order": (lambda c: (c[0][::-1], c[1][::-1], c[2][::-1]), (1, 1, 1), 1),
    "N in billions": (lambda c: (c[0] / 1e9, c[1], c[2]), (1e-9, 1, 1), 1),
    "D in trillions": (lambda c: (c[0], c[1] / 1e12, c[2]), (1, 1e-12, 1), 1),
    "loss in bits": (lambda c: (c[0], c[1], c[2] / math.log(2)), (1, 1, 1 / math.log(2)), 1),
    "every run three times": (lambda c: (np.tile(c[0], 3), np.tile(c[1], 3), np.tile(c[2], 3)), (1, 1, 1), 3),
}


def columns() -> tuple[str, Columns]:
    """The Chinchilla table where it is beside this checkout, otherwise a simulated one."""
    if TABLE.exists():
        runs = importers.table(TABLE, {"params": "Model Size", "flops": "Training FLOP"}, tokens_from_flops=True)
        seen = runs.observations()
        keep = seen.loss <= np.sort(seen.loss)[-6]
        return "Chinchilla table, 240 rows", (
            seen.allocation.params[keep],
            seen.allocation.total_tokens[keep],
            seen.loss[keep],
        )
    rng = np.random.default_rng(0)
    N, D = 10 ** rng.uniform(7, 10, 240), 10 ** rng.uniform(9, 12, 240)
    return "simulated", (N, D, (1.8 + 480 / N**0.35 + 2100 / D**0.37) * np.exp(rng.normal(0, 0.005, 240)))


def main() -> None:
    title, given = columns()
    law = bs.laws.Chinchilla()
    print(f"{title}: largest relative change of a parameter or of the objective (limit {LIMIT:g})")
    for objective in get_args(Objective):
        one = bs.fit(law, bs.Runs.from_columns(*given), objective=objective, resamples=0)
        for what, (rewrite, (N, D, loss), count) in WAYS.items():
            other = bs.fit(law, bs.Runs.from_columns(*rewrite(given)), objective=objective, resamples=0)
            p = one.parameters
            factors = {"E": loss, "A": loss * N ** p["alpha"], "B": loss * D ** p["beta"]}
            moved = max(abs(other.parameters[k] / (value * factors.get(k, 1)) - 1) for k, value in p.items())
            assert one.objective is not None
            assert other.objective is not None
            moved = max(moved, abs(other.objective / (count * one.objective) - 1))
            print(f"  {objective:<9}{what:<24}{moved:>9.1e}{'' if moved < LIMIT else '   MISS'}")


if __name__ == "__main__":
    main()
