"""Fits of several targets with parameters in common: one Newton method on the sum of their objectives.

    F(s, z_1 .. z_T) = sum_t F_t(s, z_t)

The Hessian is an arrow: targets meet in the shared s only. Eliminating each z_t leaves a system in s (Schur's
complement), so that a step costs no more than the targets' own steps, and resamples run as one batch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.fitting import bootstrap, identifiability, newton, starts
from babelscale.fitting.bootstrap import Progress
from babelscale.fitting.estimate import FitSettings, Prepared, finish, fit_observations, prepare, search
from babelscale.fitting.newton import Effort
from babelscale.fitting.objective import Array, Evaluation, FitProblem
from babelscale.fitting.result import Fit
from babelscale.laws import ScalingLaw
from babelscale.runs import Observations

_STARTS = 8
_AGREE = 1e-8


def fit_jointly(
    forms: Mapping[str, ScalingLaw],
    observations: Mapping[str, Observations],
    shared: tuple[str, ...],
    settings: FitSettings,
    provenance: Mapping[str, Any],
    progress: Progress | None = None,
) -> dict[str, Fit]:
    """One fit a target, the `shared` parameters equal in all of them; see `fitting.fit_many`."""
    if settings.objective == "lad":
        raise InputError("shared parameters are fitted by Huber's loss or squares", hint="objective='huber'")
    names = _names(forms, observations, shared, settings)
    if not names:  # every target holds them at the same value, and says why
        return {t: fit_observations(form, observations[t], settings, provenance) for t, form in forms.items()}
    members = {t: prepare(form, observations[t], settings, names) for t, form in forms.items()}
    group = JointProblem.of([m.problem for m in members.values()], names)
    z, values, sentence = _optimum(group, settings, progress)
    columns = _draws(group, list(members.values()), z, settings, progress)
    edges = group.edges(z)
    found = {}
    for k, (target, prepared) in enumerate(members.items()):
        own = [name for name in names if name in prepared.law.parameter_names]
        others = [t for t in members if t != target and set(own) & set(members[t].law.parameter_names)]
        told = [sentence]
        if own:
            told = [
                f"{', '.join(own)} shared with {', '.join(others)} and fitted to all of them at once; the sum of their "
                f"objectives is {values.sum():.10g}.",
                *edges,
                sentence,
            ]
        found[target] = finish(
            prepared,
            settings,
            z[k],
            float(values[k]),
            prepared.problem.residual(z[k]),
            None if columns is None else columns[k],
            told,
            {**provenance, "shared": own, "shared_with": others, "joint_objective": float(values.sum())},
            own,
        )
    return found


def _names(
    forms: Mapping[str, ScalingLaw],
    observations: Mapping[str, Observations],
    shared: tuple[str, ...],
    settings: FitSettings,
) -> tuple[str, ...]:
    """The shared parameters that the targets' runs identify together, tied ones by the name they follow."""
    names: dict[str, None] = {}
    for name in shared:
        having = [t for t, form in forms.items() if name in {p.name for p in form.shape}]
        if len(having) < 2:
            known = sorted({p.name for form in forms.values() for p in form.shape})
            raise InputError(
                f"{name!r} cannot be shared: {len(having)} of {len(forms)} laws have it as an exponent or the like",
                hint=f"parameters that can be shared: {', '.join(known)}; sharing takes two targets or more",
            )
        if name in (settings.fixed or {}):
            raise InputError(f"{name} is held fixed, so it is the same everywhere already", hint="leave it out of one")
        ends = {forms[t].ties.get(name, name) for t in having}
        if len(ends) > 1:
            raise InputError(f"{name} is tied in some of the laws only", hint="take laws tied alike")
        names.setdefault(ends.pop())
    return tuple(name for name in names if _identified(name, forms, observations, settings))


