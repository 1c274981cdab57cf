"""Fitted laws as one planning problem: the numbers of each law's equation in the arrays that `LossEvaluator` reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from babelscale.fitting import Fit
from babelscale.laws.separable import SeparableForm
from babelscale.planning.optimiser.constraints import ConstraintSet
from babelscale.planning.optimiser.evaluate import LossEvaluator
from babelscale.planning.request import Bounds

Array = NDArray[np.float64]
UNSPENT = ""
_NUMBERS = ("E", "A", "alpha", "B", "beta", "gamma", "lam", "size_cap", "size_lam")
_WIDTH = 1e-7


@dataclass(frozen=True)
class Setting:
    """What a plan is asked for, checked. `served` tokens of inference are charged; bounds are by language; `covariates`
    are held."""

    languages: tuple[str, ...]
    weights: Mapping[str, float]
    unique_tokens: Mapping[str, float]
    compute: float
    served: float = 0.0
    tokens: Mapping[str, Bounds] = field(default_factory=dict)
    shares: Mapping[str, Bounds] = field(default_factory=dict)
    covariates: Mapping[str, float] = field(default_factory=dict)

    @property
    def constraints(self) -> ConstraintSet:
        """The bounds as arrays, with a last column for budget that they leave unspent."""
        if not (self.tokens or self.shares):
            return ConstraintSet()
        bounds = [self.tokens.get(code, (0.0, np.inf)) for code in self.languages]
        shares = [self.shares.get(code, (0.0, 1.0)) for code in self.languages]
        spare = any(high < np.inf for _, high in bounds)
        more = [(0.0, np.inf)] if spare else []
        # Bounds that leave no width would leave no inside; a ten-millionth is below any sampler's exactness.
        tokens = np.array(bounds + more) * [1 - _WIDTH, 1 + _WIDTH]
        parts = np.array(shares + [(0.0, 1.0)] * len(more)) * [1 - _WIDTH, 1.0]
        parts[:, 1] = np.where(parts[:, 1] < 1, parts[:, 1] * (1 + _WIDTH), 1.0)
        return ConstraintSet(tokens[:, 0], tokens[:, 1], parts[:, 0], parts[:, 1], spare)


def problem(laws: Mapping[str, SeparableForm], setting: Setting) -> LossEvaluator:
    """Stack the laws of all targets into one problem."""
    targets, limits = list(laws), setting.constraints
    codes = (*setting.languages, *([UNSPENT] if limits.spare else []))
    column = {code: k for k, code in enumerate(codes)}
    rows, T, K = len(next(iter(laws.values())).E), len(targets), len(codes)
    # Where no language helps another the worth of T x K pairs is that of T: 420 languages and 200 draws fit then.
    alone = all(set(law.worth) == {frozenset([target])} for target, law in laws.items())
    worth, pooled = np.zeros((rows, T, 1 if alone else K)), np.zeros((rows, T))
    members, everything = np.zeros((T, K)), frozenset(setting.languages)
    for t, law in enumerate(laws.values()):
        single = {next(iter(group)): values for group, values in law.worth.items() if len(group) == 1}
        if single:
            worth[:, t, [0 if alone else column[code] for code in single]] = np.stack(list(single.values()), axis=1)
        for group in law.worth:
            if len(group) != 1:
                pooled[:, t] = law.worth[group]
                # A pool is nearly everything: its complement is short.
                members[t, : len(setting.languages)] = 1.0
                members[t, [column[code] for code in everything - group]] = 0.0
    unique = np.array([setting.unique_tokens.get(code, np.inf) for code in codes])
    own = np.array([column[target] for target in targets])
    alone = alone or not (np.arange(K) != own[:, None])[(worth != 0).any(0)].any()

    def stacked(name: str) -> Array:
        return np.stack([getattr(law, name) for law in laws.values()], axis=1)

    return LossEvaluator(
        languages=codes,
        weights=np.tile([setting.weights[target] for target in targets], (rows, 1)),
        **{name: stacked(name) for name in _NUMBERS},  # pyright: ignore[reportArgumentType]
        transfer_weight=_alone(worth, own) if alone else worth,
        group_weight=pooled,
        group_members=members,
        group_unique=np.where(members.any(1), np.where(members > 0, unique, 0.0).sum(1), np.inf),
        unique=unique,
        target_index=own,
        compute=np.full(rows, setting.compute),
        least_loss=np.zeros((rows, T)),
        served=setting.served,
        constraints=limits,
    )


def _alone(worth: Array, own: NDArray[np.intp]) -> Array:
    """Each target's worth of its own tokens, (R, T)."""
    return worth[:, :, 0] if worth.shape[2] == 1 else worth[:, np.arange(len(own)), own]


def of_fit(fit: Fit, setting: Setting, values: Array) -> SeparableForm | None:
    """One fit's law at rows of parameters, shape (R, parameters), in the order of `law.parameter_names`; None where the
    law has no separable form."""
    p = dict(zip(fit.law.parameter_names, np.asarray(values, np.float64).T, strict=True))
    return fit.law.separable(p, setting.languages, setting.unique_tokens)


def languages_of(fits: Sequence[Fit]) -> tuple[str, ...]:
    """The targets, then the other languages that their laws name."""
    codes = [fit.target or "und" for fit in fits]
    for fit in fits:
        codes += fit.law.languages
    return tuple(dict.fromkeys(codes))
