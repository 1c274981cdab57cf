"""plan(): the model size and the tokens of each language that minimise the weighted mean loss for a compute budget.

minimise  sum_t w_t L_t(N, D)   over N and D_l >= 0   subject to   6 N sum_l D_l <= C
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from babelscale import languages as language_table
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.planning.problem import Problem
from babelscale.planning.result import Expected, Plan
from babelscale.planning.solve import Solution, solve
from babelscale.planning.terms import Setting, languages_of, of_fit, problem

REPLANS = 40
# N and D_tot are searched between this and whatever the other leaves of the budget.
SMALLEST = 1e3


def plan(
    fits: Fit | Sequence[Fit] | None = None,
    *,
    compute: float,
    languages: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    unique_tokens: Mapping[str, float] | None = None,
    published: bool = False,
    seed: int = 0,
) -> Plan:
    """How big, how long, which languages, for a compute budget.

    Args:
        fits: one fit, or several, one a target language; left out with `published=True`.
        compute: C in FLOPs, spent as 6 N D_tot.
        languages: codes that may be trained on, helpers included (default: targets and the sources of their laws).
            With `published=True` these are the targets.
        weights: by target, only their ratios count (default: equal).
        unique_tokens: U by language, in tokens of the fits' tokenizer. For those left out the U of the fitted runs
            stands in, or with `published=True` the table of languages; where that is unknown too, nothing repeats.
        published: plan from the ATLAS study's printed figures, without any fit.
        seed: of the draws that are planned anew, and of random starts where transfer is negative.

    Raises:
        InputError: a bad budget, language, weight or U; a target without a fit; no allocation inside the laws' domain.
    """
    if not (isinstance(compute, int | float) and math.isfinite(compute) and compute > 0):
        raise InputError(f"compute {compute} is not a positive number of FLOPs", hint="for example compute=1e21")
    if compute < 6 * SMALLEST**2:
        raise InputError(
            f"compute {compute:.3g} FLOPs trains nothing", hint=f"the least that is planned is {6 * SMALLEST**2:.0e}"
        )
    if published:
        from babelscale.planning.from_published import plan_published

        if fits is not None:
            raise InputError("both fits and published=True", hint="plan from your fits or from the printed figures")
        return plan_published(compute, languages, weights, unique_tokens, seed)
    given = _fits(fits)
    setting = _setting(given, compute, languages, weights, unique_tokens)
    unweighted = [target for target in given if setting.weights[target] == 0]
    given = {target: fit for target, fit in given.items() if target not in unweighted}
    point = problem({t: of_fit(f, setting, _point(f)) for t, f in given.items()}, setting)
    best = best_of(point, seed)
    rows = _rows(given, seed)
    replanned = None
    if rows is not None:
        drawn = {t: of_fit(f, setting, f.draws[rows[t]]) for t, f in given.items()}
        replanned = solve(problem(drawn, setting), size_box(setting.compute), seed=seed, start=best)
    notes = [f"{target} has no weight, so its loss is not planned for" for target in unweighted]
    return _assemble(given, setting, point, best, replanned, notes)


def size_box(compute: float) -> tuple[float, float]:
    """The N searched: at least a thousand parameters and a thousand tokens."""
    return SMALLEST, compute / 6 / SMALLEST


def best_of(point: Problem, seed: int) -> Solution:
    """The solution of a problem of one row.

    Raises:
        InputError: no start lies inside the domain of every law.
    """
    found = solve(point, size_box(point.compute), seed=seed)
    if found is None:
        raise InputError(
            "no allocation found at which every target's effective tokens are positive: transfer between these "
            "languages is too negative",
            hint="plan fewer languages together, or leave out those that interfere",
        )
    return found


def check_weights(weights: Mapping[str, float] | None, targets: Sequence[str]) -> dict[str, float]:
    """Weights by target that sum to one."""
    if weights is None:
        return dict.fromkeys(targets, 1 / len(targets))
    for code, weight in weights.items():
        if code not in targets:
            raise InputError(f"weight of {code!r}, which is no target", hint=f"targets: {', '.join(targets)}")
        if not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"weight of {code!r} is {weight}", hint="weights are not negative")
    total = math.fsum(weights.values())
    if not total > 0:
        raise InputError("the weights sum to 0", hint="give at least one target a positive weight")
    return {code: weights.get(code, 0.0) / total for code in targets}


def check_unique(unique_tokens: Mapping[str, float] | None, codes: Sequence[str]) -> dict[str, float]:
    """U by language, checked; codes that are not planned are refused."""
    for code, U in (unique_tokens or {}).items():
        if code not in codes:
            raise InputError(
                f"unique tokens of {code!r}, which is not planned", hint=f"planned languages: {', '.join(codes)}"
            )
        if not U > 0:
            raise InputError(
                f"unique tokens of {code!r} are {U}", hint="leave a language without text out of the languages"
            )
    return dict(unique_tokens or {})


def _fits(fits: Fit | Sequence[Fit] | None) -> dict[str, Fit]:
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
    return named


def _setting(
    fits: Mapping[str, Fit],
    compute: float,
    languages: Sequence[str] | None,
    weights: Mapping[str, float] | None,
    unique_tokens: Mapping[str, float] | None,
) -> Setting:
    codes = tuple(dict.fromkeys(languages)) if languages else languages_of(list(fits.values()))
    language_table.check(codes, "languages")
    for target in fits:
        if target not in codes:
            raise InputError(
                f"target {target!r} is not among the languages to train on", hint=f"add it: {', '.join(codes)}"
            )
    known = {
        code: max(U)
        for code in codes
        if (U := [f.unique_tokens[code] for f in fits.values() if code in f.unique_tokens])
    }
    unique = known | check_unique(unique_tokens, codes)
    return Setting(codes, check_weights(weights, list(fits)), unique, float(compute))


def _point(fit: Fit) -> NDArray[np.float64]:
    return np.array([[fit.parameters[name] for name in fit.law.parameter_names]])


def _rows(fits: Mapping[str, Fit], seed: int) -> dict[str, NDArray[np.intp]] | None:
    """Which draws of each fit are planned anew; those of different targets are independent."""
    if not all(len(fit.draws) for fit in fits.values()):
        return None
    rng = np.random.default_rng(seed)
    return {
        target: rng.permutation(len(fit.draws))[np.arange(REPLANS) % len(fit.draws)] for target, fit in fits.items()
    }


def intervals(
    solution: Solution | None, best: Solution, compute: float, codes: Sequence[str]
) -> tuple[tuple[float, float] | None, dict[str, tuple[float, float]]]:
    """90 % intervals of N and of D by language over replanned draws; the plan itself always lies inside."""
    if solution is None:
        return None, {}
    kept = np.isfinite(solution.objective)

    def spread(values: NDArray[np.float64], value: float) -> tuple[float, float]:
        low, high = np.quantile(values[kept], [0.05, 0.95])
        return float(min(low, value)), float(max(high, value))

    D = solution.shares * (compute / 6 / solution.params)[:, None]
    own = best.shares[0] * compute / 6 / best.params[0]
    tokens = {code: spread(D[:, k], float(own[k])) for k, code in enumerate(codes)}
    return spread(solution.params, float(best.params[0])), tokens


def _assemble(
    fits: Mapping[str, Fit],
    setting: Setting,
    point: Problem,
    best: Solution,
    replanned: Solution | None,
    notes: Sequence[str],
) -> Plan:
    N = float(best.params[0])
    D = best.shares[0] * setting.compute / 6 / N
    tokens = {code: float(value) for code, value in zip(setting.languages, D, strict=True)}
    unique = {code: setting.unique_tokens.get(code, math.inf) for code in setting.languages}
    allocation = Allocation(N, tokens, unique)
    losses, beyond = {}, {}
    for target, fit in fits.items():
        said = fit.predict(allocation)
        losses[target] = Expected(float(said.loss), float(said.low), float(said.high))
        if said.extrapolation:
            beyond[target] = said.extrapolation
    params_interval, tokens_interval = intervals(replanned, best, setting.compute, setting.languages)
    return Plan(
        params=N,
        tokens=tokens,
        unique_tokens=unique,
        losses=losses,
        weights={target: setting.weights[target] for target in fits},
        params_interval=params_interval,
        tokens_interval=tokens_interval,
        objective=float(sum(setting.weights[t] * each.loss for t, each in losses.items())),
        compute=setting.compute,
        metric=next(iter(fits.values())).metric or "the unit of the fits",
        extrapolation=_extrapolation(beyond, len(fits)),
        notes=(*notes, *_notes(fits, setting, point, best, replanned)),
        source=f"{len(fits)} fitted law{'s' if len(fits) > 1 else ''} "
        f"({', '.join(sorted({fit.law.name for fit in fits.values()}))})",
    )


def _extrapolation(sentences: Mapping[str, str], targets: int) -> str | None:
    """The fits' sentences as one; what holds for every target is said once."""
    prefix = "extrapolated: "
    parts: dict[str, list[str]] = {}
    for target, sentence in sentences.items():
        for part in sentence.removeprefix(prefix).split(", "):
            parts.setdefault(part, []).append(target)
    said = [part if len(who) == targets else f"{part} for {' and '.join(who)}" for part, who in parts.items()]
    return f"{prefix}{', '.join(said)}" if said else None