def _identified(
    name: str, forms: Mapping[str, ScalingLaw], observations: Mapping[str, Observations], settings: FitSettings
) -> bool:
    """Whether some target's own runs identify a parameter.

    Raises:
        InputError: each target's runs are too alike for it, with the reason of the last.
    """
    having = [target for target, form in forms.items() if name in form.parameter_names]
    errors = []
    for target in having:
        form, allocation = forms[target], observations[target].allocation
        try:
            held = identifiability.constrain(form, allocation.at(form.defined(allocation)), settings.fixed or {})
        except InputError as error:
            errors.append(error)
            continue
        if name not in held.fixed and name not in held.ties:
            return True
    if len(errors) == len(having):
        raise errors[-1]
    return False


@dataclass(frozen=True)
class JointProblem:
    """Problems that meet in `names`: `columns[t]` are the places of the shared parameters in z of problem t (-1 where
    its law has none), `own[t]` the other places; `low` and `high` bound the shared ones."""

    problems: list[FitProblem]
    names: tuple[str, ...]
    columns: list[NDArray[np.intp]]
    own: list[NDArray[np.intp]]
    low: Array
    high: Array

    @classmethod
    def of(cls, problems: list[FitProblem], names: tuple[str, ...]) -> "JointProblem":
        columns = [np.array([p.column.get(name, -1) for name in names], np.intp) for p in problems]
        own = [np.setdiff1d(np.arange(p.size), c) for p, c in zip(problems, columns, strict=True)]
        low, high = np.full(len(names), -np.inf), np.full(len(names), np.inf)
        for problem, at in zip(problems, columns, strict=True):
            there = at >= 0
            low[there] = np.maximum(low[there], problem.bounds[0][at[there]])
            high[there] = np.minimum(high[there], problem.bounds[1][at[there]])
        return cls(problems, names, columns, own, low, high)

    def put(self, z: list[Array], s: Array) -> list[Array]:
        """z with the shared parameters s (b, k) in their places."""
        out = []
        for one, at in zip(z, self.columns, strict=True):
            one = one.copy()
            one[:, at[at >= 0]] = s[:, at >= 0]
            out.append(one)
        return out

    def take(self, z: list[Array]) -> Array:
        """The shared parameters, shape (b, k), from the first problem that has each."""
        s = np.empty((len(z[0]), len(self.names)))
        for k in range(len(self.names)):
            t = next(t for t, at in enumerate(self.columns) if at[k] >= 0)
            s[:, k] = z[t][:, self.columns[t][k]]
        return s

    def edges(self, z: list[Array]) -> list[str]:
        s = self.take([one[None] for one in z])[0]
        at = [name for name, value, a, b in zip(self.names, s, self.low, self.high, strict=True) if value in (a, b)]
        return [f"{', '.join(at)} at an end of the range; these runs together do not identify it."] if at else []


def minimise(
    group: JointProblem, z: list[Array], weights: Sequence[Array], delta: float, effort: Effort
) -> tuple[list[Array], Array, NDArray[np.bool_]]:
    """Joint minima: z by problem, each (b, p_t), the objectives (b, T), and which met the tolerance."""
    if np.isfinite(delta):
        for factor in effort.wider:
            z, _, _ = _descend(group, z, weights, factor * delta, newton.ROUGH)
    return _descend(group, z, weights, delta, effort)


