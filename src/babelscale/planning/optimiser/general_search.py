"""Plans from laws of any form: a general search, without a certificate.

    minimise  Phi(L_1(N, D), ..., L_T(N, D))   over log N and the shares p >= 0, sum p = 1, D_l = p_l X(N)

The losses and their derivatives come from the laws' own equations (`laws.sensitivity`). SciPy's SLSQP runs from the
best of many starting points; nothing bounds what a better point could gain.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from babelscale.allocation import Allocation
from babelscale.laws import ScalingLaw
from babelscale.laws.sensitivity import Sensitive, by_complex_steps, by_differences, complex_steps_hold
from babelscale.planning.optimiser.certificate import Certificate
from babelscale.planning.optimiser.interior_point import NEGLIGIBLE, Solution
from babelscale.planning.optimiser.newton import Box
from babelscale.planning.optimiser.problem import AllocationProblem, Rows
from babelscale.planning.optimiser.setting import UNSPENT, Setting

Array = NDArray[np.float64]
CANDIDATES, STARTS, _SIZES = 24, 6, 40
_LEAST = 1e-9  # the smallest share of a target
_SMOOTHING = (1e-2, 1e-4, 1e-6)  # of objectives with corners, relative to the objective
_OUTSIDE = 1e6  # stands for a loss outside the laws' domain, relative to the objective at the start
_OPTIONS = {"maxiter": 300, "ftol": 1e-15}


class DrawnLaw(NamedTuple):
    """A law with rows of parameters, shape (R, S, parameters): S draws of it count in each row's objective."""

    law: ScalingLaw
    values: Array
    sensitive: Sensitive

    @property
    def parameters(self) -> Mapping[str, Array]:
        return {name: self.values[..., i] for i, name in enumerate(self.law.parameter_names)}


@dataclass(frozen=True, kw_only=True)
class GeneralProblem(AllocationProblem):
    """Laws of any form, one of `forms` for each target, with S T losses a row."""

    forms: tuple[DrawnLaw, ...]
    covariates: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Mapping[str, tuple[ScalingLaw, Array]], setting: Setting) -> "GeneralProblem":
        """Laws by target, each with its rows of parameters (R, parameters)."""
        common = cls.arguments(setting, rows, len(next(iter(rows.values()))[1]))
        codes, N, D = common["languages"], np.array([1e8]), np.full((1, len(common["languages"])), 1e9)
        probe = _allocation(codes, common["unique"], setting.covariates, N, D)
        forms = []
        for law, values in rows.values():
            parameters = dict(zip(law.parameter_names, values[:1].T, strict=True))
            holds = complex_steps_hold(law, parameters, probe, setting.languages)
            forms.append(DrawnLaw(law, values[:, None, :], by_complex_steps if holds else by_differences))
        return cls(**common, forms=tuple(forms), covariates=setting.covariates)

    def at(self, rows: Rows) -> Self:
        return replace(super().at(rows), forms=tuple(form._replace(values=form.values[rows]) for form in self.forms))

    def as_scenarios(self) -> dict[str, Any]:
        forms = tuple(form._replace(values=form.values.reshape(1, -1, form.values.shape[2])) for form in self.forms)
        return {"forms": forms, "least_loss": self.least_loss.reshape(1, -1), "compute": self.compute[:1]}

    def losses(self, p: Array, n: Array) -> Array:
        X = self.budget(n)[0]
        allocation = self._allocation(n, p * np.maximum(X, 0.0)[:, None])
        found = [form.law.evaluate(form.parameters, allocation) for form in self.forms]
        return np.where((X > 0)[:, None], _stacked(found), np.inf)

    def slopes(self, p: Array, n: float) -> tuple[Array, Array, Array]:
        """Of one row: losses (S T,), dL/dn (S T,) and dL/dp (K, S T), the budget spent."""
        X, a = (float(value[0]) for value in self.budget(np.array([n])))
        allocation = self._allocation(np.array([n]), p[None] * X)
        trained = [code for code in self.languages if code != UNSPENT]
        found = [form.sensitive(form.law, form.parameters, allocation, trained) for form in self.forms]
        by_tokens = np.zeros((len(p), *found[0].by_tokens.shape[1:], len(found)))
        by_tokens[: len(trained)] = np.stack([each.by_tokens for each in found], axis=-1)
        by_tokens = by_tokens.reshape(len(p), -1)
        by_n = np.stack([each.by_log_N for each in found], axis=-1).reshape(-1) - a * (p @ by_tokens)
        return _stacked([each.loss for each in found])[0], by_n, X * by_tokens

    def _allocation(self, n: Array, D: Array) -> Allocation:
        return _allocation(self.languages, self.unique, self.covariates, np.exp(n), D)


