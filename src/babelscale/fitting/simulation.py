"""simulate: run tables drawn from a law with known parameters, for tests and for the evaluation of designs.

    log y = log L(theta, x) + r_run + e,     e ~ Normal(0, noise^2),     r_run ~ Normal(0, run_noise^2)

e is drawn for every loss; r_run is one number for all the losses of a run, such as the effect of its seed.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.laws import ScalingLaw
from babelscale.runs import METRICS, Metric, Runs
from babelscale.tables import COVARIATE

Parameters = Mapping[str, float]
Values = NDArray[np.float64]


def simulate(
    law: ScalingLaw | Sequence[ScalingLaw],
    parameters: Parameters | Sequence[Parameters],
    design: Allocation | Runs,
    *,
    noise: float = 0.005,
    run_noise: float = 0.0,
    seed: int,
) -> Runs:
    """A table of runs whose losses follow a law, with log-normal noise.

    Args:
        law: a law, or one a target language. A law without a target gives the loss of the design's only measured
            language (of an Allocation: of its first).
        parameters: the law's numbers in natural units, or one mapping a law.
        design: an Allocation of shape (n,) makes n runs of one loss a target. Runs keep their tables: every loss on a
            law's target is drawn anew, whatever its split and learning-rate state, in bits per byte where the table
            has bytes and in nats per token elsewhere; losses on other languages are left out.
        noise: standard deviation of log loss, independent for every loss: 0.005 is half a per cent.
        run_noise: the same for an error shared by all losses of a run.
        seed: same arguments and seed, same table; a target's noise does not depend on the other targets.

    Runs that are not trained on a target have no loss on it.

    Raises:
        InputError: a noise below 0, a parameter is missing, two laws of one target, no run trained on a target.
        DomainError: the law has no loss at an allocation of the design.
    """
    forms, numbers = _paired(law, parameters)
    for name, value in (("noise", noise), ("run_noise", run_noise)):
        if not (value >= 0 and math.isfinite(value)):
            raise InputError(f"{name} is {value}", hint="a standard deviation of log loss; 0.005 is half a per cent")
    runs = runs_of(design) if isinstance(design, Allocation) else design
    targets = [_target(form, design) for form in forms]
    if len(set(targets)) < len(targets):
        raise InputError(f"two laws of one target among {', '.join(targets)}", hint="name one law a target")
    shared = dict(zip(runs.names, np.random.default_rng(seed).normal(0, run_noise, len(runs)), strict=True))
    losses = []
    for form, values, target in zip(forms, numbers, targets, strict=True):
        rows = runs.losses.filter(language=target) if isinstance(design, Runs) else _rows_without_loss(runs, target)
        rows, allocation = _trained(form, runs, rows, target)
        rng = np.random.default_rng([seed, *target.encode()])
        error = rng.normal(0, noise, rows.height) + np.array([shared[name] for name in rows["run"]])
        loss = form.loss(values, allocation) * np.exp(error)
        losses.append(_with_totals(rows, loss, runs.metric if isinstance(design, Runs) else "nats_per_token"))
    return Runs.of(runs.table, runs.exposure, pl.concat(losses), "simulated ")


def _paired(
    law: ScalingLaw | Sequence[ScalingLaw], parameters: Parameters | Sequence[Parameters]
) -> tuple[list[ScalingLaw], list[Parameters]]:
    forms = [law] if isinstance(law, ScalingLaw) else list(law)
    numbers = [parameters] if isinstance(parameters, Mapping) else list(parameters)
    if not forms or len(forms) != len(numbers):
        raise InputError(f"{len(forms)} laws and {len(numbers)} sets of parameters", hint="give one set a law")
    return forms, numbers


def _target(law: ScalingLaw, design: Allocation | Runs) -> str:
    if isinstance(design, Runs):
        return design.target(law.target)
    target = law.target or design.languages[0]
    if target not in design.languages:
        raise InputError(f"the design trains no {target!r}", hint=f"it has {', '.join(design.languages)}")
    return target


def runs_of(allocation: Allocation) -> Runs:
    """Allocations of shape (n,) as runs without losses, named in their order."""
    N = np.atleast_1d(allocation.params)
    names = [f"r{i:06d}" for i in range(len(N))]
    further = {COVARIATE + name: np.atleast_1d(value) for name, value in allocation.covariates.items()}
    table = pl.DataFrame({"run": names, "params": N, "tokens": np.atleast_1d(allocation.total_tokens), **further})
    frames = []
    for code in allocation.languages:
        U = np.atleast_1d(allocation.U(code))
        frames.append(
            pl.DataFrame({"run": names, "tokens": np.atleast_1d(allocation.D(code))}).with_columns(
                step=pl.lit(0, pl.Int64), language=pl.lit(code), unique_tokens=pl.Series(U).replace(math.inf, None)
            )
        )
    empty = pl.DataFrame(
        schema={"run": pl.String, "step": pl.Int64, "language": pl.String, "split": pl.String, "lr_state": pl.String}
        | dict.fromkeys(("nats", "tokens"), pl.Float64)
    )
    return Runs.of(table, pl.concat(frames), empty, "design ")


def _rows_without_loss(runs: Runs, target: str) -> pl.DataFrame:
    """One row for the loss of every run on a target, without its value."""
    texts = {"language": target, "split": "validation", "lr_state": "decayed"}
    return runs.table.select(
        "run",
        pl.lit(0, pl.Int64).alias("step"),
        *(pl.lit(text).alias(name) for name, text in texts.items()),
        *(pl.lit(1.0).alias(name) for name in ("nats", "tokens")),
        *(pl.lit(None, pl.Float64).alias(name) for name in ("bytes", "unigram_nats")),
    )


def _trained(law: ScalingLaw, runs: Runs, rows: pl.DataFrame, target: str) -> tuple[pl.DataFrame, Allocation]:
    """The losses of runs that the law is defined on, in the order of the table, and their allocations."""
    allocation = runs.allocation(rows)
    keep = law.defined(allocation)
    if not keep.any():
        raise InputError(f"no run of the design trains {target!r}", hint="the law needs tokens of its target")
    return rows.filter(pl.Series(keep)), allocation.at(keep)


def _with_totals(rows: pl.DataFrame, loss: Values, metric: Metric) -> pl.DataFrame:
    """The losses as totals of the table's own metric."""
    unit = {"nats_per_token": pl.col("tokens"), "bits_per_byte": pl.col("bytes") * math.log(2)}
    if metric not in unit:
        raise InputError(f"a law of {metric} cannot be simulated", hint=f"one of {', '.join(METRICS)} that is positive")
    return rows.with_columns(nats=pl.Series(loss) * unit[metric])
