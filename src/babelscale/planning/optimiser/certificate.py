"""A bound from below that no allocation of the same budget can beat, so that a plan states how good it is.

Let D0 be a plan at N0 with X0 tokens, q the weights of its targets (for a worst case, those of the dual) and
mu_l = -d/dD_l sum_t q_t L_t. With every tau >= 0 each D_eff,t is concave in D, so at any D

    sum_t q_t B_t D_eff,t^-beta_t >= sum_t q_t B_t D_eff,t0^-beta_t - c log(1 + sum_l mu_l (D_l - D_l0) / c),
    c = sum_t q_t beta_t B_t D_eff,t0^-beta_t

(B e^(-beta x) is convex in x = log D_eff; then Jensen's inequality). The largest sum mu_l D_l over all D that keep the
bounds and spend at most X tokens is a linear program; its value at X0 exceeds the plan's by the duality gap, and grows
with X by at most its multiplier nu. What is left is a function of N alone,

    g(N) = sum_t q_t (E_t + A_t / S(N)^alpha_t) + data0 - c log(1 + (gap + nu (X(N) - X0)) / c),

whose least value over all N is found by dividing the interval until the bound on its second derivative suffices. One
cut is exact where nothing repeats; elsewhere further cuts, at other N, are added until the bound meets the plan.

Where every target learns from its own tokens alone the same holds with c = sum_l mu_l D_l0, and one cut is exact too:
the elasticity D S' / S falls with D, so B S(D)^-beta is convex in log D, and no first step by D_eff is needed. (For
D = U (1 + r) and e = exp(-lambda r), the elasticity falls where 1 / (1 + r) <= lambda (lambda + 1) / (lambda + 1 - e),
which 1 - e <= lambda r implies.)
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from babelscale.planning.optimiser.evaluate import LossDerivatives, LossEvaluator
from babelscale.planning.optimiser.interior_point import Solution, path_centre, solve, solve_near
from babelscale.planning.optimiser.risk import MEAN

Array = NDArray[np.float64]
Kind = Literal["global", "shares", "local", "search"]

ENOUGH = 1e-7
# A point lower than the plan by this part of the loss starts the search anew, at most `_VALLEYS` times.
_LOWER, _VALLEYS = 1e-9, 4
_ROUNDS, _CUTS, _CELLS = 6, 12, 96
_DEPTH, _MOST = 7, 2000
# First further cuts: at these distances in log N on both sides of the plan. In random problems where one cut was not
# enough, the plan's own reached past 0.0013 and one at a distance d from 0.6 d to 10 d.
_AROUND = (0.0025, 0.035, 0.5)


@dataclass(frozen=True)
class Certificate:
    """How far from the best a plan can be.

    Attributes:
        gap: (objective - bound) / scale, relative to the mean loss; NaN where nothing bounds it.
        bound: no allocation has a lower objective; minus infinity where nothing bounds it.
        residual: the KKT residual: the largest relative amount by which moving a token (or changing N) would help.
        kind: "global", the bound holds over shares and N; "shares", over the shares at this N; "local", none holds;
            "search", none holds, because a law has no separable form and a general search made the plan.
    """

    gap: float
    bound: float
    residual: float
    kind: Kind
    starts: int = 1

    def __str__(self) -> str:
        if self.kind == "search":
            near = "" if np.isnan(self.residual) else f", KKT residual {self.residual:.1e}"
            return (
                f"not certified: a law has no separable form, so a general search made this plan, the best of "
                f"{self.starts} {'start' if self.starts == 1 else 'starts'}{near}; a better allocation cannot be ruled "
                "out"
            )
        if self.kind == "local":
            return (
                f"not convex (negative transfer, or a reward for small shares): the best of {self.starts} starts, KKT "
                f"residual {self.residual:.1e}; a better allocation cannot be ruled out"
            )
        over = "sizes and mixtures" if self.kind == "global" else "mixtures at this size"
        return f"certified: no {over} within the constraints are better by more than {max(self.gap, 0):.1e} (relative)"


@dataclass(frozen=True)
class _Cut:
    """g(N) of the module's text: constants and the numbers of the capacity term."""

    data: float
    c: float
    gap: float
    nu: float
    X: float


def improved(problem: LossEvaluator, found: Solution, box: tuple[float, float] | None) -> tuple[Solution, Certificate]:
    """A solution and its certificate; where a cut at another N shows a better plan, that one, solved from there.

    For fixed N the problem is convex, over N it may have several valleys where languages help each other.
    """
    certificate, better = certify(problem, found, box)
    for _ in range(_VALLEYS):
        again = None if better is None else solve(problem, box, start=better)
        if again is None or not again.objective[0] < found.objective[0]:
            break
        found = replace(again, starts=found.starts)
        certificate, better = certify(problem, found, box)
    return found, certificate


