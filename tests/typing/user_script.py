"""A script such as a user writes, with every public name; `test_typing.py` has it checked by type checkers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

import babelscale as bs

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Logarithmic(bs.laws.ScalingLaw):
    """A law of one's own: L = E + A / N^alpha + B / log(D)^beta."""

    target: str | None = None
    name = "logarithmic"

    @property
    def shape(self) -> tuple[bs.laws.Parameter, ...]:
        starts = (0.1, 0.3, 0.6)
        return tuple(
            bs.laws.Parameter(name, f"exponent of {symbol}", 0.01, 2.0, starts)
            for name, symbol in (("alpha", "N"), ("beta", "log D"))
        )

    def prepare(self, allocation: bs.Allocation) -> tuple[Array, Array]:
        return np.log(allocation.params), np.log(np.log(allocation.total_tokens))

    def terms(self, shape: Mapping[str, Array], x: tuple[Array, Array]) -> Mapping[str, bs.laws.Term]:
        size, data = bs.laws.Term(-shape["alpha"] * x[0]), bs.laws.Term(-shape["beta"] * x[1])
        return {"E": bs.laws.Term(np.zeros(1)), "A": size, "B": data}


def read(folder: Path) -> bs.Runs:
    runs: bs.Runs = bs.Runs.read(folder)
    flat = bs.Runs.from_frame(runs.to_frame())
    columns = bs.Runs.from_columns(params=[1e7, 1e8], tokens=[1e9, 2e9], loss=np.array([3.1, 2.9]))
    train, test = flat.hold_out("params")
    names: list[str] = [*train.names, *test.names, *columns.names]
    if not names:
        raise bs.InputError("no runs", hint="train some")
    return bs.Runs.load(runs.save(folder))


def door(path: Path) -> bs.Runs:
    checked: bs.CheckResult = bs.check(path)
    if checked.worst == "error":
        raise bs.InputError(str(checked.findings[0]), hint=None)
    return bs.import_runs(path, bs.importers.Mapping(language="sw")).runs


def fit(runs: bs.Runs) -> bs.Fit:
    law: bs.laws.ScalingLaw = bs.laws.by_name("chinchilla", "sw", runs)
    found = bs.fit(law, runs, resamples=50, fixed={"alpha": 0.34})
    value: float = found.parameters["alpha"]
    low, high = found.intervals["E"]
    allocation = bs.Allocation(1e9, {"sw": 1e10, "en": [1e10, 2e10]}, {"sw": 1e9})
    prediction: bs.Prediction = found.predict(allocation)
    width: float = float(np.max(prediction.high - prediction.low)) + low + high + value
    if width > 1:
        print(found.extrapolation(allocation), found.objective)
    every: dict[str, bs.Fit] = bs.fit_many("chinchilla", runs, ["sw"], shared=("alpha",))
    return bs.Fit.load(every["sw"].save("fit.json"))


def judge(found: bs.Fit, runs: bs.Runs) -> pl.DataFrame:
    comparison: bs.Comparison = bs.compare(["chinchilla", found.law], runs, axes=["params", "random"])
    profile: bs.Profile = bs.profile(found, runs, "beta")
    low, high = profile.interval
    if low is not None and high is not None:
        print(high - low)
    again = bs.simulate(found.law, found.parameters, runs, noise=0.01, seed=1)
    bs.testing.check_law(found.law)
    found.plot(runs).save("curves.json")
    frames = [each.to_frame() for each in (comparison, profile, again)]
    return pl.concat(frames, how="diagonal_relaxed")


def transfer(runs: bs.Runs) -> bs.TransferMatrix:
    matrix = bs.TransferMatrix.from_runs(runs)
    best: str = matrix.helpers("sw")[0].source
    analysis = bs.transfer.analyse(matrix.within(["sw", best]))
    print(analysis, matrix.summary())
    return bs.TransferMatrix.load(matrix.save("matrix.csv"))


def advise(found: bs.Fit) -> str:
    plan: bs.Plan = bs.plan(found, compute=1e21, languages=["sw"])
    decision: bs.Decision = bs.decide(params=2e9, tokens=1e11)
    expansion: bs.Expansion = bs.expand(2, 8)
    partition: bs.ModelPartition = bs.partition_models(compute=1e21, languages=["sw", "yo"], published=True)
    mixture = bs.Mixture({"sw": 0.5, "en": 0.5})
    swahili: bs.Language = bs.languages.lookup("sw")
    tokens: float = plan.tokens["sw"]
    texts = [str(each) for each in (plan, decision, expansion, partition, mixture)]
    return "\n".join([*texts, swahili.name, f"{tokens:.3g}", bs.__version__])