def _allocation(
    codes: tuple[str, ...], unique: Array, covariates: Mapping[str, float], N: Array, D: Array
) -> Allocation:
    """Shape (R, 1), so that the draws of a row broadcast against it."""
    trained = [(k, code) for k, code in enumerate(codes) if code != UNSPENT]
    tokens = {code: D[:, k, None] for k, code in trained}
    return Allocation(N[:, None], tokens, {code: unique[k] for k, code in trained}, covariates)


def _stacked(by_target: list[Array]) -> Array:
    """Losses (R, S) of every target as (R, S T); infinite where there is none."""
    found = np.stack(by_target, axis=-1)
    return np.where(np.isfinite(found), found, np.inf).reshape(len(found), -1)


@dataclass(frozen=True)
class _Search:
    """One row's search: from where, over which log N (None: fixed)."""

    problem: GeneralProblem
    box: tuple[float, float] | None

    def run(self, p: Array, n: float) -> tuple[Array, float]:
        """The shares and log N that SLSQP ends at."""
        from scipy.optimize import minimize

        scale = abs(float(self.problem.objective(p[None], np.array([n]))[0]))
        if not (np.isfinite(scale) and scale > 0):
            return p, n
        least = np.zeros(len(p))
        least[self.problem.target_index] = _LEAST
        low, high = self.box or (n, n)
        levels = (1.0,) if self.problem.risk.scenario is None else _SMOOTHING
        for mu in levels:
            solved = minimize(
                self.value,
                np.concatenate([[n], p]),
                args=(mu * scale, scale, n),
                jac=True,
                method="SLSQP",
                bounds=[(low, high), *((float(x), 1.0) for x in least)],
                constraints=self.constraints(n),
                options=_OPTIONS,
            )
            end = np.clip(solved.x[1:], least, 1.0)
            if np.isfinite(solved.x).all() and end.sum() > 0:
                n, p = (float(np.clip(solved.x[0], low, high)) if self.box else n), end / end.sum()
        return p, n

    def value(self, z: Array, mu: float, scale: float, fixed: float) -> tuple[float, Array]:
        """The smoothed objective over `scale`, with its gradient by (n, p)."""
        n, p, problem = (float(z[0]) if self.box else fixed), z[1:], self.problem
        outside = _OUTSIDE, np.zeros(len(z))
        if not problem.budget(np.array([n]))[0][0] > 0 or not (np.isfinite(p).all() and (p >= 0).all()):
            return outside
        with np.errstate(all="ignore"):
            losses, by_n, by_p = problem.slopes(p, n)
        if not (np.isfinite(losses).all() and np.isfinite(by_n).all() and np.isfinite(by_p).all()):
            return outside
        smoothed, weights, _ = problem.risk.derivatives(
            problem.weights, losses[None] - problem.least_loss, np.array([mu])
        )
        q = weights[0]
        return float(smoothed[0]) / scale, np.concatenate([[by_n @ q if self.box else 0.0], by_p @ q]) / scale

    def constraints(self, fixed: float) -> list[dict[str, Any]]:
        problem, K = self.problem, len(self.problem.languages)
        one = np.concatenate([[0.0], np.ones(K)])
        found: list[dict[str, Any]] = [{"type": "eq", "fun": lambda z: z[1:].sum() - 1, "jac": lambda z: one}]
        if not problem.constraints.any:
            return found

        def slack(z: Array) -> Array:
            X, _ = problem.budget(z[:1] if self.box else np.array([fixed]))
            return np.concatenate([each.slack[0] for each in problem.constraints.slacks(z[None, 1:], X)])

        def slope(z: Array) -> Array:
            X, a = problem.budget(z[:1] if self.box else np.array([fixed]))
            rows = []
            for each in problem.constraints.slacks(z[None, 1:], X):
                row = np.zeros((len(each.languages), K + 1))
                row[np.arange(len(row)), each.languages + 1] = each.sign
                row[:, -1] += each.last
                row[:, 0] = each.over * a[0] / X[0] ** 2 if self.box else 0.0
                rows.append(row)
            return np.concatenate(rows)

        return [*found, {"type": "ineq", "fun": slack, "jac": slope}]

    def best(self, points: list[tuple[Array, float]]) -> tuple[Array, float, float]:
        """The best end of searches from several points; an infinite objective where none lies in the domain."""
        ends = []
        for p, n in points:
            for end in (self.run(p, n), (p, n)):
                cleaned = self._clean(*end)
                if self._feasible(cleaned, end[1]):
                    ends.append((cleaned, end[1], float(self.problem.objective(cleaned[None], np.array([end[1]]))[0])))
        finite = [end for end in ends if np.isfinite(end[2])]
        if not finite:
            return points[0][0], points[0][1], np.inf
        return min(finite, key=lambda end: end[2])

    def _clean(self, p: Array, n: float) -> Array:
        """Shares too small to be trained are none, where the bounds allow it."""
        small = p < NEGLIGIBLE
        small[self.problem.target_index] = False
        cleaned = np.where(small, 0.0, p)
        cleaned = cleaned / cleaned.sum()
        return cleaned if self._feasible(cleaned, n) else p

    def _feasible(self, p: Array, n: float) -> bool:
        X, _ = self.problem.budget(np.array([n]))
        return all((each.slack >= -1e-9).all() for each in self.problem.constraints.slacks(p[None], X))

    def starts(self, sizes: Array, seed: int) -> list[tuple[Array, float]]:
        """The best of shares drawn at random, each at its best size."""
        problem, K = self.problem, len(self.problem.languages)
        if problem.constraints.any:
            inside = [(problem.constraints.inside(float(problem.budget(np.array([n]))[0][0])), n) for n in sizes]
            points = [(p, float(n)) for p, n in inside if p is not None]
        else:
            rng = np.random.default_rng(seed)
            shares = [np.full(K, 1 / K), *rng.dirichlet(np.full(K, 0.7), CANDIDATES if K > 1 else 0)]
            mostly = np.full(K, 0.02 / K)
            mostly[problem.target_index] += 0.98 / len(problem.target_index)
            inner = [np.maximum(p, 1e-4) / np.maximum(p, 1e-4).sum() for p in (mostly, *shares)]
            points = [(p, float(n)) for p in inner for n in sizes]
        if not points:
            return []
        every = problem.at(np.zeros(len(points), np.intp))
        values = every.objective(np.array([p for p, _ in points]), np.array([n for _, n in points]))
        order = [int(i) for i in np.argsort(values, kind="stable") if np.isfinite(values[i])]
        chosen: list[int] = []
        for i in order:
            # One size for each mixture, so that the starts differ; bounded mixtures differ by size alone.
            if problem.constraints.any or all(points[i][0] is not points[j][0] for j in chosen):
                chosen.append(i)
            if len(chosen) == STARTS:
                break
        return [points[i] for i in chosen]


