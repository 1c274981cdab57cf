"""plan(): the model size and the tokens of each language that serve the languages that matter best.

    minimise  Phi(L_1(N, D), ..., L_T(N, D))   over N and D_l >= 0,   6 N sum_l D_l + 2 N D_served <= C,  within bounds

Phi is the weighted mean, the worst language's loss or the worst regret; C may be what is sought instead (see `budget`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from babelscale import languages as language_table
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.planning import baselines, bounds
from babelscale.planning.budget import BYTES_PER_PARAM, Budget, Found, optimum, solve_budget, solve_draws
from babelscale.planning.law_source import FittedLaws, LawSource
from babelscale.planning.optimiser import problem_cache, scenarios
from babelscale.planning.optimiser.certificate import Certificate
from babelscale.planning.optimiser.scenarios import Objective, Robust
from babelscale.planning.optimiser.setting import Setting
from babelscale.planning.optimiser.solver import PlanProblem, improved
from babelscale.planning.plan_intervals import PlanIntervals
from babelscale.planning.result import Expected, Plan

Array = NDArray[np.float64]
DRAWS = 200
# Worst cases, many languages and laws without a separable form cost more a draw.
_FEW = 40


def plan(
    fits: Fit | Sequence[Fit] | None = None,
    *,
    compute: float | None = None,
    params: float | None = None,
    tokens: float | None = None,
    loss: float | None = None,
    languages: Sequence[str] | None = None,
    helpers: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    unique_tokens: Mapping[str, float] | None = None,
    covariates: Mapping[str, float] | None = None,
    objective: Objective = "mean",
    robust: Robust | None = None,
    tail: float = 0.1,
    min_tokens: Mapping[str, float] | float | None = None,
    max_tokens: Mapping[str, float] | float | None = None,
    max_epochs: Mapping[str, float] | float | None = None,
    min_share: Mapping[str, float] | float | None = None,
    max_share: Mapping[str, float] | float | None = None,
    inference_tokens: float = 0.0,
    memory: float | None = None,
    bytes_per_param: float = BYTES_PER_PARAM,
    ladder: bool | Sequence[float] = False,
    published: bool = False,
    draws: int = DRAWS,
    baselines: bool = True,
    seed: int = 0,
) -> Plan:
    """How big, how long, which languages.

    Args:
        fits: one fit, or several, one a target language; left out with `published=True`.
        compute: C in FLOPs, spent as 6 N D_tot (and 2 N for each of `inference_tokens`).
        params, tokens, loss: N, D_tot and the objective that must be reached. Give compute, or one of these, or two:
            loss asks for the least compute; params or tokens alone for the compute at which they are the best choice.
        languages: codes that may be trained on, helpers included (default: targets and the sources of their laws).
            With `published=True` these are the targets.
        helpers: with `published=True`, languages that may be trained on for the targets' sake.
        weights: by target, only their ratios count (default: equal).
        unique_tokens: U by language, in tokens of the fits' tokenizer. For those left out the U of the fitted runs
            stands in, or with `published=True` the table of languages; where that is unknown too, nothing repeats.
        covariates: numbers by name that the laws read beside N, D and U. The plan holds them; one for which all fitted
            runs have one value may be left out.
        objective: "mean" (weighted), "worst" (the largest loss of any target) or "regret" (the largest difference to
            the least loss that a target could have with the whole budget).
        robust: plan for the fits' draws instead of their optimum: the "mean" over draws, or "cvar", the mean over the
            worst `tail` of them.
        min_tokens, max_tokens, max_epochs, min_share, max_share: bounds by language, or one for every language.
        inference_tokens: tokens that will be served, charged at 2 N FLOPs each.
        memory: bytes that N x `bytes_per_param` may fill; 22 bytes a parameter hold weights, optimiser, gradients and
            half-width copies in training. 2 is a model served at half width.
        ladder: sizes to choose from; True for the study's twenty.
        published: plan from the ATLAS study's printed figures, without any fit.
        draws: of the fits, each planned anew for the intervals.
        baselines: whether simpler mixtures are compared.
        seed: of the draws that are planned anew, and of random starts where transfer is negative.

    Raises:
        InputError: a bad budget, language, weight, U or bound; a target without a fit; no allocation inside the laws'
            domain or within the constraints.
    """
    rungs = ladder if isinstance(ladder, bool) else tuple(ladder)
    budget = Budget.of(compute, params, tokens, loss, inference_tokens, memory, bytes_per_param, rungs)
    if objective not in ("mean", "worst", "regret") or robust not in (None, "mean", "cvar"):
        raise InputError(
            f"objective {objective!r} with robust {robust!r}",
            hint="objective is mean, worst or regret; robust is mean or cvar",
        )
    if draws < 0:
        raise InputError(f"draws is {draws}", hint="0 or more; 200 is usual")
    limits = bounds.Asked(min_tokens, max_tokens, max_epochs, min_share, max_share)
    want = Wish(objective, robust, tail, draws, baselines, seed, dict(covariates or {}))
    if published:
        from babelscale.planning.published_laws import PublishedLaws

        if fits is not None:
            raise InputError("both fits and published=True", hint="plan from your fits or from the printed figures")
        basis = PublishedLaws.of(languages, helpers, unique_tokens)
        return _with_helpers(basis, budget, limits, want, weights, unique_tokens)
    if helpers:
        raise InputError("helpers are for published=True", hint="name them among the languages")
    return _planned(FittedLaws.of(fits), budget, limits, want, languages, weights, unique_tokens)


@dataclass(frozen=True)
class Wish:
    """How the answer is judged and told."""

    objective: Objective = "mean"
    robust: Robust | None = None
    tail: float = 0.1
    draws: int = DRAWS
    baselines: bool = True
    seed: int = 0
    covariates: Mapping[str, float] = field(default_factory=dict)


def _with_helpers(
    basis,
    budget: Budget,
    limits: "bounds.Asked",
    want: Wish,
    weights: Mapping[str, float] | None,
    unique_tokens: Mapping[str, float] | None,
) -> Plan:
    """Published plans price every language of the model: helpers join one by one, best first, while that helps."""
    shares = check_weights(weights, basis.targets)
    if 0 in shares.values():
        code = next(code for code in basis.targets if shares[code] == 0)
        raise InputError(f"weight of {code!r} is 0", hint="leave it out, or name it among the helpers")
    gains = {
        h: sum(w * float(basis._worth(t).get(h, np.zeros(1))[0]) for t, w in shares.items()) for h in basis.helpers
    }
    ranked = sorted((h for h in gains if gains[h] > 0), key=lambda h: (-gains[h], h))
    none = [h for h in basis.helpers if h not in ranked]
    quick = replace(want, draws=want.draws if want.robust else 0, baselines=False)
    tried = [replace(basis, helpers=tuple(ranked[:k])) for k in range(len(ranked) + 1)]

    def cost(one) -> float:
        given = {code: U for code, U in (unique_tokens or {}).items() if code in one.languages()}
        made = _planned(one, budget, limits, quick, None, weights, given)
        return made.compute if budget.loss is not None else made.objective

    best = min(tried, key=cost) if len(tried) > 1 else tried[0]
    extra = dict(unique_tokens or {})
    for code in basis.helpers:
        if code not in best.helpers:
            extra.pop(code, None)
    made = _planned(best, budget, limits, want, None, weights, extra)
    said = [f"{', '.join(none)}: no printed score above 0 for these targets, so left out"] if none else []
    if left := [h for h in ranked if h not in best.helpers]:
        said.append(f"{', '.join(left)}: would cost more capacity than their tokens are worth, so left out")
    if len(tried) > 1:
        said.append(f"helpers were tried best first, {len(tried)} sets; other sets were not")
    return replace(made, notes=(*made.notes, *said))


def _planned(
    basis: LawSource,
    budget: Budget,
    limits: "bounds.Asked",
    want: Wish,
    languages: Sequence[str] | None,
    weights: Mapping[str, float] | None,
    unique_tokens: Mapping[str, float] | None,
) -> Plan:
    codes = tuple(dict.fromkeys(languages)) if languages else basis.languages()
    language_table.check(codes, "languages")
    for target in basis.targets:
        if target not in codes:
            raise InputError(
                f"target {target!r} is not among the languages to train on", hint=f"add it: {', '.join(codes)}"
            )
    shares = check_weights(weights, basis.targets)
    idle = [target for target in basis.targets if shares[target] == 0]
    basis = basis.only([target for target in basis.targets if target not in idle])
    unique = basis.unique(codes) | check_unique(unique_tokens, codes)
    tokens, parts = limits.read(codes, unique)
    start = budget.compute or 1e20
    setting = Setting(codes, shares, unique, start, budget.served, tokens, parts, basis.covariates(want.covariates))
    bounds.check(setting, budget)
    point = problem_cache.at_optimum(basis, setting)
    drawn = _drawn(basis, setting, want)
    meant = _meant(point, drawn, budget, want)
    found = solve_budget(meant, budget, want.seed)
    if found is None or not np.isfinite(found.solution.objective[0]):
        raise _nowhere(setting, point, budget)
    C = float(found.problem.compute[0])
    solution, certificate = improved(found.problem, found.solution, _searched(budget, found.problem))
    if budget.loss is not None and solution is not found.solution:
        found = solve_budget(meant, budget, want.seed, solution) or found
        solution, certificate = improved(found.problem, found.solution, _searched(budget, found.problem))
    found = replace(found, solution=solution)
    again = _again(drawn, budget, found, want)
    setting = replace(setting, compute=C)
    point = replace(point, compute=np.array([C]), least_loss=_offset(found.problem, point, want))
    simpler = ()
    if want.baselines:
        drawn_here = None if drawn is None else replace(drawn, compute=np.full(drawn.draws, C))
        judged = [None if one is None else _judged(one, point.least_loss, want) for one in (point, drawn_here)]
        assert judged[0] is not None
        simpler = baselines.compare(
            baselines.Reference(
                found.solution.shares[0], float(found.solution.n[0]), judged[0], judged[1], budget, setting
            ),
            basis,
            0 if drawn is None else drawn.draws,
            want.seed,
        )
    notes = [f"{target} has no weight, so its loss is not planned for" for target in idle]
    return _assemble(basis, setting, budget, want, found, certificate, again, simpler, notes)


def _drawn(basis: LawSource, setting: Setting, want: Wish) -> PlanProblem | None:
    count = want.draws
    costly = want.objective != "mean" or (want.robust is not None and len(basis.targets) > 20)
    if costly or not basis.separable(setting):
        count = min(count, _FEW)
    return problem_cache.at_draws(basis, setting, count, want.seed)


def _meant(point: PlanProblem, drawn: PlanProblem | None, budget: Budget, want: Wish) -> PlanProblem:
    """The problem that the wish is about: the fit's own, or its draws' as scenarios; and what its objective is."""
    if want.objective == "regret":
        if budget.loss is not None or budget.compute is None:
            raise InputError('objective="regret" with a budget that is not compute', hint="give compute")
        point = _with_regrets(replace(point, compute=np.array([budget.compute])), budget, want.seed)
    if want.robust is None:
        return point if want.objective == "mean" else scenarios.worst(point)
    if drawn is None:
        raise InputError("a robust plan needs draws of the fits", hint="fit with resamples, or leave out robust")
    if want.objective == "regret":
        drawn = replace(drawn, least_loss=np.repeat(point.least_loss, drawn.draws, 0))
    return scenarios.scenarios(drawn, want.robust, want.tail, want.objective)


def _with_regrets(problem: PlanProblem, budget: Budget, seed: int) -> PlanProblem:
    """The problem with each target's least loss as its offset, shape (R, T).

    Raises:
        InputError: a target cannot be trained within the constraints.
    """
    R, T = problem.weights.shape
    rows, targets = np.repeat(np.arange(R), T), np.tile(np.arange(T), R)
    alone = replace(problem.at(rows), weights=np.eye(T)[targets])
    found = optimum(alone, budget, seed=seed)
    if found is None or not np.isfinite(found.objective).all():
        raise InputError("the least loss of a target alone was not found", hint='plan with objective="worst"')
    return replace(problem, least_loss=found.objective.reshape(R, T))


def _offset(solved: PlanProblem, point: PlanProblem, want: Wish) -> Array:
    """Each target's least loss, where regrets are planned."""
    return solved.least_loss[:, : point.weights.shape[1]] if want.objective == "regret" else point.least_loss


