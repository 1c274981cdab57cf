"""profile: the least objective at each value of one parameter, all others refitted."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.fitting import bootstrap, identifiability, newton, starts
from babelscale.fitting.bootstrap import Progress
from babelscale.fitting.estimate import FitSettings, Objective, checked, search, usable
from babelscale.fitting.objective import Array, FitProblem
from babelscale.fitting.result import Fit
from babelscale.formatting import json_ready
from babelscale.intervals import LEVEL, Z90
from babelscale.laws import ScalingLaw
from babelscale.result import JsonResult, Numbers
from babelscale.runs import Metric, Runs
from babelscale.tables import LRState

_CHI = Z90**2 / 2  # half the 90 % quantile of chi-squared with one degree of freedom
_EFFORT = newton.Effort(starts=4, tolerance=1e-12, most=300, wider=(64.0, 8.0))
_COARSE = 13  # values over the whole range, for optima elsewhere
_FIRST = 2.0**-12  # share of the range of the first step away from the optimum
_HALVINGS = 10
_ROUND = 1e-9  # share of the objective that rounding may add
_SUMS = {"huber": "sum of Huber losses", "lad": "sum of absolute deviations", "squares": "half the sum of squares"}


@dataclass(frozen=True, eq=False, repr=False)
class Profile(JsonResult):
    """The objective along one parameter.

    Args:
        parameter: its name; `best` its optimum, natural units; `minimum` the objective there.
        values: shape (n,), rising; `objective` the least objective at each (infinite where the law has no loss).
        others: name -> (n,), the other parameters refitted at each value.
        low, high: ends of the 90 % interval, None where it is unbounded: the objective stays within the threshold up
            to the end of `searched`.
        threshold: how far above `minimum` the objective may be inside the interval; `why` says where it comes from.
        notes: plain sentences.
    """

    parameter: str
    law: str
    target: str | None
    metric: str
    best: float
    minimum: float
    values: Numbers
    objective: Numbers
    others: Mapping[str, Numbers]
    low: float | None
    high: float | None
    searched: tuple[float, float]
    threshold: float
    why: str
    measure: str
    notes: tuple[str, ...] = ()

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """90 %; None is unbounded."""
        return self.low, self.high

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Which values are as good as the optimum, as far as the runs can tell."""
        return self.objective - self.minimum <= self.threshold + _ROUND * abs(self.minimum)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON; unbounded ends and objectives where the law has no loss are None."""
        return {
            "parameter": self.parameter,
            "law": self.law,
            "target": self.target,
            "metric": self.metric,
            "best": self.best,
            "minimum": self.minimum,
            "interval": [self.low, self.high],
            "unbounded": [side for side, end in (("below", self.low), ("above", self.high)) if end is None],
            "searched": list(self.searched),
            "threshold": self.threshold,
            "why": self.why,
            "measure": self.measure,
            "values": self.values.tolist(),
            "objective": json_ready(self.objective),
            "others": json_ready(self.others),
            "notes": list(self.notes),
        }

    def summary(self) -> str:
        lines = [
            f"profile of {self.parameter}, {self._of}, {self.measure} of log residuals",
            f"  best {self.best:.6g}, objective {self.minimum:.10g}",
            f"  90 % interval {self._ends}",
            f"  threshold {self.threshold:.3g} above the best: {self.why}",
            f"  {self.parameter:>12}{'above the best':>18}",
        ]
        for at in self._spread():
            rise = self.objective[at] - self.minimum
            mark = "  inside" if self.inside[at] else ""
            lines.append(f"  {self.values[at]:>12.5g}{rise:>18.4g}{mark}")
        return "\n".join(lines + [f"  {note}" for note in self.notes])

    @classmethod
    def _fields(cls, data: Mapping[str, Any]) -> Mapping[str, Any]:
        low, high = data["interval"]
        objective = [math.inf if value is None else value for value in data["objective"]]
        return {**data, "low": low, "high": high, "objective": objective}

    @property
    def headline(self) -> str:
        return f"{self.parameter} of {self._of}, best {self.best:.6g}, 90 % {self._ends}"

    def to_frame(self) -> pl.DataFrame:
        """One row a value: the objective, how far it lies above the least, and the other parameters refitted."""
        columns = {"objective": self.objective, "above_least": self.objective - self.minimum, "inside": self.inside}
        return pl.DataFrame({self.parameter: self.values, **columns, **self.others})

    def _spread(self) -> list[int]:
        """Values to print: those next to the optimum and to the interval's ends, and others at least a gap apart."""
        low, high = (edge if end is None else end for end, edge in zip(self.interval, self.searched, strict=True))
        gap = (high - low) / 50
        printed: list[int] = []
        for at, value in enumerate(self.values):
            if not printed or value - self.values[printed[-1]] >= gap or self.inside[at] != self.inside[printed[-1]]:
                printed.append(at)
        return printed

    @property
    def _of(self) -> str:
        return f"{self.law} of {self.target}" if self.target else self.law

    @property
    def _ends(self) -> str:
        least, most = self.searched
        low = f"unbounded below (down to {least:.4g}, the least searched)" if self.low is None else f"{self.low:.5g}"
        high = f"unbounded above (up to {most:.4g}, the most searched)" if self.high is None else f"{self.high:.5g}"
        return f"{low} to {high}"


