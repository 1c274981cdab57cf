"""LearningCurve: the loss of one language during training, made monotone, as a function of tokens and its inverse."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from babelscale.errors import InputError
from babelscale.runs import METRICS, Metric, Runs
from babelscale.tables import LRState

if TYPE_CHECKING:
    from scipy.interpolate import PchipInterpolator

# Checkpoints around the anchor from which a curve's noise is read, and the fewest that allow it.
_NEAR, _FEWEST = 7, 5


@dataclass(frozen=True)
class LearningCurve:
    """Loss of `language` after `tokens` tokens in total, all under one learning-rate state.

    Args:
        language: the language the loss was measured on.
        tokens: total tokens seen over all languages, shape (n,), positive and increasing.
        loss: shape (n,), positive, in any fixed unit.
        lr_state: "stable" or "decayed"; losses of the two are not comparable.
        run: the run's name, for messages.

    Raises:
        InputError: shapes differ, fewer than two checkpoints, or values out of order or out of range.
    """

    language: str
    tokens: NDArray[np.float64]
    loss: NDArray[np.float64]
    lr_state: LRState = "stable"
    run: str = ""

    def __init__(
        self, language: str, tokens: ArrayLike, loss: ArrayLike, lr_state: LRState = "stable", run: str = ""
    ) -> None:
        d, y = np.atleast_1d(np.asarray(tokens, np.float64)), np.atleast_1d(np.asarray(loss, np.float64))
        where = f"learning curve of {language!r}{f' in run {run!r}' if run else ''}"
        if d.shape != y.shape or d.ndim != 1:
            raise InputError(f"{where}: tokens {d.shape} and loss {y.shape} differ in shape")
        if len(d) < 2:
            raise InputError(f"{where}: {len(d)} {lr_state} checkpoint(s)", hint="a learning curve needs two or more")
        if not (np.isfinite(d).all() and np.isfinite(y).all() and (d > 0).all() and (y > 0).all()):
            raise InputError(f"{where}: tokens and loss must be positive and finite")
        if not (np.diff(d) > 0).all():
            raise InputError(f"{where}: tokens must increase from checkpoint to checkpoint")
        for name, value in zip(
            ("language", "tokens", "loss", "lr_state", "run"), (language, d, y, lr_state, run), strict=True
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def from_runs(
        cls,
        runs: Runs,
        names: Sequence[str],
        language: str,
        *,
        lr_state: LRState = "stable",
        metric: Metric | None = None,
        split: str = "validation",
    ) -> "LearningCurve":
        """The curve through every matching loss of the named runs (several runs for a decayed curve).

        Raises:
            InputError: no loss of that language, state and split was measured there.
        """
        metric = metric or runs.metric
        losses = runs.losses.filter(pl.col("run").is_in(list(names)))
        losses = losses.filter(language=language, split=split, lr_state=lr_state)
        seen = runs.exposure.group_by("run", "step").agg(total=pl.sum("tokens"))
        rows = losses.join(seen, on=["run", "step"]).with_columns(value=METRICS[metric])
        rows = rows.group_by("total").agg(pl.mean("value")).filter(pl.col("total") > 0).sort("total")
        if rows["value"].null_count():
            raise InputError(f"{metric} of {language!r} needs totals that the losses table does not have")
        return cls(language, rows["total"].to_numpy(), rows["value"].to_numpy(), lr_state, "+".join(names))

    @functools.cached_property
    def knots(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """log tokens and loss of the isotonic regression, one knot a block, so that the loss falls strictly.

        Checkpoints that rise are pooled with their neighbours; a block stands at the mean of its log tokens.
        """
        from scipy.optimize import isotonic_regression

        fitted = isotonic_regression(self.loss, increasing=False)
        edges = np.asarray(fitted.blocks)
        sizes = np.diff(edges)
        x = np.add.reduceat(np.log(self.tokens), edges[:-1]) / sizes
        return x, np.asarray(fitted.x)[edges[:-1]]

    @functools.cached_property
    def _interpolant(self) -> "PchipInterpolator | None":
        from scipy.interpolate import PchipInterpolator

        x, y = self.knots
        return PchipInterpolator(x, y, extrapolate=False) if len(x) > 1 else None

    def at(self, tokens: float) -> float:
        """The monotone curve's loss at `tokens`.

        Raises:
            InputError: outside the checkpoints; curves are never extrapolated.
        """
        if not self.tokens[0] * (1 - 1e-12) <= tokens <= self.tokens[-1] * (1 + 1e-12):
            raise InputError(
                f"{tokens:.4g} tokens are outside the {self.lr_state} checkpoints of {self.language!r} in run "
                f"{self.run!r} ({self.tokens[0]:.4g} to {self.tokens[-1]:.4g} tokens)",
                hint="choose another anchor, or evaluate more checkpoints",
            )
        x, y = self.knots
        if self._interpolant is None:
            return float(y[0])
        return float(self._interpolant(np.clip(math.log(tokens), x[0], x[-1])))

    def tokens_to(self, loss: float) -> float:
        """Total tokens at which the monotone curve reaches `loss`.

        Returns inf where it never does, and 0 where it was below `loss` before the first checkpoint.
        """
        x, y = self.knots
        if loss < y[-1]:
            return math.inf
        if loss > y[0]:
            return 0.0
        if self._interpolant is None or loss == y[-1]:
            return float(np.exp(x[-1]))
        if loss == y[0]:
            return float(np.exp(x[0]))
        (root, *_) = self._interpolant.solve(loss, extrapolate=False)
        return float(np.exp(root))

    def noise(self, tokens: float) -> float:
        """Standard deviation of log loss from one checkpoint to the next near `tokens`; NaN with too few checkpoints.

        The scatter around a quadratic in log-log over the nearest checkpoints, or around the monotone curve where
        that is larger. A noiseless but strongly bent curve is therefore taken as slightly noisy, and never the reverse.
        """
        if len(self.tokens) < _FEWEST:
            return math.nan
        x, y = np.log(self.tokens), np.log(self.loss)
        near = np.sort(np.argsort(np.abs(x - math.log(tokens)), kind="stable")[:_NEAR])
        rough = y[near] - np.polynomial.Polynomial.fit(x[near], y[near], 2)(x[near])
        knots_x, knots_y = self.knots
        block = np.interp(x[near], knots_x, np.log(knots_y))
        degrees = len(near) - 3
        return math.sqrt(max(float(rough @ rough) / degrees, float(np.mean((y[near] - block) ** 2))))


def every_curve(
    runs: Runs, *, lr_state: LRState = "stable", metric: Metric | None = None, split: str = "validation"
) -> dict[tuple[str, str], LearningCurve]:
    """The curves of every run and language with two checkpoints or more, by (run, language)."""
    metric = metric or runs.metric
    losses = runs.losses.filter(split=split, lr_state=lr_state).with_columns(value=METRICS[metric])
    seen = runs.exposure.group_by("run", "step").agg(total=pl.sum("tokens"))
    rows = losses.join(seen, on=["run", "step"]).filter(pl.col("total") > 0).sort("run", "language", "total")
    if rows["value"].null_count():
        raise InputError(f"{metric} needs totals that the losses table does not have")
    found = {}
    for (run, language), part in rows.group_by(["run", "language"], maintain_order=True):
        if part.height > 1:
            tokens, loss = part["total"].to_numpy(), part["value"].to_numpy()
            found[str(run), str(language)] = LearningCurve(str(language), tokens, loss, lr_state, str(run))
    return found