def _descend(
    group: JointProblem, z: list[Array], weights: Sequence[Array], delta: float, effort: Effort
) -> tuple[list[Array], Array, NDArray[np.bool_]]:
    z = [np.clip(one, *problem.bounds) for one, problem in zip(z, group.problems, strict=True)]
    z = group.put(z, np.clip(group.take(z), group.low, group.high))
    here = [p.evaluate(one, w, delta) for p, one, w in zip(group.problems, z, weights, strict=True)]
    value = np.stack([e.value for e in here], axis=1)
    b = len(value)
    mu, converged = np.full(b, 1e-3), np.zeros(b, bool)
    open_ = np.asarray(np.isfinite(value).all(axis=1))
    for _ in range(effort.most):
        rows = np.flatnonzero(open_)
        if not len(rows):
            break
        now = [e.at(rows) for e in here]
        at = [one[rows] for one in z]
        moved, promise = _step(group, at, now, mu[rows])
        _, decrement = _step(group, at, now, np.zeros(len(rows)))
        there = [p.evaluate(one, w[rows], delta) for p, one, w in zip(group.problems, moved, weights, strict=True)]
        trial = np.stack([e.value for e in there], axis=1)
        total = value[rows].sum(axis=1)
        gain = total - trial.sum(axis=1)
        better = gain > 0
        for t, one in enumerate(moved):
            z[t][rows[better]] = one[better]
            here[t].put(rows[better], there[t].at(better))
        value[rows[better]] = trial[better]
        good = better & (gain > 0.25 * promise)
        mu[rows] = np.where(good, mu[rows] / 8, np.where(better, mu[rows], np.maximum(mu[rows], 1e-8) * 6))
        mu[rows] = np.clip(mu[rows], 1e-14, 1e14)
        done = (decrement <= effort.tolerance * total) | (~better & (decrement <= 1e-13 * total)) | (total <= 1e-28)
        converged[rows[done]] = True
        open_[rows[done | (mu[rows] >= 1e14)]] = False
    return z, value, converged


def _step(group: JointProblem, z: list[Array], now: list[Evaluation], mu: Array) -> tuple[list[Array], Array]:
    """The damped Newton step inside the bounds, targets first and the shared parameters by Schur's complement.

    Both blocks are taken positive, as in `newton`, which leaves the whole matrix positive. Returns where it leads and
    the decrease it promises.
    """
    b, k = len(mu), len(group.names)
    shared = _Block(np.zeros((b, k)), np.zeros((b, k, k)), np.zeros((b, k)))
    blocks: list[tuple[_Block, Array]] = []
    for problem, one, e, at, own in zip(group.problems, z, now, group.columns, group.own, strict=True):
        there = np.flatnonzero(at >= 0)
        columns = at[there]
        shared.gradient[:, there] += e.gradient[:, columns]
        shared.scale[:, there] += e.scale[:, columns]
        shared.hessian[:, there[:, None], there] += e.hessian[:, columns[:, None], columns]
        block = _Block(e.gradient[:, own], e.hessian[:, own[:, None], own], e.scale[:, own])
        block.hold(one[:, own], problem.bounds[0][own], problem.bounds[1][own])
        across = np.zeros((b, len(own), k))
        across[:, :, there] = e.hessian[:, own[:, None], columns]
        blocks.append((block, across))
    s = group.take(z)
    shared.hold(s, group.low, group.high)
    promise = np.zeros(b)
    eliminated = []
    for block, across in blocks:
        across = across / (block.root[:, :, None] * shared.root[:, None, :])
        across = np.where(block.held[:, :, None] | shared.held[:, None, :], 0.0, across)
        solved = block.solve(mu, np.concatenate([block.gradient[:, :, None], across], axis=2))
        back = across.transpose(0, 2, 1) @ solved
        shared.gradient = shared.gradient - np.where(shared.held, 0.0, back[:, :, 0])
        shared.hessian = shared.hessian - back[:, :, 1:]
        promise += 0.5 * np.einsum("bp,bp->b", block.gradient, solved[:, :, 0])
        eliminated.append(solved)
    answer = shared.solve(mu, shared.gradient[:, :, None])[:, :, 0]
    promise += 0.5 * np.einsum("bk,bk->b", shared.gradient, answer)
    new = [one.copy() for one in z]
    for t, ((block, _), solved) in enumerate(zip(blocks, eliminated, strict=True)):
        move = -(solved[:, :, 0] - (solved[:, :, 1:] @ answer[:, :, None])[:, :, 0])
        own = group.own[t]
        low, high = group.problems[t].bounds
        new[t][:, own] = np.clip(z[t][:, own] + move / block.root, low[own], high[own])
    return group.put(new, np.clip(s - answer / shared.root, group.low, group.high)), promise