def certify(
    problem: LossEvaluator, found: Solution, box: tuple[float, float] | None
) -> tuple[Certificate, Solution | None]:
    """The certificate of a solved problem of one row, and a better point that its cuts came across.

    Args:
        box: the interval of N searched, None where N is given.
    """
    q, n = found.weights, found.n
    # The mean of the losses under the weights of the dual, from which the bound is made.
    mean = replace(problem, weights=q, risk=MEAN)
    at = mean.derivatives(found.shares, n)
    residual = _residual(mean, at, box is None or bool(found.at_edge[0]))
    scale = float((problem.weights * at.loss).sum() / problem.weights.sum())
    value = float(problem.objective(found.shares, n)[0])
    if not problem.convex:
        return Certificate(np.nan, -np.inf, residual, "local", found.starts), None
    if box is None or problem.gamma.any():
        bound = float((q * (at.loss - problem.least_loss)).sum()) - _cut(mean, at).gap
        return Certificate((value - bound) / scale, bound, residual, "shares", found.starts), None
    low, high = np.log(box[0]), np.log(box[1])
    needed = float(problem.constraints.tokens_low.sum()) if problem.constraints.any else 0.0
    if needed + problem.served > 0:
        high = min(high, float(np.log(problem.compute[0] / (6 * needed + 2 * problem.served))) - 1e-12)
    cuts = [_cut(mean, at)]
    base = -float((q * problem.least_loss).sum())
    bound = -np.inf
    for turn in range(_ROUNDS):
        least, where = _least(mean, cuts, low, high, value - base, scale)
        bound = max(bound, least + base)
        if value - bound <= ENOUGH * scale or not len(where):
            break
        if turn == 0:
            around = float(n[0]) + np.concatenate([-np.array(_AROUND), _AROUND])
            where = [float(x) for x in around if low < x < high]
        more, solved = _cuts_at(mean, found, where)
        if not more or solved is None:
            break
        there = problem.at(np.zeros(len(where), np.intp)).objective(solved.shares, solved.n)
        best = int(np.nanargmin(np.where(np.isfinite(there), there, np.inf)))
        if there[best] < value - _LOWER * scale:
            return Certificate((value - bound) / scale, bound, residual, "global", found.starts), solved.at(
                np.array([best])
            )
        cuts += more
    return Certificate((value - bound) / scale, bound, residual, "global", found.starts), None


def _residual(mean: LossEvaluator, at: LossDerivatives, fixed: bool) -> float:
    """Largest relative violation of stationarity in the shares (token for token), and in N where it is free.

    Bounds on tokens and shares are not read here; the gap covers them.
    """
    p, gains = at.p[0], -at.by_p[0] / at.X[0]
    trained, average = p > 1e-9, float(gains @ p)
    if not average > 0:
        return np.nan
    violation = 0.0
    if not mean.constraints.any:
        violation = max(float(np.abs(gains[trained] / average - 1).max()), float((gains / average).max() - 1))
    if fixed or mean.gamma.any() or not at.X[0] > 0:
        return violation
    # At the best N the slope of the capacity terms equals the slope of the data terms.
    data = average * float(at.a[0])
    capacity = data - float(at.by_n[0])
    return max(violation, abs(capacity - data) / max(capacity, data))


def _cut(mean: LossEvaluator, at: LossDerivatives) -> _Cut:
    gains, X = -at.by_p[0] / at.X[0], float(at.X[0])
    most, nu = best_use(mean, gains, X)
    spent = float(gains @ at.p[0]) * X
    c = spent if mean.separable and not mean.group_weight.any() else float((mean.beta * at.data).sum())
    return _Cut(float(at.data.sum()), c, max(most - spent, 0.0), nu, X)


def best_use(problem: LossEvaluator, gains: Array, X: float) -> tuple[float, float]:
    """The largest sum gains D over D >= 0 within the bounds that spend at most X, and its slope by X."""
    limits = problem.constraints
    if not limits.any:
        most = float(gains.max())
        return float(most * X), most
    if limits.by_share:
        return _program(problem, gains, X)
    low, high = limits.tokens_low.copy(), limits.tokens_high.copy()
    left = X - low.sum()
    value, slope = float(gains @ low), 0.0
    for k in np.argsort(-gains, kind="stable"):
        slope = float(gains[k])
        step = min(high[k] - low[k], max(left, 0.0))
        value, left = value + slope * step, left - step
        if left <= 0:
            break
    return float(value), slope


def _program(problem: LossEvaluator, gains: Array, X: float) -> tuple[float, float]:
    from scipy.optimize import linprog

    limits, K = problem.constraints, len(gains) - int(problem.constraints.spare)
    # In units of X: D = X d. share_low u <= d_l <= share_high u with u = sum d.
    rows, right = [np.ones(K)], [1.0]
    for k in range(K):
        if limits.share_low[k] > 0:
            rows.append(limits.share_low[k] - np.eye(K)[k])
            right.append(0.0)
        if limits.share_high[k] < 1:
            rows.append(np.eye(K)[k] - limits.share_high[k])
            right.append(0.0)
    bounds = list(zip(limits.tokens_low[:K] / X, np.minimum(limits.tokens_high[:K] / X, 1.0), strict=True))
    unit = float(gains.max())
    if not unit > 0:
        return 0.0, 0.0
    solved = linprog(-gains[:K] / unit, A_ub=np.array(rows), b_ub=right, bounds=bounds, method="highs")
    if solved.status != 0:
        return np.inf, np.inf
    # The row of the sum is the only one that X moves once tokens are counted in tokens again.
    nu = -float(solved.ineqlin.marginals[0])
    return -float(solved.fun) * unit * X, nu * unit


