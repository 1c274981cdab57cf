"""Runs whose transfer is known: what tests of scores, readings and estimates share."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
import pytest

from babelscale.runs import Runs

# The gain of a source for a target, planted; the worth of a mixture may follow another rule.
Worth = Callable[[str, Mapping[str, float]], float]


@pytest.fixture(scope="session")
def simulate() -> Callable[..., Runs]:
    """simulate(worth, mixtures, ...): learning curves of monolingual runs and of mixtures, all of one size."""

    def made(
        worth: Worth,
        mixtures: Sequence[Mapping[str, float]],
        *,
        tokens: float = 1e8,
        longer: float = 1.0,
        noise: float = 0.0,
        seeds: Sequence[int] = (0,),
        params: float = 1e6,
        states: Sequence[str] = ("stable",),
        checkpoints: int = 14,
    ) -> Runs:
        codes = sorted({code for mixture in mixtures for code in mixture})
        rng = np.random.default_rng(11)
        table, exposure, losses = [], [], []
        for seed in seeds:
            for number, mixture in enumerate([*({code: 1.0} for code in codes), *mixtures]):
                run = f"r{number}-{seed}"
                end = tokens * (longer if len(mixture) > 1 else 1.0)
                table.append({"run": run, "params": params, "tokens": end, "seed": seed})
                for step, d in enumerate(np.geomspace(end / 60, end, checkpoints)):
                    for code, share in mixture.items():
                        exposure.append({"run": run, "step": step, "language": code, "tokens": d * share})
                        d_eff = d * share * math.exp(worth(code, mixture) if len(mixture) > 1 else 0.0)
                        for state in states:
                            loss = (1 + 50 * d_eff**-0.3) * math.exp(noise * rng.standard_normal())
                            losses.append(
                                {
                                    "run": run,
                                    "step": step,
                                    "language": code,
                                    "split": "validation",
                                    "lr_state": state,
                                    "nats": loss,
                                    "tokens": 1.0,
                                }
                            )
        return Runs.of(pl.DataFrame(table), pl.DataFrame(exposure), pl.DataFrame(losses))

    return made


@pytest.fixture(scope="session")
def even() -> Callable[..., dict[str, float]]:
    """even(codes): a mixture in equal parts."""
    return lambda codes: {code: 1 / len(codes) for code in codes}