def _judged(one: PlanProblem, offset: Array, want: Wish) -> PlanProblem:
    """The fit's or the draws' problem under the wish's objective, without its robustness."""
    one = replace(one, least_loss=np.broadcast_to(offset, one.weights.shape))
    return one if want.objective == "mean" else scenarios.worst(one)


def _searched(budget: Budget, solved: PlanProblem) -> tuple[float, float] | None:
    return budget.box(float(solved.compute[0])) if budget.free and not budget.rungs else None


def _again(drawn: PlanProblem | None, budget: Budget, found: Found, want: Wish) -> Found | None:
    """Every draw planned anew; None for a robust plan, which is one plan for all of them."""
    if drawn is None or want.robust is not None:
        return None
    offset = found.problem.least_loss
    many = replace(drawn, least_loss=np.broadcast_to(offset, drawn.weights.shape))
    return solve_draws(many if want.objective == "mean" else scenarios.worst(many), budget, found, want.seed)


def _nowhere(setting: Setting, point: PlanProblem, budget: Budget) -> InputError:
    if setting.constraints.any:
        return InputError(
            "no allocation within the constraints lies in the domain of every law",
            hint="loosen the bounds on the languages that interfere",
        )
    return InputError(
        "no allocation found at which every target's effective tokens are positive: transfer between these "
        "languages is too negative",
        hint="plan fewer languages together, or leave out those that interfere",
    )


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