def _notes(
    fits: Mapping[str, Fit], setting: Setting, point: Problem, best: Solution, replanned: Solution | None
) -> tuple[str, ...]:
    notes = []
    if not point.convex:
        notes.append(
            "some transfer is negative (or a share has its own price), so the problem is not convex: searched from "
            f"{best.starts} starts, and a better allocation cannot be ruled out"
        )
    if best.at_edge.any():
        notes.append("the best size lies at the edge of what was searched: the law does not bound it")
    without = [code for code in setting.languages if code not in setting.unique_tokens]
    if without:
        notes.append(f"no unique tokens given for {', '.join(without)}: planned as if they never repeat")
    blind = {f.law.name for f in fits.values()} - {"adaptive-transfer", "data-constrained"}
    if blind and setting.unique_tokens:
        notes.append(f"{', '.join(sorted(blind))} knows no repetition: repeated tokens count as new")
    if any(fit.law.target is None for fit in fits.values()) and len(setting.languages) > 1:
        notes.append("a law without a target does not tell languages apart: tokens are spread evenly")
    if replanned is None:
        notes.append("the fits hold no draws, so nothing is known of the uncertainty")
    else:
        kept = int(np.isfinite(replanned.objective).sum())
        notes.append(f"intervals of size and tokens: {kept} draws of the fits, each planned anew")
        if kept < len(replanned.objective):
            notes.append(f"{len(replanned.objective) - kept} draws left the laws' domain and are not in them")
    return tuple(notes)