def profile(
    fit_or_law: Fit | ScalingLaw,
    runs: Runs,
    parameter: str,
    values: Sequence[float] | None = None,
    *,
    metric: Metric | None = None,
    objective: Objective = "huber",
    delta: float = 1e-3,
    fixed: Mapping[str, float] | None = None,
    resamples: int = 200,
    seed: int = 0,
    lr_state: LRState = "decayed",
    progress: Progress | None = None,
) -> Profile:
    """The objective along a parameter with all others refitted, and the 90 % interval it gives.

    The threshold is calibrated by resampling whole runs: in 90 % of resamples the objective rises less than that
    between their optimum and the parameter at its best value. A likelihood ratio would need independent residuals of
    known distribution, which checkpoints of one run do not have; `resamples=0` uses it, scaled.

    Args:
        fit_or_law: a law, or a fit of these runs, whose metric, objective, delta, fixed parameters and learning-rate
            state are then used.
        values: where to report the objective, natural units; by default those that the search visited.
        fixed: as in `fit`, without `parameter`.

    Raises:
        InputError: as in `fit`; the law has no such parameter, a value is outside its range, or the fit has other runs.
    """
    law = fit_or_law
    if isinstance(fit_or_law, Fit):
        law, provenance = fit_or_law.law, fit_or_law.provenance
        if provenance.get("runs_hash") != runs.hash:
            raise InputError("the fit was made from other runs", hint="pass the runs it was made from, or its law")
        if provenance.get("shared"):
            raise InputError("the fit shares parameters with other targets", hint="profile its law instead")
        metric, lr_state, objective = runs.metric, provenance["lr_state"], provenance["objective"]
        metric = fit_or_law.metric or metric  # pyright: ignore[reportAssignmentType]
        delta = provenance["delta"] or delta
        fixed = {name: value for name, value in provenance["fixed"].items() if name != parameter}
    if not isinstance(law, ScalingLaw):
        raise InputError(f"{law!r} is not a law or a fit", hint="use bs.laws.by_name(name, target, runs)")
    settings = FitSettings(delta, resamples, seed, fixed, progress, _EFFORT, objective)
    fixed_by_caller = checked(law, settings)
    _check_parameter(law, parameter, fixed_by_caller, values or ())
    if objective == "lad" and not resamples:
        raise InputError("least absolute deviation has no likelihood ratio", hint="resamples=200 is usual")
    observations, notes = usable(law, runs.observations(law.target, metric=metric, lr_state=lr_state, start=law.starts))
    constraints = identifiability.constrain(law, observations.allocation, fixed_by_caller)
    problem = FitProblem(law, observations.allocation, np.log(observations.loss), constraints.fixed, constraints.ties)
    notes += [*identifiability.check_counts(problem, len(set(observations.run))), *constraints.notes]
    line = _Line(problem, parameter, settings)
    threshold, why = line.threshold(observations.run)
    low, high = line.ends(threshold)
    return line.result(values, observations.metric, (low, high), threshold, why, notes)


def _check_parameter(law: ScalingLaw, parameter: str, fixed: Mapping[str, float], values: Sequence[float]) -> None:
    if parameter not in law.parameter_names:
        raise InputError(
            f"law {law.name!r} has no parameter {parameter!r}", hint=f"parameters: {', '.join(law.parameter_names)}"
        )
    if parameter in fixed:
        raise InputError(f"{parameter} is fixed, so it has no profile", hint="leave it out of fixed")
    low, high = law.bounds[parameter]
    if wrong := [value for value in values if not low <= value <= high or not math.isfinite(value)]:
        raise InputError(f"{parameter} cannot be {wrong[0]:g}", hint=f"it lies in [{low:g}, {high:g}]")


