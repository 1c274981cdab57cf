"""ConstraintSet: bounds on the tokens and the share of each language, as a barrier, and where they leave room.

    tokens_low <= D_l <= tokens_high,    share_low u <= p_l <= share_high u,    u the part of the budget that is spent

With a bound from above some budget may be left unspent; it is then the last column of the shares, u = 1 - p_last.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def _none() -> Array:
    return np.empty(0)


class Slack(NamedTuple):
    """One kind of bound: slack = sign p_l + over / X + last p_last + constant, shape (R, M), of M languages."""

    languages: NDArray[np.intp]
    slack: Array
    sign: float
    over: Array
    last: Array


@dataclass(frozen=True)
class ConstraintSet:
    """Bounds by language, shape (K,); empty arrays mean none. `spare`: the last column is budget left unspent."""

    tokens_low: Array = field(default_factory=_none)
    tokens_high: Array = field(default_factory=_none)
    share_low: Array = field(default_factory=_none)
    share_high: Array = field(default_factory=_none)
    spare: bool = False

    @property
    def any(self) -> bool:
        return len(self.tokens_low) > 0

    @property
    def by_share(self) -> bool:
        return self.any and bool((self.share_low > 0).any() or (self.share_high < 1).any())

    @property
    def count(self) -> int:
        """How many bounds there are."""
        each = self.tokens_low > 0, np.isfinite(self.tokens_high), self.share_low > 0, self.share_high < 1
        return sum(int(bound.sum()) for bound in each)

    def slacks(self, p: Array, X: Array) -> list[Slack]:
        """Every kind of bound there is."""
        spent, found = 1 - p[:, -1:] if self.spare else np.ones((len(p), 1)), []
        for bound, sign, by_share, bounded in (
            (self.tokens_low, 1.0, False, self.tokens_low > 0),
            (self.tokens_high, -1.0, False, np.isfinite(self.tokens_high)),
            (self.share_low, 1.0, True, self.share_low > 0),
            (self.share_high, -1.0, True, self.share_high < 1),
        ):
            if len(k := np.flatnonzero(bounded)):
                slack = sign * (p[:, k] - (bound[k] * spent if by_share else bound[k] / X[:, None]))
                over, last = (0.0, sign * float(self.spare)) if by_share else (-sign, 0.0)
                found.append(Slack(k, slack, sign, over * bound[k], last * bound[k]))
        return found

    def barrier(self, p: Array, X: Array) -> Array:
        """Sum of the logarithms of every slack, shape (R,); NaN outside."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return sum((np.log(each.slack).sum(1) for each in self.slacks(p, X)), np.zeros(len(p)))

    def room(self, X: float) -> tuple[float, float, float]:
        """(u, least, most): the largest part u of X tokens that the bounds let be spent, and how much they ask for and
        allow at that u. No room where least > u, or most < u."""
        u = self._most(X)
        low, high = self.corners(X, u)
        return u, float(low.sum()), float(high.sum())

    def corners(self, X: float, u: float) -> tuple[Array, Array]:
        """Least and most share of each language when u of X is spent."""
        low = np.maximum(self.tokens_low / X, self.share_low * u)
        high = np.minimum(np.minimum(self.tokens_high / X, self.share_high * u), u)
        if self.spare:
            low[-1], high[-1] = 0.0, 0.0
        return low, high

    def _most(self, X: float) -> float:
        if not self.spare or self.corners(X, 1.0)[1].sum() >= 1:
            return 1.0
        # sum(high) - u is concave in u, 0 at 0: bisect for its last zero.
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.corners(X, middle)[1].sum() >= middle else (low, middle)
        return low

    def inside(self, X: float) -> Array | None:
        """Shares well inside every bound; None where there is no room."""
        most = self._most(X)
        for part in (0.98, 0.995, 0.9, 0.5, 0.9999):
            u = most * part if self.spare else 1.0
            low, high = self.corners(X, u)
            total, span = low.sum(), (high - low).sum()
            if u > 0 and span > 0 and 0 < (u - total) / span < 1:
                p = low + (u - total) / span * (high - low)
                if self.spare:
                    p[-1] = 1 - u
                if (p > 0).all() and np.isfinite(self.barrier(p[None], np.array([X]))).all():
                    return p
        return None

    def nearest_inside(self, p: Array, X: float) -> Array:
        """As near to the shares p as the bounds let an interior point be; NaN where they leave no room."""
        inside = self.inside(X) if X > 0 else None
        if inside is None:
            return np.full(len(p), np.nan)
        for part in (0.1, 0.5, 0.9):
            mixed = (1 - part) * p + part * inside
            if np.isfinite(self.barrier(mixed[None], np.array([X])))[0]:
                return mixed
        return inside
