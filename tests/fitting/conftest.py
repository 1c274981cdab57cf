"""Runs with known answers: the public Chinchilla table, and tables drawn from a law."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from babelscale import importers
from babelscale.allocation import Allocation
from babelscale.laws import AdaptiveTransfer, ScalingLaw
from babelscale.runs import Runs

TABLES = Path(__file__).parents[3] / "shared" / "tables"


@pytest.fixture(scope="session")
def all_chinchilla_runs() -> Runs:
    """Hoffmann et al.'s Fig. 4 as Besiroglu et al. read it, 245 rows."""
    path = TABLES / "chinchilla" / "runs.csv"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    columns = {"params": "Model Size", "flops": "Training FLOP"}
    return importers.table(path, columns, tokens_from_flops=True)


@pytest.fixture(scope="session")
def chinchilla_runs(all_chinchilla_runs: Runs) -> Runs:
    """The 240 rows of Besiroglu et al.'s fit: without the five largest losses."""
    runs = all_chinchilla_runs
    worst = runs.losses.sort("nats", descending=True)["run"][:5].to_list()
    return runs.select(name for name in runs.names if name not in worst)


@pytest.fixture(scope="session")
def datablations_runs() -> Runs:
    path = TABLES / "datablations" / "runs_182_fit.csv"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    return importers.table(path, {})


def observed(law: ScalingLaw, parameters: Mapping[str, float], allocation: Allocation, noise: float, seed: int) -> Runs:
    """A run an allocation, the loss of the law's target with log-normal noise."""
    n = len(allocation.params)
    loss = law.loss(parameters, allocation) * np.exp(np.random.default_rng(seed).normal(0, noise, n))
    target = law.target or allocation.languages[0]
    rows = [
        {
            "run": f"r{i:04d}",
            "params": allocation.params[i],
            "language": code,
            "tokens": tokens[i],
            "unique_tokens": None if np.isinf(allocation.U(code)[i]) else allocation.U(code)[i],
            "loss": loss[i] if code == target else None,
        }
        for i in range(n)
        for code, tokens in allocation.tokens.items()
        if tokens[i] > 0 or code == target
    ]
    return Runs.from_flat(pl.DataFrame(rows), "simulated")


ATLAS = AdaptiveTransfer("sw", ("en", "fr"))
ATLAS_TRUTH = {
    "E": 0.6,
    "A": 60.0,
    "B": 900.0,
    "alpha": 0.35,
    "beta": 0.35,
    "lambda": 0.1,
    "tau_en": 0.25,
    "tau_fr": -0.05,
    "tau_other": 0.1,
}


def atlas_allocations(n: int, seed: int, *, repeats: bool = True) -> Allocation:
    """Monolingual runs and mixtures of sw, en, fr and de on five sizes; sw repeats up to a hundred times."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet([0.8] * 4, n)
    shares = np.where(shares < 0.05, 0.0, shares)
    shares[:, 0] = np.maximum(shares[:, 0], 0.1)
    shares[rng.random(n) < 0.3] = [1, 0, 0, 0]
    shares /= shares.sum(axis=1, keepdims=True)
    tokens = 10 ** rng.uniform(9, 11, n)
    D = {code: shares[:, k] * tokens for k, code in enumerate(("sw", "en", "fr", "de"))}
    U = {"sw": 1e9, "en": 1e13, "fr": 1e12, "de": 1e12} if repeats else None
    return Allocation(rng.choice([1e7, 3e7, 1e8, 3e8, 1e9], n), D, U)


@pytest.fixture(scope="session")
def atlas_runs() -> Runs:
    return observed(ATLAS, ATLAS_TRUTH, atlas_allocations(100, 3), 0.005, 3)