@dataclass
class _Line:
    """The objective as a function of u, the parameter on the scale it is searched on."""

    problem: FitProblem
    parameter: str
    settings: FitSettings

    def __post_init__(self) -> None:
        self.evaluated: dict[float, tuple[float, Array, dict[str, float]]] = {}
        z, self.found, self.agreement = search(self.problem, self.settings)
        self.z, self.residual = z, self.problem.residual(z)
        parameters = {name: float(value[0]) for name, value in self.problem.natural_parameters(z[None]).items()}
        self.best = parameters[self.parameter]
        form = next(p for p in self.problem.law.parameters if p.name == self.parameter)
        self.linear = form in self.problem.law.linear
        if self.linear and self.parameter != "E" and self.best <= 0:
            raise InputError(f"{self.parameter} is 0 at the optimum, so its profile has no scale")
        self.log = form.log or (self.linear and self.parameter != "E")
        if self.parameter == "E":
            span = (0.0, float(np.exp(self.problem.log_loss.max())))
        else:
            span = (self.best * 1e-4, self.best * 1e4) if self.linear else (form.low, form.high)
        self.span = (self.u(span[0]), self.u(span[1]))
        self.start_from = (
            starts.from_values(self.at(self.best), parameters) if self.at(self.best).size else np.empty((1, 0))
        )
        self.objective(self.u(self.best), [self.start_from])

    def u(self, value: float) -> float:
        return math.log(value) if self.log else float(value)

    def value(self, u: float) -> float:
        return math.exp(u) if self.log else u

    def at(self, value: float) -> FitProblem:
        """The problem with the parameter held."""
        name = self.parameter
        while name in self.problem.ties:
            name = self.problem.ties[name]
        return replace(self.problem, fixed={**self.problem.fixed, name: value})

    def objective(self, u: float, extra: Sequence[Array] = ()) -> float:
        """The least objective with the parameter at u, from its neighbours' numbers and from the grid."""
        if u in self.evaluated:
            return self.evaluated[u][0]
        problem = self.at(self.value(u))
        unit, delta = np.ones(len(problem.log_loss)), self.settings.threshold
        if not problem.size:
            only = problem.evaluate(np.empty((1, 0)), unit, delta)
            return self._keep(u, problem, np.empty((1, 0)), only.value)
        points = starts.grid(problem)
        chosen = starts.choose(points, problem.evaluate(points, unit, delta).value, _EFFORT.starts)
        near = sorted(self.evaluated, key=lambda other: abs(other - u))[:2]
        candidates = [*extra, *(self.evaluated[other][1][None] for other in near), chosen]
        z = np.concatenate([one for one in candidates if one.size] or [np.empty((0, problem.size))])
        if not len(z):
            self.evaluated[u] = (math.inf, np.empty(0), {})
            return math.inf
        found = newton.minimise(problem, z, unit, delta, _EFFORT)
        return self._keep(u, problem, found.z, found.value)

    def _keep(self, u: float, problem: FitProblem, z: Array, values: Array) -> float:
        k = int(np.argmin(values))
        natural = {name: float(column[0]) for name, column in problem.natural_parameters(z[[k]]).items()}
        value = float(values[k])
        self.evaluated[u] = (value, z[k] if math.isfinite(value) else np.empty(0), natural)
        return value

    @property
    def minimum(self) -> float:
        return min(value for value, _, _ in self.evaluated.values())

    def threshold(self, run: NDArray[np.str_]) -> tuple[float, str]:
        """How far the objective may rise, and why: by resampling, and at least as far as by the likelihood ratio where
        the optimum is at an end of the parameter's range, because resampled optima are then there too.
        """
        count = self.settings.resamples
        if not count:
            reason = "scaled to the residuals and taking each as independent, because no resamples were asked for"
            return self._likelihood_ratio(), f"likelihood ratio with one degree of freedom, {reason}"
        resampled = self._resampled(run, count)
        if self.settings.objective != "lad" and self.u(self.best) in self.span:
            ratio = self._likelihood_ratio()
            if ratio > resampled:
                return ratio, (
                    "likelihood ratio with one degree of freedom, scaled to the residuals: the optimum lies on the end "
                    "of the parameter's range, where resampling sees no scatter"
                )
        return resampled, (
            f"under 90 % of {count} random weightings of the runs, the objective at this best value is less than that "
            "above its own optimum"
        )

    def _likelihood_ratio(self) -> float:
        delta = self.settings.threshold
        pull = np.clip(self.residual, -delta, delta)
        inside = max(int((np.abs(self.residual) <= delta).sum()), 1)
        freedom = max(len(pull) - self.problem.size, 1)
        return _CHI * float(pull @ pull) / freedom * len(pull) / inside

    def _resampled(self, run: NDArray[np.str_], count: int) -> float:
        weights = bootstrap.Weighing(run, count, self.settings.seed, self.problem.size)
        restricted, delta = self.at(self.best), self.settings.threshold
        rises: list[Array] = []
        for part in weights.parts():
            free = newton.minimise(self.problem, np.repeat(self.z[None], len(part), 0), part, delta, newton.RESAMPLE)
            if restricted.size:
                restricted_fit = newton.minimise(
                    restricted, np.repeat(self.start_from, len(part), 0), part, delta, newton.RESAMPLE
                )
                fixed = restricted_fit.value
            else:
                fixed = restricted.evaluate(np.empty((len(part), 0)), part, delta).value
            rises.append(np.maximum(fixed - free.value, 0.0))
            if self.settings.progress:
                self.settings.progress("resamples", sum(map(len, rises)), count)
        return float(np.quantile(np.concatenate(rises), LEVEL))

    def ends(self, threshold: float) -> tuple[float | None, float | None]:
        """The ends of the outermost block within the threshold, natural units; None where it reaches the range's."""
        low, high = self.span
        for u in np.linspace(low, high, _COARSE):
            self.objective(float(u))
        found = []
        for side, edge in ((-1.0, low), (1.0, high)):
            at, step = self.u(self.best), _FIRST * (high - low)
            while at != edge:
                at = min(max(at + side * step, low), high)
                step *= 2
                self.objective(at)
                if not self.within(at, threshold):
                    break
            found.append(self._crossing(side, edge, threshold))
        if self.parameter == "E" and found[0] is None:
            found[0] = 0.0  # not the end of a search: a loss cannot have a floor below zero
        return found[0], found[1]

    def within(self, u: float, threshold: float) -> bool:
        return self.evaluated[u][0] - self.minimum <= threshold + _ROUND * abs(self.minimum)

    def _crossing(self, side: float, edge: float, threshold: float) -> float | None:
        inside = max((u for u in self.evaluated if self.within(u, threshold)), key=lambda u: side * u)
        if inside == edge:
            return None
        outside = min((u for u in self.evaluated if side * u > side * inside), key=lambda u: side * u)
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            self.objective(middle)
            if self.within(middle, threshold):
                inside = middle
            else:
                outside = middle
        return self.value((inside + outside) / 2)

    def result(
        self,
        values: Sequence[float] | None,
        metric: str,
        ends: tuple[float | None, float | None],
        threshold: float,
        why: str,
        notes: Sequence[str],
    ) -> Profile:
        places = sorted(self.evaluated) if values is None else sorted(self.u(value) for value in values)
        for u in places:
            self.objective(u)
        lowest = min(self.evaluated, key=lambda u: self.evaluated[u][0])
        sentences = [*notes, self.agreement]
        if self.evaluated[lowest][0] < self.found * (1 - 1e-7) - 1e-18:
            sentences.append(
                f"at {self.parameter} = {self.value(lowest):.6g} the profile is lower than the optimum of the search."
            )
            self.best = self.value(lowest)
        for side, end in zip(("below", "above"), ends, strict=True):
            if end is None:
                sentences.append(
                    f"these runs do not bound {self.parameter} {side}: no value searched there fits worse."
                )
        inside = [self.within(u, threshold) for u in sorted(self.evaluated)]
        if sum(a != b for a, b in itertools.pairwise(inside)) > 2 - inside[0] - inside[-1]:
            sentences.append("the values within the threshold are not contiguous; the interval contains all of them.")
        law = self.problem.law
        others = [name for name in law.parameter_names if name != self.parameter]
        blank = dict.fromkeys(others, math.nan)
        rows = [self.evaluated[u] for u in places]
        return Profile(
            parameter=self.parameter,
            law=law.name,
            target=law.target,
            metric=metric,
            best=self.best,
            minimum=self.minimum,
            values=np.array([self.value(u) for u in places]),
            objective=np.array([row[0] for row in rows]),
            others={name: np.array([(row[2] or blank)[name] for row in rows]) for name in others},
            low=ends[0],
            high=ends[1],
            searched=(self.value(self.span[0]), self.value(self.span[1])),
            threshold=threshold,
            why=why,
            measure=_SUMS[self.settings.stated["objective"]],
            notes=tuple(sentences),
        )
