"""Random planning problems and fits with known numbers, for the tests of this room."""

from dataclasses import replace

import numpy as np

from babelscale.fitting import Fit
from babelscale.laws import AdaptiveTransfer
from babelscale.planning.optimiser.constraints import ConstraintSet
from babelscale.planning.optimiser.evaluate import LossEvaluator

COMPUTE = 1e21
BOX = (1e3, COMPUTE / 6e3)


def random_problem(
    seed: int,
    K: int = 4,
    T: int = 2,
    R: int = 3,
    *,
    low: float = 0.0,
    price: bool = False,
    pool: bool = False,
    cap: bool = False,
    alone: bool = False,
    limits: ConstraintSet | None = None,
) -> LossEvaluator:
    """R laws of T targets over K languages; `pool` adds a stream of the others, `price` a price on the share."""
    rng = np.random.default_rng(seed)
    worth = rng.uniform(low, 0.5, (R, T, K))
    worth[:, np.arange(T), np.arange(T)] = 1
    found = LossEvaluator(
        languages=tuple(f"x-{k}" for k in range(K)),
        weights=np.full((R, T), 1 / T),
        E=rng.uniform(0, 1, (R, T)),
        A=np.exp(rng.uniform(5, 8, (R, T))),
        alpha=rng.uniform(0.3, 0.6, (R, T)),
        B=np.exp(rng.uniform(6, 11, (R, T))),
        beta=rng.uniform(0.3, 0.6, (R, T)),
        gamma=rng.uniform(0, 0.2, (R, T)) if price else np.zeros((R, T)),
        transfer_weight=worth[:, np.arange(T), np.arange(T)] if alone else worth,
        group_weight=rng.uniform(0.02, 0.1, (R, T)) if pool else np.zeros((R, T)),
        group_members=1.0 - np.eye(T, K),
        group_unique=np.full(T, 1e10),
        lam=rng.uniform(0.05, 0.3, (R, T)),
        size_cap=np.full((R, T), 1e9 if cap else np.inf),
        size_lam=rng.uniform(0.1, 0.3, (R, T)),
        unique=10 ** rng.uniform(8, 12, K),
        target_index=np.arange(T),
        compute=np.full(R, COMPUTE),
        least_loss=np.zeros((R, T)),
    )
    return found if limits is None else replace(found, constraints=limits)


def scattered(P: LossEvaluator, rows: int, noise: float, seed: int) -> LossEvaluator:
    """Draws around a problem of one row."""
    rng, many = np.random.default_rng(seed), P.at(np.zeros(rows, np.intp))
    drawn = {name: getattr(many, name) for name in ("A", "B", "transfer_weight", "group_weight", "lam")}
    return replace(many, **{name: v * np.exp(noise * rng.standard_normal(v.shape)) for name, v in drawn.items()})


def transfer_fit(
    target: str,
    taus: dict[str, float],
    *,
    lam: float = 0.1,
    spread: float = 0.01,
    other: float = 0.0,
    draws: int = 20,
    **numbers: float,
) -> Fit:
    """An adaptive transfer fit whose numbers are stated."""
    law = AdaptiveTransfer(target, tuple(taus))
    p = {"E": 0.6, "A": 900.0, "B": 4000.0, "alpha": 0.42, "beta": 0.42, "lambda": lam} | numbers
    p |= {f"tau_{code}": tau for code, tau in taus.items()} | {"tau_other": other}
    rng = np.random.default_rng(0)
    values = np.array([p[name] for name in law.parameter_names])
    drawn = values * np.exp(spread * rng.standard_normal((draws, len(values))))
    drawn[:, law.parameter_names.index("beta")] = drawn[:, law.parameter_names.index("alpha")]
    return Fit(law=law, parameters=p, draws=drawn, target=target, metric="bits_per_byte", residual_sd=0.002)