def _least(
    mean: LossEvaluator, cuts: list[_Cut], low: float, high: float, value: float, scale: float
) -> tuple[float, list[float]]:
    """A rigorous least value over n of the highest cut, and up to a few n where it is too low to be of use.

    On a cell of width w a cut is at least the lower of its ends minus w^2 / 8 times a bound on its second derivative:
    alpha^2 times the capacity's part (alpha (alpha + 1) where N saturates), and c (r^2 - r) for the logarithm, with r
    its elasticity by the budget, which exceeds 1 only where inference is charged.
    """
    edges = np.linspace(low, high, _CELLS + 1)
    left, right = edges[:-1], edges[1:]
    weight = mean.weights
    steep = weight * mean.alpha * (mean.alpha + np.isfinite(mean.size_cap))

    def capacity(n: Array) -> Array:
        return (weight * mean.capacity(n)).sum(1)

    at_edges = capacity(edges)
    ends = at_edges[:-1], at_edges[1:]
    wanted, least, hopeless, bound = value - ENOUGH * scale / 4, np.inf, [], np.empty(0)
    for _ in range(_DEPTH):
        bend = (steep * (mean.capacity(left) - mean.E)).sum(1)
        middle = (left + right) / 2
        bound, reach = np.full(len(left), -np.inf), np.full(len(left), -np.inf)
        for cut in cuts:
            (at_left, _), (at_right, r) = _data(mean, cut, left), _data(mean, cut, right)
            most = bend + cut.c * np.maximum(r**2 - r, 0)
            lowest = np.minimum(ends[0] + at_left, ends[1] + at_right)
            # Capacity falls with N and the data's part rises: steep ends need no more than that.
            bound = np.maximum(bound, np.maximum(lowest - (right - left) ** 2 / 8 * most, ends[1] + at_left))
            reach = np.maximum(reach, _data(mean, cut, middle)[0])
        # Smaller cells help where the highest cut suffices in the middle; elsewhere more cuts must.
        enough, low_cut = bound >= wanted, capacity(middle) + reach < wanted
        for cells in (enough, ~enough & low_cut):
            least = min(least, float(bound[cells].min())) if cells.any() else least
        hopeless += list(zip(bound[~enough & low_cut], middle[~enough & low_cut], strict=True))
        left, right, bound = (part[~enough & ~low_cut] for part in (left, right, bound))
        if not len(left) or len(left) > _MOST:
            break
        grid = left[:, None] + (right - left)[:, None] * np.linspace(0, 1, 9)
        at_grid = capacity(grid.ravel()).reshape(grid.shape)
        left, right, ends = grid[:, :-1].ravel(), grid[:, 1:].ravel(), (at_grid[:, :-1].ravel(), at_grid[:, 1:].ravel())
    if len(left):
        least = min(least, float(bound.min()))
    points = np.array([middle for _, middle in sorted(hopeless)])
    return least, _spread_out(points) if len(points) else []


def _data(mean: LossEvaluator, cut: _Cut, n: Array) -> tuple[Array, Array]:
    """The cut of the data's part at each n, and its elasticity r by the budget."""
    if not cut.c:  # every loss is as low as data make it
        return np.full_like(n, cut.data), np.zeros_like(n)
    a = mean.compute[0] / 6 * np.exp(-n)
    inside = np.maximum(1 + (cut.gap + cut.nu * (a - mean.served / 3 - cut.X)) / cut.c, 1e-300)
    return cut.data - cut.c * np.log(inside), cut.nu * a / cut.c / inside


def _spread_out(points: Array) -> list[float]:
    """A few of the points, lowest first, that do not crowd together."""
    chosen: list[float] = []
    apart = (points.max() - points.min()) / (2 * _CUTS)
    for point in points:
        if all(abs(point - other) >= apart for other in chosen):
            chosen.append(float(point))
        if len(chosen) == _CUTS:
            break
    return chosen


def _cuts_at(mean: LossEvaluator, found: Solution, where: list[float]) -> tuple[list[_Cut], Solution | None]:
    """Cuts at other sizes, each from the best shares there, and those."""
    many = mean.at(np.zeros(len(where), np.intp))
    solved = solve_near(many, None, found, lambda: path_centre(mean, None, found), n=np.array(where), exact=True)
    if solved is None:
        return [], None
    cuts = []
    for i in np.flatnonzero(np.isfinite(solved.objective)):
        cuts.append(_cut(mean, mean.derivatives(solved.shares[[i]], solved.n[[i]])))
    return [cut for cut in cuts if cut.c > 0], solved
