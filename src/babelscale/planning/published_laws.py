"""The published figures as the laws of a plan, for users without runs of their own.

For target t among K languages of one model, each trained on its own tokens:

    L_t = E_t + A_t K^phi / N^alpha_t + B_t K^psi / D_eff,t^alpha_t,   D_eff,t = S(D_t; U_t) + sum_h tau_th S(D_h; U_h)

with E, A, B, alpha of Table C.1 (multilingual vocabulary, monolingual training), phi and psi of the multilinguality
law, and lambda = 1 / R*_D of Muennighoff et al. (2023). Helpers h, where named, count with tau = BTS / (2 - BTS) of the
printed score where it is positive (`docs/laws.md`). The study never combined these figures; taking K^phi and K^psi to
scale each language's own two terms is an assumption of this planner, and the plan says so. Table C.1 stands for K = 1.
A language without a row gets the pooled one: the mean of E, log A, log B and alpha over the rows.
"""

import functools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from babelscale import languages as language_table
from babelscale import published
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.intervals import central
from babelscale.laws.separable import Group, SeparableForm
from babelscale.planning.optimiser import problem_cache
from babelscale.planning.optimiser.setting import Expectations, Setting
from babelscale.published.coefficients import ROUNDING, LawRow, rounded

Array = NDArray[np.float64]

# The least any run of the study consumed: 30,000 steps of 256 sequences of 2,048 tokens (derived), and the most.
FEWEST_TOKENS, MOST_TOKENS = 30_000 * 256 * 2048, 1e12
# After R*_D repeats the slope of S has fallen to exp(-1) = 0.37.
MANY_EPOCHS = 1 + published.SATURATION_EPOCHS
# Scores are printed with one decimal.
SCORE_ROUNDING = 0.05
_DRAWS = 200


@functools.cache
def _rows() -> Mapping[str, LawRow]:
    return {row.language: row for row in published.table_c1("multilingual", "monolingual")}