@dataclass
class _Block:
    """A diagonal block in its own scale: gradient (b, p), hessian (b, p, p), scale (b, p)."""

    gradient: Array
    hessian: Array
    scale: Array

    def hold(self, z: Array, low: Array, high: Array) -> None:
        """Take out what is pressed against a bound, and divide by the scale."""
        self.held = ((z <= low) & (self.gradient > 0)) | ((z >= high) & (self.gradient < 0))
        most = self.scale.max(axis=1, keepdims=True, initial=0.0)
        self.root = np.sqrt(np.maximum(self.scale, 1e-12 * most + 1e-300))
        self.gradient = np.where(self.held, 0.0, self.gradient / self.root)
        H = self.hessian / (self.root[:, :, None] * self.root[:, None, :])
        self.hessian = np.where(self.held[:, :, None] | self.held[:, None, :], 0.0, H)
        k = np.arange(z.shape[1])
        self.hessian[:, k, k] += self.held

    def solve(self, mu: Array, right: Array) -> Array:
        """(|H| + mu)^-1 right."""
        values, vectors = np.linalg.eigh(self.hessian)
        curved = np.maximum(np.abs(values), 1e-12) + mu[:, None]
        return vectors @ ((vectors.transpose(0, 2, 1) @ right) / curved[:, :, None])


def _optimum(group: JointProblem, settings: FitSettings, progress: Progress | None) -> tuple[list[Array], Array, str]:
    """The best of several joint starts: z by problem, objectives by problem, and how many starts agree."""
    alone = []
    for done, problem in enumerate(group.problems):
        if progress:
            progress("starts", done, len(group.problems))
        alone.append(search(problem, settings)[0])
    z = _joint_starts(group, alone)
    unit = [np.ones((len(z[0]), len(p.log_loss))) for p in group.problems]
    z, values, converged = minimise(group, z, unit, settings.threshold, settings.effort)
    total = values.sum(axis=1)
    best = int(np.argmin(total))
    agree = int((total <= total[best] * (1 + _AGREE) + 1e-20).sum())
    sentence = f"{agree} of {len(total)} starts agree on the joint optimum."
    if not converged[best]:
        sentence += " The search stopped before its tolerance; read the numbers with care."
    return [one[best] for one in z], values[best], sentence


def _joint_starts(group: JointProblem, alone: list[Array]) -> list[Array]:
    """From each target's own optimum: shared parameters at the targets' quantiles, the rest as it is or solved."""
    each = np.full((len(alone), len(group.names)), np.nan)
    for t, (z, at) in enumerate(zip(alone, group.columns, strict=True)):
        each[t, at >= 0] = z[at[at >= 0]]
    s = np.nanquantile(each, np.linspace(0, 1, _STARTS), axis=0)
    z = group.put([np.repeat(one[None], len(s), axis=0) for one in alone], s)
    out = []
    for problem, one in zip(group.problems, z, strict=True):
        again = starts.solved(problem, one[:, len(problem.coefficients) :].copy())
        out.append(again if len(again) == len(one) else one)
    return out


def _draws(
    group: JointProblem, members: list[Prepared], z: list[Array], settings: FitSettings, progress: Progress | None
) -> list[Mapping[str, Array]] | None:
    """Parameters by name under resampled runs; a run weighs the same in every target it was measured on."""
    if not settings.resamples:
        return None
    run = np.concatenate([m.observations.run for m in members])
    # Each target's residuals are too small by its own parameters; the largest of them widens the weights of all.
    free = max(problem.size for problem in group.problems)
    weights = bootstrap.Weighing(run, settings.resamples, settings.seed, free)
    ends = np.cumsum([len(m.observations) for m in members])[:-1]
    found: list[list[Array]] = []
    done = 0
    for every in weights.parts():
        part = np.split(every, ends, axis=1)
        start = [np.repeat(one[None], len(part[0]), axis=0) for one in z]
        found.append(minimise(group, start, part, settings.threshold, newton.RESAMPLE)[0])
        done += len(every)
        if progress:
            progress("resamples", done, settings.resamples)
    return [
        problem.natural_parameters(np.concatenate([chunk[t] for chunk in found]))
        for t, problem in enumerate(group.problems)
    ]
