"""PlanIntervals: how far a plan's size, compute, tokens and shares move when every draw of the laws is planned anew."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from babelscale.intervals import interval, intervals
from babelscale.planning.optimiser.solver import SolvedProblem


@dataclass(frozen=True)
class PlanIntervals:
    """90 % intervals over replanned draws; the plan itself always lies inside."""

    params: tuple[float, float] | None
    compute: tuple[float, float] | None
    tokens: Mapping[str, tuple[float, float]]
    shares: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, again: SolvedProblem | None, found: SolvedProblem, codes: Sequence[str]) -> "PlanIntervals":
        if again is None:
            return cls(None, None, {}, {})
        s = again.solution
        kept = np.isfinite(s.objective) & np.isfinite(again.problem.compute)
        if not kept.any():
            return cls(None, None, {}, {})
        X, _ = again.problem.at(np.flatnonzero(kept)).budget(s.n[kept])
        own_X = float(found.problem.budget(found.solution.n)[0][0])
        p, own = s.shares[kept], found.solution.shares[0]
        # A draw that no compute satisfies says that the compute may be anything.
        C = again.problem.compute[np.isfinite(s.objective)]
        K, used = len(codes), float(own[: len(codes)].sum())
        p, own, spent = p[:, :K], own[:K], p[:, :K].sum(1, keepdims=True)
        # One call for everything: N, then D and the shares of every language.
        values = np.concatenate([np.exp(s.n[kept])[:, None], p * X[:, None], p / spent], axis=1)
        ends = intervals(values, including=np.concatenate([found.solution.params[:1], own * own_X, own / used]))
        return cls(
            ends[0],
            interval(C, including=float(found.problem.compute[0])),
            dict(zip(codes, ends[1 : K + 1], strict=True)),
            dict(zip(codes, ends[K + 1 :], strict=True)),
        )