@dataclass(frozen=True)
class PublishedLaws:
    """The study's figures for some targets; `helpers` may be trained on for their sake.

    `given` are the languages whose U the user gave; that of the others comes from the table of languages.
    """

    targets: tuple[str, ...]
    helpers: tuple[str, ...] = ()
    given: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        languages: Sequence[str] | None,
        helpers: Sequence[str] | None = None,
        given: Mapping[str, float] | None = None,
    ) -> "PublishedLaws":
        """Checked codes.

        Raises:
            InputError: no language is named, or a code is unknown or stands for no language.
        """
        codes = language_table.check(dict.fromkeys(languages or ()), "languages")
        if not codes:
            raise InputError("no languages to plan for", hint="for example languages=['sw', 'yo', 'ha']")
        more = language_table.check(dict.fromkeys(helpers or ()), "helpers")
        for code in (*codes, *more):
            if language_table.is_private(code):
                raise InputError(f"nothing is published about {code!r}", hint="plan it from fits of your own runs")
            whole = language_table.in_script_of(code)
            if whole is not None and code not in (given or ()):
                raise InputError(
                    f"the published figures have one entry for {whole} in all its scripts, and none for {code}",
                    hint=f"plan {whole}, or give the unique tokens of each script, such as --unique {code}=1e9",
                )
        return cls(codes, tuple(code for code in more if code not in codes), frozenset(given or ()))

    metric = published.LOSS_UNIT
    source = (
        "printed figures of the ATLAS study (arXiv 2510.22037, Table C.1 and the multilinguality law) and, for "
        "repetition, of Muennighoff et al. (2023)"
    )

    @property
    def pooled(self) -> tuple[str, ...]:
        return tuple(code for code in self.targets if code not in _rows())

    @property
    def key(self) -> Hashable:
        return ("published", self.targets, self.helpers)

    def languages(self) -> tuple[str, ...]:
        return (*self.targets, *self.helpers)

    def unique(self, codes: Sequence[str]) -> dict[str, float]:
        known = {code: language_table.lookup(code).unique_tokens for code in codes}
        return {code: U for code, U in known.items() if U is not None}

    def estimated(self, codes: Sequence[str]) -> tuple[str, ...]:
        table = language_table.table()
        return tuple(
            code
            for code in codes
            if code not in self.given
            and code in table
            and table[code].unique_tokens is not None
            and "estimated" in table[code].unique_tokens_source
        )

    def covariates(self, given: Mapping[str, float]) -> dict[str, float]:
        if given:
            raise InputError(f"no printed law reads the covariate {next(iter(given))!r}", hint="omit covariates")
        return {}

    def helper_gains(self, weights: Mapping[str, float]) -> dict[str, float]:
        """How many tokens of the targets one token of each helper replaces, by weight."""
        worth = {target: self._worth(target) for target in weights}
        none = np.zeros(1)
        return {h: sum(w * float(worth[t].get(h, none)[0]) for t, w in weights.items()) for h in self.helpers}

    def only(self, targets: Sequence[str]) -> "PublishedLaws":
        return replace(self, targets=tuple(targets))

    def separable(self, setting: Setting) -> bool:
        return True

    def rows(self, count: int, seed: int) -> None:
        return None

    def point(self, setting: Setting) -> dict[str, SeparableForm]:
        law = published.multilinguality()
        return {
            code: _form(code, _printed(code), setting, np.array([law.phi]), np.array([law.psi]), self._worth(code))
            for code in self.targets
        }

    def drawn(self, setting: Setting, count: int, seed: int) -> dict[str, SeparableForm] | None:
        """Draws within the rounding of the print; a pooled language takes one of the rows at random for each draw."""
        if not count:
            return None
        law = published.multilinguality()
        rng = np.random.default_rng(seed)
        phi = rounded(rng, law.phi, count, law.phi_rounding)
        psi = law.psi + rng.uniform(-law.phi_rounding, law.phi_rounding, count)
        table = np.array([_numbers(row) for row in _rows().values()])
        found, printed = {}, list(_rows())
        for code in self.targets:
            # A generator a language: its draws do not depend on which others are planned.
            own = np.random.default_rng([seed, *code.encode()])
            own_row = np.full(count, printed.index(code)) if code in printed else None
            picked = own.integers(len(printed), size=count) if own_row is None else own_row
            numbers = np.maximum(table[picked].T + own.uniform(-ROUNDING, ROUNDING, (4, count)), 0.0)
            worth = {
                helper: _tau(np.maximum(_score(code, helper) + own.uniform(-1, 1, count) * SCORE_ROUNDING, 0.0))
                for helper in self._worth(code)
            }
            found[code] = _form(code, numbers, setting, phi, psi, worth)
        return found

    def alone(self, setting: Setting, count: int, seed: int) -> dict[str, SeparableForm]:
        # The printed law of a language reads only the number of the others.
        own = replace(setting, languages=self.targets[:1])
        return self.drawn(own, count, seed) or self.point(own)

    def _worth(self, target: str) -> dict[str, Array]:
        """tau of each helper whose printed score for a target is positive."""
        scores = {helper: _score(target, helper) for helper in self.helpers}
        return {helper: _tau(np.array([score])) for helper, score in scores.items() if score > 0}

    def expected(self, setting: Setting, allocation: Allocation, seed: int) -> Expectations:
        value, drawn = problem_cache.losses_of_allocation(self, setting, allocation, _DRAWS, seed)
        ends = central(drawn, rule="nearest", including=value)
        return dict(zip(self.targets, zip(value.tolist(), *ends.tolist(), strict=True), strict=True))

    def extrapolation(self, allocation: Allocation) -> str | None:
        """How far a plan goes beyond the study's sizes and tokens."""
        return beyond(
            (float(allocation.params), *study_sizes(), "the study's {} parameters"),
            (float(allocation.total_tokens), FEWEST_TOKENS, MOST_TOKENS, "the study's {} tokens"),
        )

    def notes(self, setting: Setting, allocation: Allocation) -> tuple[str, ...]:
        codes, pooled, notes = setting.languages, self.pooled, []
        if pooled:
            notes.append(
                f"the study prints no law for {', '.join(pooled)}; a pooled law is used instead (mean over "
                f"{', '.join(_rows())}). Its interval covers the spread between these languages"
            )
        if len(pooled) < len(self.targets):
            notes.append("the interval of a language with a printed law covers only the rounding of the coefficients")
        notes.append("the study prints no uncertainty of its fits; no interval here covers it or the scatter of runs")
        if len(codes) > 1:
            notes.append(
                f"the cost of sharing one model among {len(codes)} languages comes from the study's K^phi and K^psi. "
                "It does not depend on which languages they are, and the study measured it with even sampling only"
            )
        estimated = self.estimated(codes)
        if estimated:
            notes.append(f"unique tokens of {', '.join(estimated)} are estimates from the sizes of web corpora")
        if unknown := [code for code in codes if code not in setting.unique_tokens]:
            notes.append(
                f"unique tokens of {', '.join(unknown)} are unknown; the plan assumes that their text never repeats"
            )
        tokens = {code: float(allocation.D(code)) for code in codes}
        if often := [c for c in codes if tokens[c] > MANY_EPOCHS * setting.unique_tokens.get(c, math.inf)]:
            notes.append(
                f"{', '.join(often)} are trained for more than {MANY_EPOCHS:.0f} epochs; a repeated token is then "
                "worth less than 0.37 of a new one"
            )
        if self.helpers:
            notes.append(
                "a helper's token is worth tau = BTS / (2 - BTS) of the target's, from the printed score at 2B "
                "parameters and 42B tokens where it is positive"
            )
        return (*notes, *_best_helpers(self.targets))


