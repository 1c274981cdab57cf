"""The time that work under way still needs, with its interval."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

# With fewer steps of progress than this, their scatter is not known.
_FEWEST = 3
_COVERED = 0.9


@dataclass(frozen=True)
class Eta:
    """The work and the time that remain.

    `rate` is in FLOPs a second, measured in `steps` over `over` seconds. `low` and `high` bound `seconds` with 90 %
    confidence, if the work continues at the rates seen; `high` is None where the rate may be zero.
    """

    flops: float
    rate: float
    seconds: float
    low: float
    high: float | None
    steps: int
    over: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate_eta(flops: float, points: Sequence[tuple[float, float]], longest: float = 0.0) -> Eta | None:
    """The time that `flops` FLOPs need, from the progress so far; None where there is too little of it.

    The rate is a ratio of sums, r = sum x_i / sum t_i over the steps of progress (FLOPs x_i in t_i seconds); its
    variance is n / (n - 1) sum (x_i - r t_i)^2 / (sum t_i)^2 (Cochran, Sampling Techniques, 1977, section 6.3), and the
    interval is Student's t with n - 1 degrees of freedom.

    Args:
        points: (seconds, FLOPs done in all), in order of time.
        longest: seconds that the longest run still needs by itself, a lower bound of the whole.
    """
    from scipy.special import stdtrit

    pairs = itertools.pairwise(points)
    steps = [(after[0] - before[0], after[1] - before[1]) for before, after in pairs if after[0] > before[0]]
    n, over = len(steps), math.fsum(t for t, _ in steps)
    gained = math.fsum(x for _, x in steps)
    if n < _FEWEST or gained <= 0:
        return None
    rate = gained / over
    spread = math.sqrt(n / (n - 1) * math.fsum((x - rate * t) ** 2 for t, x in steps)) / over
    around = float(stdtrit(n - 1, (1 + _COVERED) / 2)) * spread
    slowest = rate - around
    high = max(flops / slowest, longest) if slowest > 0 else None
    return Eta(flops, rate, max(flops / rate, longest), max(flops / (rate + around), longest), high, n, over)
