"""The budget of a plan, and the search over compute where the budget leaves it open.

Each budget stands before what the planner finds for it.

compute             N and D_l of the least objective            params, tokens      the mixture alone
compute, params     D_l at this N                               loss                the least compute that reaches it
compute, tokens     the largest N, and the mixture              loss, params        the fewest tokens at this N
params              the compute for which this N is the best    loss, tokens        the smallest N for these tokens
tokens              the compute for which this D is the best
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from babelscale import published
from babelscale.errors import InputError
from babelscale.formatting import count
from babelscale.planning.optimiser.interior_point import Solution
from babelscale.planning.optimiser.newton import Box
from babelscale.planning.optimiser.setting import Setting
from babelscale.planning.optimiser.solver import PlanProblem, SolvedProblem, solve, solve_near
from babelscale.planning.request import PlanRequest

Array = NDArray[np.float64]

# N and D_tot are searched between this and whatever the other leaves of the budget.
SMALLEST = 1e3
_LEAST, _MOST = 6 * SMALLEST**2, 1e40
_START = 1e20


@dataclass(frozen=True)
class Budget:
    """The budget of a request (see the module's table); each of the `served` tokens of inference costs 2 N FLOPs.

    `low` and `high` bound N. If there are `rungs`, only these sizes are allowed.
    """

    compute: float | None = None
    params: float | None = None
    tokens: float | None = None
    loss: float | None = None
    served: float = 0.0
    low: float = SMALLEST
    high: float = math.inf
    rungs: tuple[float, ...] = ()

    @classmethod
    def of(cls, request: PlanRequest) -> "Budget":
        """The budget of a request.

        Raises:
            InputError: the combination determines too much or nothing, or the memory is too small for a model.
        """
        compute, params, memory = request.compute, request.params, request.memory
        budget = cls(compute, params, request.tokens, request.loss, request.inference_tokens)
        named = budget.kind.split(" and ")
        if named == [""]:
            raise InputError("no budget", hint="give compute, loss, params or tokens (or two of them)")
        if len(named) > 2 or named == ["compute", "loss"]:
            raise InputError(
                f"{', '.join(named)} together leave nothing to plan", hint="give one of compute and loss, or two sizes"
            )
        if compute is not None and compute < _LEAST:
            raise InputError(
                f"compute {compute:.3g} FLOPs is too small to train a model",
                hint=f"the smallest possible value is {_LEAST:.0e}",
            )
        high = math.inf if memory is None else memory / request.bytes_per_param
        if params is not None and not SMALLEST <= params <= high:
            limit = (
                f"{count(high)} parameters fit" if params > high else f"the smallest possible value is {SMALLEST:.0f}"
            )
            raise InputError(f"params {params:.3g} is outside what can be planned", hint=limit)
        if high < SMALLEST:
            raise InputError(
                f"memory {memory:.3g} bytes is too small for a model at {request.bytes_per_param:g} bytes a parameter",
                hint=f"the least is {SMALLEST * request.bytes_per_param:.3g} bytes",
            )
        rungs = _rungs(request.ladder, high)
        if rungs and named not in (["compute"], ["loss"]):
            raise InputError("a ladder is for plans whose size is free", hint="omit params, tokens or the ladder")
        return replace(budget, high=high, rungs=rungs)

    @property
    def free(self) -> bool:
        """Whether N is searched at a given compute."""
        sizes = (self.params is not None) + (self.tokens is not None)
        return sizes == 0 or (sizes == 1 and self.compute is None and self.loss is None)

    @property
    def kind(self) -> str:
        names = [name for name in ("compute", "params", "tokens", "loss") if getattr(self, name) is not None]
        return " and ".join(names)

    def fixed(self, compute: Array) -> Array | None:
        """log N of each row where the question fixes it; None where N is searched."""
        if self.free:
            return None
        if self.params is not None:
            return np.full(len(compute), math.log(self.params))
        assert self.tokens is not None
        return np.log(compute / (6 * self.tokens + 2 * self.served))

    def box(self, compute: float) -> tuple[float, float]:
        """The N searched: at least a thousand parameters and a thousand tokens, and what fits in memory.

        Raises:
            InputError: serving alone costs more than the budget.
        """
        high = min(compute / (6 * SMALLEST + 2 * self.served), self.high)
        if high <= self.low * (1 + 1e-9):
            raise InputError(
                f"compute {compute:.3g} FLOPs is not enough for serving {self.served:.3g} tokens",
                hint=f"the least is {self.low * (6 * SMALLEST + 2 * self.served) * 1.01:.3g} FLOPs",
            )
        return self.low, high


def _rungs(ladder: bool | Sequence[float], high: float) -> tuple[float, ...]:
    if ladder is False:
        return ()
    sizes = [float(scale.params) for scale in published.model_scales()] if ladder is True else sorted(ladder)
    if not sizes or not SMALLEST <= sizes[0] <= sizes[-1] < math.inf:
        raise InputError(f"ladder {sizes}", hint=f"list sizes of {SMALLEST:.0f} parameters or more")
    fitting = tuple(size for size in sizes if size <= high)
    if not fitting:
        raise InputError(
            f"no size of the ladder fits in memory for {count(high)} parameters",
            hint=f"the smallest has {count(sizes[0])}",
        )
    return fitting


def check_feasible(setting: Setting, budget: Budget) -> None:
    """Refuse constraints that no allocation satisfies, and name the nearest that one does.

    Raises:
        InputError: naming the constraint.
    """
    least, most = (math.fsum(pair[i] for pair in setting.shares.values()) for i in (0, 1))
    if least > 1 + 1e-12:
        named = ", ".join(code for code, pair in setting.shares.items() if pair[0] > 0)
        raise InputError(
            f"min_share of {named} sum to {least:.4g}, more than 1",
            hint=f"the nearest that fit are these divided by {least:.4g}",
        )
    if len(setting.shares) == len(setting.languages) and most < 1 - 1e-12:
        raise InputError(
            f"max_share of all {len(setting.shares)} languages sum to {most:.4g}, less than 1",
            hint=f"the nearest that fit are these divided by {most:.4g}, or add a language",
        )
    needed = math.fsum(low for low, _ in setting.tokens.values())
    if not needed:
        return
    if budget.tokens is not None and needed > budget.tokens:
        raise InputError(
            f"min_tokens sum to {needed:.4g}, more than tokens {budget.tokens:.4g}", hint=f"tokens={needed:.4g}"
        )
    if budget.compute is None:
        return
    N = budget.params or (min(budget.rungs) if budget.rungs else SMALLEST)
    cost, X = 6 * N * needed + 2 * N * budget.served, budget.compute / (6 * N) - budget.served / 3
    if cost > budget.compute * (1 + 1e-9):
        raise InputError(
            f"compute {budget.compute:.4g} is not enough for min_tokens of {needed:.4g} at {N:.4g} parameters",
            hint=f"the nearest feasible compute is {cost * 1.001:.4g} FLOPs, or min_tokens of {X:.4g} in total",
        )
    if setting.shares and setting.constraints.inside(X) is None:
        _, low, high = setting.constraints.room(X)
        without = "a plan exists" if replace(setting, shares={}).constraints.inside(X) is not None else "none exists"
        raise InputError(
            "bounds on tokens and shares contradict each other: with the whole budget they require "
            f"{low:.4g} of it and allow {high:.4g}",
            hint=f"loosen min_share or max_tokens; without the shares {without}",
        )


def optimum(
    problem: PlanProblem,
    budget: Budget,
    *,
    start: Solution | None = None,
    seed: int = 0,
    known: SolvedProblem | None = None,
) -> Solution | None:
    """The best shares and N at the compute of each row.

    Args:
        start: a solution nearby. known: the solved problem whose draws these are.
    """
    fixed = budget.fixed(problem.compute)
    if fixed is not None:
        if known is not None:
            return solve_near(problem, None, known, n=fixed, start=start)
        return solve(problem, None, n=fixed, start=start, seed=seed)
    lows = [budget.box(float(C)) for C in np.unique(problem.compute)]
    box = lows[0] if len(lows) == 1 else _boxes(problem, budget)
    if known is None:
        found = solve(problem, box, start=start, seed=seed)
    else:
        found = solve_near(problem, box, known, n=None if start is None else start.n, start=start)
    if found is None or not budget.rungs or isinstance(box, Box):
        return found
    return _on_ladder(problem, budget.rungs, found, box, known, seed)


def _boxes(problem: PlanProblem, budget: Budget) -> Box:
    """Rows of different compute: each has a box of its own."""
    high = np.minimum(problem.compute / (6 * SMALLEST + 2 * budget.served), budget.high)
    return Box(np.full(len(high), math.log(budget.low)), np.log(high))


def _on_ladder(
    problem: PlanProblem,
    rungs: tuple[float, ...],
    found: Solution,
    box: tuple[float, float],
    known: SolvedProblem | None,
    seed: int,
) -> Solution:
    """The best rung: all of them for one row, the two around the free optimum of each draw."""
    sizes = np.log([rung for rung in rungs if rung <= box[1]] or [min(rungs)])
    R = problem.draws
    if R == 1:
        rows, n = np.zeros(len(sizes), np.intp), sizes
    else:
        above = np.clip(np.searchsorted(sizes, found.n), 0, len(sizes) - 1)
        rows = np.repeat(np.arange(R), 2)
        n = np.stack([sizes[np.maximum(above - 1, 0)], sizes[above]], axis=1).ravel()
    finite = np.isfinite(found.objective)[rows]
    rows, n = rows[finite], n[finite]
    if known is not None:
        many = solve_near(problem.at(rows), None, known, n=n)
    else:
        many = solve(problem.at(rows), None, n=n, start=found.at(rows)) or solve(problem.at(rows), None, n=n, seed=seed)
    if many is None:
        raise InputError(
            "no size of the ladder has an allocation within the constraints", hint="loosen them, or widen the ladder"
        )
    best = [np.flatnonzero(rows == r)[many.objective[rows == r].argmin()] for r in range(R) if (rows == r).any()]
    kept = many.at(np.array(best))
    return replace(kept, starts=found.starts, at_edge=np.zeros(len(best), bool))


def solve_budget(
    problem: PlanProblem, budget: Budget, seed: int = 0, start: Solution | None = None
) -> SolvedProblem | None:
    """The plan of a problem of one row; its compute is searched, from `start`, where the question leaves it open."""
    C = _given_compute(budget)
    if C is not None:
        one = replace(problem, compute=np.array([C]))
        solution = optimum(one, budget, seed=seed)
        return None if solution is None else SolvedProblem(one, solution)
    best: list[Solution | None] = [start]

    def solved(log_C: Array) -> Solution | None:
        one = replace(problem, compute=np.exp(log_C))
        solution = optimum(one, budget, start=best[0], seed=seed) if best[0] is not None else None
        if solution is None or not np.isfinite(solution.objective).all():
            solution = optimum(one, budget, seed=seed)
        best[0] = solution or best[0]
        return solution

    target = _goal(budget)
    log_C = _root(lambda x: target(solved(x), x), np.array([math.log(_START)]), 1e-11, budget, problem, seed)
    one = replace(problem, compute=np.exp(log_C))
    solution = solved(log_C)
    return None if solution is None else SolvedProblem(one, solution)


def solve_draws(problem: PlanProblem, budget: Budget, point: SolvedProblem, seed: int = 0) -> SolvedProblem | None:
    """The same question for every row of `problem`, from the answer for the fit."""
    R, C = problem.draws, float(point.problem.compute[0])
    free = budget.free and not budget.rungs
    box = budget.box(C) if budget.free else None
    known = replace(point, box=box)
    if _given_compute(budget) is not None:
        many = replace(problem, compute=np.full(R, C))
        solution = optimum(many, budget, seed=seed, known=known)
        return None if solution is None else SolvedProblem(many, solution)
    target = _goal(budget)
    # Every further compute starts from the last one's shares, and from a size that grows as its square root.
    one = known.solution
    place = [np.repeat(one.shares, R, 0), np.repeat(one.n, R), np.full(R, math.log(C))]

    def solved(log_C: Array) -> Solution | None:
        many = replace(problem, compute=np.exp(log_C))
        shift = (log_C - place[2]) / 2 if free else np.zeros(R)
        near = replace(one.at(np.zeros(R, np.intp)), shares=place[0], n=place[1] + shift)
        found = (
            _rung_rows(many, budget, known)
            if budget.rungs
            else optimum(many, budget, start=near, seed=seed, known=known)
        )
        if found is not None:
            good = np.isfinite(found.objective)
            place[0] = np.where(good[:, None], found.shares, place[0])
            place[1], place[2] = np.where(good, found.n, place[1]), np.where(good, log_C, place[2])
        return found

    log_C = _root(lambda x: target(solved(x), x), np.full(R, math.log(C)), 1e-5, budget, problem, seed, steps=8)
    solution = solved(np.where(np.isfinite(log_C), log_C, math.log(C)))
    if solution is None:
        return None
    C_rows = np.where(np.isfinite(log_C), np.exp(np.minimum(log_C, 600)), np.inf)
    return SolvedProblem(replace(problem, compute=C_rows), solution)


def _rung_rows(problem: PlanProblem, budget: Budget, known: SolvedProblem) -> Solution | None:
    """Draws at different compute on a ladder: every rung, the best of them."""
    sizes = np.log(budget.rungs)
    rows = np.repeat(np.arange(problem.draws), len(sizes))
    n = np.tile(sizes, problem.draws)
    many = solve_near(problem.at(rows), None, known, n=n)
    if many is None:
        return None
    best = np.arange(problem.draws) * len(sizes) + many.objective.reshape(-1, len(sizes)).argmin(1)
    return many.at(best)


def _given_compute(budget: Budget) -> float | None:
    if budget.compute is not None:
        return budget.compute
    if budget.params is not None and budget.tokens is not None:
        return 6 * budget.params * budget.tokens + 2 * budget.params * budget.served
    return None


def _goal(budget: Budget) -> Callable[[Solution | None, Array], Array]:
    """What falls with compute and is 0 at the answer, by row."""

    def goal(solution: Solution | None, log_C: Array) -> Array:
        if solution is None:
            return np.array([np.inf])
        if budget.loss is not None:
            return np.where(np.isfinite(solution.objective), solution.objective / budget.loss - 1, np.inf)
        if budget.params is not None:
            return math.log(budget.params) - solution.n
        assert budget.tokens is not None
        return math.log(budget.tokens) - np.log(np.exp(log_C - solution.n) / 6 - budget.served / 3)

    return goal


def _root(
    goal: Callable[[Array], Array],
    start: Array,
    tolerance: float,
    budget: Budget,
    problem: PlanProblem,
    seed: int,
    steps: int = 60,
) -> Array:
    """log C at which the goal is 0, by bracketing and the Illinois rule; infinite where it stays above.

    Raises:
        InputError: (one row) no compute reaches it; the nearest loss that is reached is named.
    """
    x, low, high = start.copy(), np.full(len(start), math.log(_LEAST) + 1e-6), np.full(len(start), math.log(_MOST))
    f = goal(x)
    f = np.broadcast_to(f, x.shape).copy()
    a, b, fa, fb = x.copy(), x.copy(), f.copy(), f.copy()
    step = 1.0 if len(x) == 1 else 0.1
    for _ in range(60):
        up, down = (fb > 0) & (b < high), (fa < 0) & (a > low)
        if not (up.any() or down.any()):
            break
        a, fa = np.where(up, b, a), np.where(up, fb, fa)
        b, fb = np.where(down, a, b), np.where(down, fa, fb)
        x = np.where(up, np.minimum(b + step, high), np.where(down, np.maximum(a - step, low), b))
        f = np.broadcast_to(goal(x), x.shape)
        b, fb = np.where(up, x, b), np.where(up, f, fb)
        a, fa = np.where(down, x, a), np.where(down, f, fa)
        step *= 2
    lost = fb > 0
    if lost.any() and len(x) == 1:
        _unreached(budget, problem, float(fb[0]), seed)
    for _ in range(steps):
        with np.errstate(invalid="ignore", divide="ignore"):
            x = np.where(np.isfinite(fa), b - fb * (b - a) / (fb - fa), (a + b) / 2)
        x = np.where(np.isfinite(x) & (x > a) & (x < b), x, (a + b) / 2)
        f = np.broadcast_to(goal(x), x.shape)
        left = f > 0
        fa, fb = np.where(left, f, fa / 2), np.where(left, fb / 2, f)
        a, b = np.where(left, x, a), np.where(left, b, x)
        if ((np.abs(f) <= tolerance) | (b - a <= 1e-13 * np.abs(b)) | lost).all():
            break
    return np.where(lost, np.inf, x)


def _unreached(budget: Budget, problem: PlanProblem, excess: float, seed: int) -> None:
    if budget.loss is None:
        raise InputError(f"no compute makes {budget.kind} {budget.params or budget.tokens:.3g} the best choice")
    least = budget.loss * (1 + excess)
    raise InputError(
        f"no compute reaches loss {budget.loss:.4g}: the lowest loss of the laws is {least:.4g} with these languages "
        "and unique tokens",
        hint=f"ask for more than {least:.4g}, or add languages or unique tokens",
    )
