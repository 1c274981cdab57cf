"""Fit and Prediction: a law with its parameters, their uncertainty, and the range of the runs behind them."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import InstanceOf

from babelscale import laws
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.formatting import json_ready
from babelscale.intervals import central, normal_points
from babelscale.laws import ScalingLaw
from babelscale.result import JsonResult, Numbers, read_json, to_number, to_numbers

FORMAT = 1
_UNITS = {"params": "parameters", "tokens": "target tokens", "total_tokens": "tokens", "compute": "FLOPs (6ND)"}
_BEYOND = 1.05  # a prediction this far past the last run is still called inside


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted loss with its uncertainty, shape of the allocation.

    `low` and `high` bound a newly trained run (90 % prediction interval: uncertain parameters and the scatter of runs
    around the law); `confidence_low` and `confidence_high` bound the law's own curve. NaN where the fit holds no draws.
    `extrapolation` says how far the allocation lies beyond the runs, or is None.
    """

    loss: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    confidence_low: NDArray[np.float64]
    confidence_high: NDArray[np.float64]
    metric: str
    extrapolation: str | None = None

    def __float__(self) -> float:
        return float(self.loss)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.float64]:
        return np.array(self.loss, dtype=dtype, copy=copy)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; what is not known is None."""
        return json_ready(dict(vars(self)))


@dataclass(frozen=True, eq=False, repr=False)
class Fit(JsonResult):
    """A scaling law with its parameters.

    Args:
        law: the form.
        parameters: value by name, natural units (parameters, tokens, the metric's unit).
        objective: the sum of Huber losses at the optimum, None where it is not known (printed figures).
        draws: bootstrap draws, shape (draws, parameters), columns in the order of `law.parameter_names`.
        intervals: name -> (low, high), 90 %.
        residual_sd: standard deviation of log loss around the law, degrees of freedom counted.
        range: (min, max) of "params", "tokens" (the target's), "total_tokens", "compute" (6ND) and, as
            "covariates.NAME", of the covariates that the law reads, over the runs.
        unique_tokens: U by language, the most that any of the runs had; a language whose U is unknown is left out.
        metric: unit of the loss. target: language of the loss.
        notes: plain sentences on what is not identified, on bounds and on the search.
        provenance: hash of the runs, counts, settings and versions.
    """

    law: InstanceOf[ScalingLaw]
    parameters: Mapping[str, float]
    objective: float | None = None
    draws: Numbers = field(default_factory=lambda: np.empty((0, 0)))
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    residual_sd: float | None = None
    range: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    unique_tokens: Mapping[str, float] = field(default_factory=dict)
    metric: str = ""
    target: str | None = None
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = self.law.parameter_names
        missing = [name for name in names if name not in self.parameters]
        if missing:
            raise InputError(f"fit of law {self.law.name!r}: no value for {', '.join(missing)}")
        draws = np.asarray(self.draws, np.float64)
        if draws.size == 0:
            draws = np.empty((0, len(names)))
        if draws.ndim != 2 or draws.shape[1] != len(names):
            raise InputError(f"fit of law {self.law.name!r}: draws of shape {draws.shape} for {len(names)} parameters")
        object.__setattr__(self, "draws", draws)
        object.__setattr__(self, "parameters", {name: float(self.parameters[name]) for name in names})
        object.__setattr__(self, "intervals", {k: (float(v[0]), float(v[1])) for k, v in self.intervals.items()})
        object.__setattr__(self, "range", {k: (float(v[0]), float(v[1])) for k, v in self.range.items()})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fit) and self.law == other.law and self.to_dict() == other.to_dict()

    def predict(self, allocation: Allocation) -> Prediction:
        """The loss of an allocation or a batch of them.

        Raises:
            DomainError: the law has no loss there.
        """
        loss = self.law.loss(self.parameters, allocation)
        if not len(self.draws):
            unknown = np.full(loss.shape, np.nan)
            return Prediction(loss, unknown, unknown, unknown, unknown, self.metric, self.extrapolation(allocation))
        columns = self.draws.T.reshape(-1, len(self.draws), *[1] * loss.ndim)
        drawn = self.law.evaluate(dict(zip(self.law.parameter_names, columns, strict=True)), allocation)
        # A draw outside the law's domain means that the loss can be any number; it is not skipped.
        logs = np.log(np.where(np.isfinite(drawn), drawn, np.inf))
        sure = np.exp(central(logs, rule="outer"))
        noise = (self.residual_sd or 0.0) * NORMAL.reshape(-1, *[1] * logs.ndim)
        new = np.exp(central((logs + noise).reshape(-1, *loss.shape), rule="outer"))
        return Prediction(loss, new[0], new[1], sure[0], sure[1], self.metric, self.extrapolation(allocation))

    def extrapolation(self, allocation: Allocation) -> str | None:
        """How far allocations lie beyond the runs of this fit, the farthest of them; None inside."""
        if not self.range:
            return "the range of the runs behind this fit is not known"
        parts = []
        for name, values in ranges(self.law, allocation).items():
            if name not in self.range or (name == "total_tokens" and self.law.target is None):
                continue
            low, high = self.range[name]
            unit = _UNITS.get(name, name.removeprefix("covariates."))
            most, fewest = float(np.max(values)), float(np.min(values))
            if most > _BEYOND * high:
                parts.append(f"{most / high:.3g}x above the most {unit} of the runs ({high:.3g})")
            if fewest < low / _BEYOND:
                factor = f"{low / fewest:.3g}x" if fewest > 0 else "infinitely far"
                parts.append(f"{factor} below the fewest {unit} of the runs ({low:.3g})")
        return f"extrapolated: {', '.join(parts)}" if parts else None

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON, draws included."""
        return {
            "format": FORMAT,
            "law": laws.to_dict(self.law),
            "target": self.target,
            "metric": self.metric,
            "parameters": dict(self.parameters),
            "objective": self.objective,
            "intervals": {name: [to_number(end) for end in pair] for name, pair in self.intervals.items()},
            "residual_sd": self.residual_sd,
            "range": {name: list(pair) for name, pair in self.range.items()},
            "unique_tokens": dict(self.unique_tokens),
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
            "draws": self.draws.tolist() if np.isfinite(self.draws).all() else to_numbers(self.draws),
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the fit as JSON: equal for equal fits, whichever objects hold them."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    @classmethod
    def load(cls, path: str | Path, law: ScalingLaw | None = None) -> Self:
        """Read what `save` wrote; a law that is not registered is passed as `law`.

        Raises:
            InputError: the file is no fit, naming the file and the field.
        """
        return cls.from_dict(read_json(path, "a file written by Fit.save"), str(path), law=law)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str | None = None, *, law: ScalingLaw | None = None) -> Self:
        return super().from_dict(data if law is None else {**data, "law": law}, where)

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        if data["format"] != FORMAT:
            raise InputError(f"format {data['format']!r}, this version reads {FORMAT}")
        law = data["law"] if isinstance(data["law"], ScalingLaw) else laws.from_dict(data["law"])
        return {field.name: data[field.name] for field in fields(cls)} | {"law": law}

    @property
    def headline(self) -> str:
        target = f" of {self.target}" if self.target else ""
        runs = f", fitted to {self.provenance['runs']} runs" if "runs" in self.provenance else ""
        unit = self.metric.replace("_", " ") or "an unknown unit"
        return f"{self.law.name}{target}, {len(self.parameters)} parameters, loss in {unit}{runs}"

    def to_frame(self) -> pl.DataFrame:
        """One row a parameter: its value, 90 % interval, and meaning."""
        meaning = {parameter.name: parameter.meaning for parameter in self.law.parameters}
        rows = [
            (name, value, *self.intervals.get(name, (None, None)), meaning[name])
            for name, value in self.parameters.items()
        ]
        columns = {"parameter": pl.String, "value": pl.Float64, "low": pl.Float64, "high": pl.Float64}
        return pl.DataFrame(rows, {**columns, "meaning": pl.String}, orient="row")

    def summary(self) -> str:
        target = f" of {self.target}" if self.target else ""
        lines = [f"{self.law.name}{target}, loss in {self.metric.replace('_', ' ') or 'an unknown unit'}"]
        for name, value in self.parameters.items():
            low, high = self.intervals.get(name, (None, None))
            between = "" if low is None else f"  90 % {low:.4g} to {high:.4g}"
            lines.append(f"  {name:<12}{value:>12.6g}{between}")
        return "\n".join(lines + [f"  {note}" for note in self.notes])


def ranges(law: ScalingLaw, allocation: Allocation) -> dict[str, NDArray[np.float64]]:
    """The quantities of a fit's range, by name: N, the law's own D, D_tot, C = 6 N D_tot and the law's covariates."""
    tokens = allocation.total_tokens if law.target is None else allocation.D(law.target)
    total = allocation.total_tokens
    further = {f"covariates.{name}": allocation.covariate(name) for name in law.covariates}
    found = {"params": allocation.params, "tokens": tokens, "total_tokens": total}
    return {**found, "compute": 6 * allocation.params * total, **further}


def unique_tokens(allocation: Allocation) -> dict[str, float]:
    """The most unique tokens that any of the allocations had of a language, where that is known."""
    most = {code: float(np.max(U[np.isfinite(U)], initial=0.0)) for code, U in allocation.unique_tokens.items()}
    return {code: U for code, U in most.items() if U > 0}


NORMAL = normal_points(41)
