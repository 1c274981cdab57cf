"""Fitted laws: a user's own fits as the source of a plan."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from babelscale import languages as language_table
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.fitting.result import NORMAL
from babelscale.intervals import central
from babelscale.laws import ScalingLaw
from babelscale.laws.separable import SeparableForm
from babelscale.planning.optimiser import problem_cache
from babelscale.planning.optimiser.setting import Expectations, Setting

Array = NDArray[np.float64]
_MANY = 6


@dataclass(frozen=True)
class FittedLaws:
    """Fits of your own runs, one for each target."""

    fits: Mapping[str, Fit]

    @classmethod
    def of(cls, fits: Fit | Sequence[Fit] | None) -> "FittedLaws":
        """Fits by target, checked to be of one loss, one vocabulary and different languages.

        Raises:
            InputError: no fit, two of one target, different metrics or tokenizers.
        """
        if fits is None:
            raise InputError("nothing to plan from", hint="pass one or several fits, or published=True")
        several = [fits] if isinstance(fits, Fit) else list(fits)
        if not several:
            raise InputError("no fits given", hint="pass one fit a target language")
        named: dict[str, Fit] = {}
        for fit in several:
            target = fit.target or fit.law.target or language_table.UNDETERMINED
            if target in named:
                raise InputError(f"two fits of target {target!r}", hint="pass one fit a target language")
            named[target] = fit
        if len(metrics := {fit.metric for fit in several}) > 1:
            raise InputError(f"fits of different losses: {', '.join(sorted(metrics))}", hint="fit all with one metric")
        _one_vocabulary(named)
        return cls(named)

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(self.fits)

    @property
    def metric(self) -> str:
        return next(iter(self.fits.values())).metric or "the unit of the fits"

    @property
    def source(self) -> str:
        names = ", ".join(sorted({fit.law.name for fit in self.fits.values()}))
        return f"{len(self.fits)} fitted law{'s' if len(self.fits) > 1 else ''} ({names})"

    @property
    def pooled(self) -> tuple[str, ...]:
        return ()

    def estimated(self, codes: Sequence[str]) -> tuple[str, ...]:
        return ()

    @property
    def key(self) -> Hashable:
        return tuple((target, id(fit)) for target, fit in self.fits.items())

    def languages(self) -> tuple[str, ...]:
        fits = self.fits.values()
        codes = (fit.target or language_table.UNDETERMINED for fit in fits)
        return tuple(dict.fromkeys([*codes, *(code for fit in fits for code in fit.law.languages)]))

    def unique(self, codes: Sequence[str]) -> dict[str, float]:
        fits = self.fits.values()
        return {c: max(U) for c in codes if (U := [f.unique_tokens[c] for f in fits if c in f.unique_tokens])}

    def covariates(self, given: Mapping[str, float]) -> dict[str, float]:
        read = {name: fit for fit in self.fits.values() for name in fit.law.covariates}
        if unread := [name for name in given if name not in read]:
            raise InputError(f"no law reads the covariate {unread[0]!r}", hint=f"read: {', '.join(read) or 'none'}")
        found = dict(given)
        for name, fit in read.items():
            low, high = fit.range.get(f"covariates.{name}", (math.nan, math.nan))
            if name not in found and low != high:
                raise InputError(
                    f"law {fit.law.name!r} reads the covariate {name!r}, which a plan does not choose",
                    hint=f"give covariates={{{name!r}: ...}}",
                )
            found.setdefault(name, low)
        return found

    def only(self, targets: Sequence[str]) -> "FittedLaws":
        return FittedLaws({target: self.fits[target] for target in targets})

    def separable(self, setting: Setting) -> bool:
        return all(_form(fit, setting, _optimum(fit)) is not None for fit in self.fits.values())

    def rows(self, count: int, seed: int) -> dict[str, tuple[ScalingLaw, Array]] | None:
        if count and not all(len(fit.draws) for fit in self.fits.values()):
            return None
        return {t: (fit.law, self._rows(t, count, seed) if count else _optimum(fit)) for t, fit in self.fits.items()}

    def point(self, setting: Setting) -> dict[str, SeparableForm]:
        return {target: _separable(fit, setting, _optimum(fit)) for target, fit in self.fits.items()}

    def drawn(self, setting: Setting, count: int, seed: int) -> dict[str, SeparableForm] | None:
        if not all(len(fit.draws) for fit in self.fits.values()) or not count:
            return None
        return {t: _separable(fit, setting, self._rows(t, count, seed)) for t, fit in self.fits.items()}

    def _rows(self, target: str, count: int, seed: int) -> Array:
        """Draws of one target in an order of its own, so that those of different targets are independent."""
        draws = self.fits[target].draws
        rng = np.random.default_rng([seed, *target.encode()])
        return draws[rng.permutation(len(draws))[np.arange(count) % len(draws)]]

    def alone(self, setting: Setting, count: int, seed: int) -> dict[str, SeparableForm]:
        return {
            t: _separable(fit, replace(setting, languages=(t,)), self._rows(t, count, seed) if count else _optimum(fit))
            for t, fit in self.fits.items()
        }

    def expected(self, setting: Setting, allocation: Allocation, seed: int) -> Expectations:
        """The predictions of `Fit.predict`; many fits with equally many draws are evaluated together."""
        counts = {len(fit.draws) for fit in self.fits.values()}
        if len(self.fits) < _MANY or len(counts) > 1 or counts == {0} or not self.separable(setting):
            predicted = {target: fit.predict(allocation) for target, fit in self.fits.items()}
            return {target: (float(p.loss), float(p.low), float(p.high)) for target, p in predicted.items()}
        # Every draw counts once, each target's in an order of its own, which quantiles do not see.
        value, drawn = problem_cache.losses_of_allocation(self, setting, allocation, counts.pop(), seed)
        noise = np.array([fit.residual_sd or 0.0 for fit in self.fits.values()])
        spread = (np.log(drawn)[:, None, :] + NORMAL[None, :, None] * noise).reshape(-1, len(self.fits))
        ends = np.exp(central(spread, rule="outer"))
        return dict(zip(self.fits, zip(value.tolist(), *ends.tolist(), strict=True), strict=True))

    def extrapolation(self, allocation: Allocation) -> str | None:
        """The sentences of the fits as one, without repetition."""
        prefix = "extrapolated: "
        parts: dict[str, list[str]] = {}
        for target, fit in self.fits.items():
            sentence = fit.extrapolation(allocation)
            for part in sentence.removeprefix(prefix).split(", ") if sentence else ():
                parts.setdefault(part, []).append(target)
        everyone = len(self.fits)
        phrases = [part if len(who) == everyone else f"{part} for {' and '.join(who)}" for part, who in parts.items()]
        return f"{prefix}{', '.join(phrases)}" if phrases else None

    def notes(self, setting: Setting, allocation: Allocation) -> tuple[str, ...]:
        notes = []
        without = [code for code in setting.languages if code not in setting.unique_tokens]
        if without:
            notes.append(
                f"no unique tokens are given for {', '.join(without)}; the plan assumes that their text never repeats"
            )
        if setting.covariates:
            fixed = ", ".join(f"{name} {value:g}" for name, value in setting.covariates.items())
            notes.append(f"planned for {fixed}, which the plan does not choose")
        blind = {f.law.name for f in self.fits.values() if not f.law.repetition}
        if blind and setting.unique_tokens:
            notes.append(f"{', '.join(sorted(blind))} has no term for repetition: repeated tokens count as new")
        if any(fit.law.target is None for fit in self.fits.values()) and len(setting.languages) > 1:
            notes.append("a law without a target does not distinguish languages, so tokens are spread evenly")
        if math.isfinite(float(allocation.params)) and not all(len(fit.draws) for fit in self.fits.values()):
            notes.append("the fits have no draws, so their uncertainty is unknown")
        return tuple(notes)


def _separable(fit: Fit, setting: Setting, values: Array) -> SeparableForm:
    """The fit's separable form at rows of parameters.

    Raises:
        InputError: the law has none.
    """
    form = _form(fit, setting, values)
    if form is None:
        raise InputError(
            f"law {fit.law.name!r} has no separable form E + A / N^alpha + B / D_eff^beta, which is needed here",
            hint="`plan` takes laws of any form; for several models fit adaptive-transfer or multilinguality",
        )
    return form


def _optimum(fit: Fit) -> Array:
    """The fit's own parameters as one row."""
    return np.array([[fit.parameters[name] for name in fit.law.parameter_names]])


def _one_vocabulary(fits: Mapping[str, Fit]) -> None:
    """Refuse fits whose runs were tokenised differently: their tokens, U and losses do not compare."""
    named = {target: fit.provenance.get("tokenizer") for target, fit in fits.items()}
    known = {target: name for target, name in named.items() if name}
    if len(set(known.values())) > 1:
        one, other = next(iter(known)), next(t for t, name in known.items() if name != next(iter(known.values())))
        raise InputError(
            f"fits of different vocabularies: {one!r} was fitted under tokenizer {str(known[one])[:12]}, {other!r} "
            f"under {str(known[other])[:12]}",
            hint="a plan counts tokens of one vocabulary; fit runs that share their tokenizer, or plan one at a time",
        )


def _form(fit: Fit, setting: Setting, values: Array) -> SeparableForm | None:
    """One fit's law at rows of parameters, shape (R, parameters), in the order of `law.parameter_names`; None where the
    law has no separable form."""
    p = dict(zip(fit.law.parameter_names, np.asarray(values, np.float64).T, strict=True))
    return fit.law.separable(p, setting.languages, setting.unique_tokens)