def _assemble(
    basis: LawSource,
    setting: Setting,
    budget: Budget,
    want: Wish,
    found: Found,
    certificate: Certificate,
    again: Found | None,
    simpler: tuple[baselines.Baseline, ...],
    notes: Sequence[str],
) -> Plan:
    best = found.solution
    N, X = float(best.params[0]), float(found.problem.budget(best.n)[0][0])
    D = best.shares[0][: len(setting.languages)] * X
    tokens = {code: float(value) for code, value in zip(setting.languages, D, strict=True)}
    unique = {code: setting.unique_tokens.get(code, math.inf) for code in setting.languages}
    allocation = Allocation(N, tokens, unique, setting.covariates)
    losses = {t: Expected(*each) for t, each in basis.expected(setting, allocation, want.seed).items()}
    spread = PlanIntervals.of(again, found, setting.languages)
    spent = 6 * N * sum(tokens.values()) + 2 * N * budget.served
    value = float(best.objective[0])
    if want.objective == "mean" and want.robust is None:
        value = float(sum(setting.weights[t] * each.loss for t, each in losses.items()))
    return Plan(
        params=N,
        tokens=tokens,
        unique_tokens=unique,
        losses=losses,
        weights={target: setting.weights[target] for target in basis.targets},
        params_interval=spread.params,
        tokens_interval=spread.tokens,
        shares_interval=spread.shares,
        compute_interval=spread.compute if budget.compute is None else None,
        objective=value,
        compute=float(found.problem.compute[0]) if spent > 0.999 * found.problem.compute[0] else spent,
        metric=basis.metric,
        extrapolation=basis.extrapolation(allocation),
        notes=(*notes, str(certificate), *_notes(budget, want, found, again, spent), *basis.notes(setting, allocation)),
        source=basis.source,
        estimated=getattr(basis, "estimated", lambda codes: ())(setting.languages),
        pooled=basis.pooled,
        certificate=certificate,
        baselines=simpler,
        given=budget.kind,
        goal=want.objective if want.robust is None else f"{want.objective}, robust {want.robust}",
        inference_tokens=budget.served,
        covariates=setting.covariates,
    )


