"""PlanIntervals: how far a plan's size, compute, tokens and shares move when every draw of the laws is planned anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from babelscale.intervals import interval, intervals
from babelscale.planning.budget import Budget
from babelscale.planning.optimiser.solver import SolvedProblem


@dataclass(frozen=True)
class PlanIntervals:
    """90 % intervals over replanned draws; the plan itself always lies inside."""

    params: tuple[float, float] | None
    compute: tuple[float, float] | None
    tokens: Mapping[str, tuple[float, float]]
    shares: Mapping[str, tuple[float, float]]

    @classmethod
    def of(
        cls, again: SolvedProblem | None, found: SolvedProblem, codes: Sequence[str], budget: Budget, compute: float
    ) -> "PlanIntervals":
        """Intervals of a plan that spends `compute`, from the draws that were planned again."""
        if again is None:
            return cls(None, None, {}, {})
        s = again.solution
        solved, unlimited = np.isfinite(s.objective), np.isinf(again.problem.compute)
        kept, lost = solved & ~unlimited, int((solved & unlimited).sum())
        if not kept.any():
            return cls(None, None, {}, {})
        X, _ = again.problem.at(np.flatnonzero(kept)).budget(s.n[kept])
        own_X = float(found.problem.budget(found.solution.n)[0][0])
        p, own = s.shares[kept], found.solution.shares[0]
        K, used, N, own_N = len(codes), float(own[: len(codes)].sum()), np.exp(s.n[kept]), found.solution.params[0]
        p, own, spent = p[:, :K], own[:K], p[:, :K].sum(1, keepdims=True)
        # Bounds may leave a part of the budget unspent, which no training pays for.
        C = again.problem.compute[kept] - 6 * N * X * (1 - spent[:, 0])
        # A draw that no compute satisfies says that the compute may be anything, and with it what is not given.
        endless = np.full((lost, 1), np.inf)
        size = np.concatenate([N[:, None], np.full((lost, 1), np.inf if budget.params is None else own_N)])
        tokens = np.concatenate([p * X[:, None], np.repeat(endless, K, 1) if budget.tokens is None else p[:0]])
        own_tokens = own * own_X
        ends = {
            "params": intervals(size, including=found.solution.params[:1]),
            "tokens": intervals(tokens, including=own_tokens),
            "shares": intervals(p / spent, including=own / used),
        }
        return cls(
            ends["params"][0],
            interval(np.concatenate([C, endless[:, 0]]), including=compute),
            dict(zip(codes, ends["tokens"], strict=True)),
            dict(zip(codes, ends["shares"], strict=True)),
        )