def solve(
    problem: GeneralProblem,
    box: tuple[float, float] | Box | None,
    *,
    n: Array | None = None,
    start: Solution | None = None,
    seed: int = 0,
) -> Solution | None:
    """The best shares and N found for every row; None where no start lies inside the laws' domain.

    Arguments as in `interior_point.solve`.
    """
    R, ends, tried = problem.draws, [], 1
    low, high = Box.of((0.0, np.inf) if box is None else box, R)
    for r in range(R):
        one = problem.at(np.array([r]))
        within = None if box is None else (float(low[r]), float(high[r]))
        search = _Search(one, within)
        if start is not None:
            row = min(r, len(start.n) - 1)
            points = [(start.shares[row], float(start.n[row]) if n is None else float(n[r]))]
        else:
            sizes = np.linspace(*within, _SIZES + 2)[1:-1] if within is not None else np.asarray(n)[r : r + 1]
            points = search.starts(sizes, seed)
            tried = max(tried, len(points))
        if not points:
            return None
        ends.append(search.best(points))
    shares, sizes = np.array([end[0] for end in ends]), np.array([end[1] for end in ends])
    objective = np.array([end[2] for end in ends])
    if not np.isfinite(objective).any():
        return None
    edge = 1e-6 * (high - low)
    at_edge = (sizes <= low + edge) | (sizes >= high - edge) if box is not None else np.zeros(R, bool)
    return Solution(shares, sizes, objective, problem.weights.copy(), tried, at_edge)


def certificate(problem: GeneralProblem, found: Solution, box: tuple[float, float] | None) -> Certificate:
    """What is known of a solution: how far it is from stationary, and no bound."""
    residual = np.nan
    if not problem.constraints.any and problem.risk.scenario is None:
        p, n, q = found.shares[0], float(found.n[0]), problem.weights[0]
        with np.errstate(all="ignore"):
            _, by_n, by_p = problem.slopes(p, n)
        gains = -(by_p @ q)
        along, trained = float(gains @ p), p > NEGLIGIBLE
        if along > 0:
            residual = max(float(np.abs(gains[trained] / along - 1).max()), float((gains / along).max() - 1))
            if box is not None and not found.at_edge[0]:
                residual = max(residual, abs(float(by_n @ q)) / along)
    return Certificate(np.nan, -np.inf, residual, "search", found.starts)