def _notes(budget: Budget, want: Wish, found: Found, again: Found | None, spent: float) -> list[str]:
    notes = []
    if found.solution.at_edge.any():
        if budget.high < math.inf and found.solution.params[0] > 0.99 * budget.high:
            notes.append("the size fills the memory: more memory would lower the loss")
        else:
            notes.append("the best size lies at the edge of what was searched: the law does not bound it")
    C = float(found.problem.compute[0])
    if spent < 0.999 * C:
        notes.append(f"the bounds leave {100 * (1 - spent / C):.3g} % of the compute unspent")
    if want.robust is not None:
        tail = f", over the worst {100 * want.tail:.3g} % of them" if want.robust == "cvar" else ""
        notes.append(f"planned for the mean over draws of the laws{tail}; the objective is that mean")
    if again is not None:
        kept = int(np.isfinite(again.solution.objective).sum())
        notes.append(f"intervals of size and tokens: {kept} draws of the laws, each planned anew")
        if kept < len(again.solution.objective):
            notes.append(f"{len(again.solution.objective) - kept} draws left the laws' domain and are not in them")
        if (lost := int(np.isinf(again.problem.compute).sum())) > 0:
            notes.append(f"in {lost} draws no compute reaches the loss; they count as unlimited compute")
    return notes
