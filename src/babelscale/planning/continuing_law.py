"""Continue or start over by the law of a target: the checkpoint's tokens count as if they had just been trained on."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from babelscale.allocation import Allocation
from babelscale.errors import DomainError, InputError
from babelscale.fitting import Fit
from babelscale.planning.continuing import Checkpoint
from babelscale.planning.decision import Decision, told
from babelscale.planning.planner import plan

Array = NDArray[np.float64]
_GRID = 60
_SPAN = 1e4


def by_law(
    fit: Fit,
    checkpoint: Checkpoint,
    params: float,
    D: float,
    charged: float,
    mixture: Mapping[str, float] | None,
    unique_tokens: Mapping[str, float] | None,
    seed: int,
) -> Decision:
    """Continue the checkpoint on `D` tokens, or start over with as much compute and the best mixture for it.

    The crossover is sought along the new compute, from a hundredth of the checkpoint's tokens to `_SPAN` times the
    budget, with the mixture that is planned at the budget.

    Raises:
        InputError: the fit has no target, or the mixture names no tokens.
    """
    target = fit.target or fit.law.target
    if target is None:
        raise InputError("the fit is of no one language", hint="fit the law of the target language")
    shares = dict(mixture or {target: 1.0})
    total = math.fsum(shares.values())
    if not (total > 0 and all(share >= 0 for share in shares.values())):
        raise InputError(f"mixture {shares}", hint="give shares by language, 0 or more")
    shares = {code: share / total for code, share in shares.items()}
    unique = {**fit.unique_tokens, **(unique_tokens or {})}
    new = 6 * checkpoint.params * D + charged
    given = {code: U for code, U in unique.items() if code in {target, *fit.law.languages}}
    over = plan(fit, compute=new, params=params, unique_tokens=given, draws=0, baselines=False, seed=seed)
    start = over.shares

    def losses(tokens: Array) -> tuple[Array, Array]:
        """Continued and started over, shape (draws + 1, n), at n amounts of new tokens of the checkpoint's size."""
        codes = {*checkpoint.tokens, *shares}
        sums = {c: checkpoint.tokens.get(c, 0.0) + shares.get(c, 0.0) * tokens for c in codes}
        continued = Allocation(checkpoint.params, sums, {c: unique[c] for c in codes if c in unique})
        D_over = (6 * checkpoint.params * tokens + charged) / (6 * params)
        fresh = Allocation(
            params, {c: s * D_over for c, s in start.items()}, {c: unique[c] for c in start if c in unique}
        )
        return _every(fit, continued), _every(fit, fresh)

    at, scratch = (values[:, 0] for values in losses(np.array([D])))
    if not math.isfinite(at[0]):
        raise DomainError("the law has no loss for the continued checkpoint", hint="its helpers take away too much")
    first = max(1e-2 * math.fsum(checkpoint.tokens.values()), 1.0)
    grid = np.geomspace(min(first, D / 10), _SPAN * D, _GRID)
    crossing = _crossing(grid, *losses(grid))
    reach = fit.extrapolation(
        Allocation(
            checkpoint.params,
            {c: checkpoint.tokens.get(c, 0.0) + shares.get(c, 0.0) * D for c in {*checkpoint.tokens, *shares}},
        )
    )
    notes = [
        "by the law the checkpoint's tokens count as if they had just been trained on: how a trained model takes to "
        "new text is not in it (runs that were continued would tell)",
        f"starting over trains on {', '.join(f'{c} {100 * s:.3g} %' for c, s in start.items() if s > 0)}",
        f"the checkpoint's {charged:.3g} FLOPs are charged: starting over may spend them too"
        if charged
        else "the checkpoint's own compute is not charged",
    ]
    return told(
        checkpoint.params,
        D,
        target,
        crossing,
        {"finetune": at, "pretrain": scratch},
        charged,
        reach,
        notes,
        fit.metric,
        f"the fitted {fit.law.name} law of {target} and a checkpoint of {checkpoint.params:.3g} parameters",
    )


def _every(fit: Fit, allocation: Allocation) -> Array:
    """Loss of the fit and of its draws, (draws + 1, n); infinite outside the domain."""
    names = fit.law.parameter_names
    rows = np.vstack([[fit.parameters[name] for name in names], fit.draws])
    columns = {name: rows[:, i, None] for i, name in enumerate(names)}
    values = fit.law.evaluate(columns, allocation)
    return np.where(np.isfinite(values), values, np.inf)


def _crossing(grid: Array, continued: Array, scratch: Array) -> Array:
    """Where starting over first becomes as good and stays so to the grid's end, by row; 0 and infinity at its ends."""
    ahead = scratch > continued
    found = np.empty(len(ahead))
    for row, left in enumerate(ahead):
        if left[-1]:
            found[row] = np.inf
        elif not left.any():
            found[row] = 0.0
        else:
            i = int(np.flatnonzero(left)[-1])
            a, b = (float(scratch[row, k] - continued[row, k]) for k in (i, i + 1))
            part = a / (a - b) if math.isfinite(a) and math.isfinite(b) else 0.5
            found[row] = float(np.exp(np.log(grid[i]) + part * (np.log(grid[i + 1]) - np.log(grid[i]))))
    return found