def study_sizes() -> tuple[float, float]:
    """The fewest and the most parameters of the study's models."""
    sizes = [float(scale.params) for scale in published.model_scales()]
    return sizes[0], sizes[-1]


def beyond(*ranges: tuple[float, float, float, str], tolerance: float = 1.0) -> str | None:
    """How far values lie outside their ranges, each (value, low, high, name of an end); None where all lie inside."""
    parts = []
    for value, low, high, end in ranges:
        if value > tolerance * high:
            parts.append(f"{value / high:.3g}x above {end.format('most')} ({high:.3g})")
        elif value < low / tolerance:
            parts.append(f"{low / value:.3g}x below {end.format('fewest')} ({low:.3g})")
    return f"extrapolated: {', '.join(parts)}" if parts else None


def _score(target: str, source: str) -> float:
    """The printed transfer score, 0 where there is none."""
    matrix = published.transfer_matrix()
    if target not in matrix.languages or source not in matrix.languages or target == source:
        return 0.0
    value = matrix.cell(target, source).value
    return value if math.isfinite(value) else 0.0


def _tau(score: Array) -> Array:
    """Worth of a source's token where nothing repeats and the loss sees data through D_eff only (docs/laws.md)."""
    return score / (2 - np.minimum(score, 1.2))


def _numbers(row: LawRow) -> tuple[float, float, float, float]:
    return row.E, row.log_A, row.log_B, row.alpha


def _printed(code: str) -> Array:
    """E, log A, log B and alpha of a language as printed, or their means over all languages; shape (4, 1)."""
    taken = [_rows()[code]] if code in _rows() else _rows().values()
    return np.array([[math.fsum(each) / len(taken)] for each in zip(*map(_numbers, taken), strict=True)])


def _form(
    code: str, numbers: Array, setting: Setting, phi: Array, psi: Array, helpers: Mapping[str, Array]
) -> SeparableForm:
    """The law of a target at rows of E, log A, log B and alpha, which is also beta; shape (4, R)."""
    E, log_A, log_B, alpha = numbers
    K, one = len(setting.languages), np.ones_like(E)
    worth: dict[Group, Array] = {frozenset([code]): one}
    worth |= {frozenset([helper]): tau for helper, tau in helpers.items() if helper in setting.languages}
    return SeparableForm(
        E=E,
        A=np.exp(log_A) * K**phi,
        alpha=alpha,
        B=np.exp(log_B) * K**psi,
        beta=alpha,
        gamma=0 * one,
        lam=one / published.SATURATION_EPOCHS,
        size_cap=np.full_like(one, np.inf),
        size_lam=0 * one,
        worth=worth,
    )


def _best_helpers(codes: Sequence[str]) -> list[str]:
    """Notes on the printed transfer scores of the best sources, which are not part of the plan's loss."""
    matrix = published.transfer_matrix()
    parts, absent = [], []
    for code in codes:
        if code in matrix.languages:
            best = ", ".join(f"{helper.source} {helper.value:+.1f}" for helper in matrix.helpers(code, 3))
            parts.append(f"{code} ({best})")
        else:
            absent.append(code)
    notes = [f"highest printed transfer scores at 2B (the losses do not use them): {'; '.join(parts)}"] if parts else []
    if absent:
        named = ", ".join(absent) if len(absent) <= 12 else f"{', '.join(absent[:12])} and {len(absent) - 12} more"
        notes.append(f"no printed transfer scores for {named}")
    return notes
