"""plan(): the model size and the tokens of each language with the least objective.

    minimise  Phi(L_1(N, D), ..., L_T(N, D))   over N and D_l >= 0,   6 N sum_l D_l + 2 N D_served <= C,  within bounds

Phi is the weighted mean, the worst language's loss or the worst regret; C may be what is sought instead (see `budget`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ParamSpec, Protocol, TypeVar

import numpy as np

from babelscale import languages as language_table
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.formatting import count
from babelscale.options import takes
from babelscale.planning import baselines
from babelscale.planning.budget import Budget, check_feasible, optimum, solve_budget, solve_draws
from babelscale.planning.fitted_laws import FittedLaws
from babelscale.planning.optimiser import problem_cache
from babelscale.planning.optimiser.certificate import Certificate
from babelscale.planning.optimiser.setting import LawSource, Setting
from babelscale.planning.optimiser.solver import PlanProblem, SolvedProblem, improved
from babelscale.planning.plan_intervals import PlanIntervals
from babelscale.planning.published_laws import PublishedLaws
from babelscale.planning.request import PlanRequest, check_unique, check_weights
from babelscale.planning.result import Expected, Plan
from babelscale.tabular.codes import members_beside_macro

# Draws where each costs more: worst cases, many languages and laws without a separable form.
_FEW = 40
Fits = Fit | Sequence[Fit] | None
P = ParamSpec("P")
Answer = TypeVar("Answer")
Answered = TypeVar("Answered", covariant=True)


class TakesFits(Protocol[P, Answered]):
    """The type of a function of fits and of the options of a request."""

    def __call__(self, fits: Fits = None, *args: P.args, **kwargs: P.kwargs) -> Answered: ...


def takes_fits(model: Callable[P, Any]) -> Callable[[Callable[[Fits, Any], Answer]], TakesFits[P, Answer]]:
    """Turn a function of (fits, request) into one of fits and the request's options."""
    return takes(model)  # pyright: ignore[reportReturnType]  # `takes` keeps parameters that stand before the request


def solve_plan(fits: Fits, request: PlanRequest) -> Plan:
    """How large a model, how many tokens, of which languages.

    Args:
        fits: one fit, or several, one a target language; omit them with `published=True`.
        OPTIONS

    Raises:
        InputError: a wrong budget, language, weight, U or bound; a target without a fit; no allocation inside the laws'
            domain or within the constraints.
    """
    if request.published:
        if fits is not None:
            raise InputError("both fits and published=True", hint="plan from your fits or from the published figures")
        return _with_helpers(PublishedLaws.of(request.languages, request.helpers, request.unique_tokens), request)
    if request.helpers:
        raise InputError("helpers are for published=True", hint="name them among the languages")
    return _Planner.of(FittedLaws.of(fits), request).plan()


plan = takes_fits(PlanRequest)(solve_plan)


def _with_helpers(laws: PublishedLaws, request: PlanRequest) -> Plan:
    """The plan with helpers added one by one, best first, as long as each lowers the objective (or the compute)."""
    weights = check_weights(request.weights, laws.targets)
    if 0 in weights.values():
        code = next(code for code in laws.targets if weights[code] == 0)
        raise InputError(f"weight of {code!r} is 0", hint="omit this language, or name it among the helpers")
    gains = laws.helper_gains(weights)
    ranked = sorted((code for code in gains if gains[code] > 0), key=lambda code: (-gains[code], code))

    def planned(count: int, **changed: object) -> Plan:
        chosen = replace(laws, helpers=tuple(ranked[:count]))
        unused = set(laws.helpers) - set(chosen.helpers)
        unique = {code: U for code, U in (request.unique_tokens or {}).items() if code not in unused}
        changed |= {"languages": None, "unique_tokens": unique}
        return _Planner.of(chosen, request.model_copy(update=changed)).plan()

    def cost(count: int) -> float:
        made = planned(count, draws=request.draws if request.robust else 0, baselines=False)
        return made.compute if request.loss is not None else made.objective

    best = min(range(len(ranked) + 1), key=cost) if ranked else 0
    notes = []
    if none := [code for code in laws.helpers if code not in ranked]:
        notes.append(f"{', '.join(none)}: not used, as no published score for these targets is above 0")
    if ranked[best:]:
        notes.append(f"{', '.join(ranked[best:])}: not used, as the capacity they cost is worth more than their tokens")
    if ranked:
        notes.append(f"helpers were tried best first, {len(ranked) + 1} sets; other sets were not tried")
    made = planned(best)
    return replace(made, notes=(*made.notes, *notes))


@dataclass(frozen=True)
class _Planner:
    """One request to plan from laws: the budget and the setting are checked; `idle` targets have no weight."""

    laws: LawSource
    request: PlanRequest
    budget: Budget
    setting: Setting
    idle: tuple[str, ...]

    @classmethod
    def of(cls, laws: LawSource, request: PlanRequest) -> "_Planner":
        budget = Budget.of(request)
        codes = language_table.check(request.languages or laws.languages(), "languages")
        for target in laws.targets:
            if target not in codes:
                raise InputError(
                    f"target {target!r} is not among the languages to train on", hint=f"add it: {', '.join(codes)}"
                )
        weights = check_weights(request.weights, laws.targets)
        idle = tuple(target for target in laws.targets if weights[target] == 0)
        laws = laws.only([target for target in laws.targets if target not in idle])
        unique = laws.unique(codes) | check_unique(request.unique_tokens, codes)
        setting = Setting(
            codes,
            weights,
            unique,
            budget.compute or 1e20,
            budget.served,
            *request.by_language(codes, unique),
            laws.covariates(request.covariates or {}),
        )
        check_feasible(setting, budget)
        return cls(laws, request, budget, setting, idle)

    def plan(self) -> Plan:
        laws, request, budget, setting = self.laws, self.request, self.budget, self.setting
        point, drawn = problem_cache.at_optimum(laws, setting), self._drawn()
        problem = self._objective(point, drawn)
        found = solve_budget(problem, budget, request.seed)
        if found is None or not np.isfinite(found.solution.objective[0]):
            raise self._no_allocation()
        solution, certificate = improved(found.problem, found.solution, self._box(found))
        if request.loss is not None and solution is not found.solution:
            found = solve_budget(problem, budget, request.seed, solution) or found
            solution, certificate = improved(found.problem, found.solution, self._box(found))
        found = replace(found, solution=solution)
        replanned = self._replanned(drawn, found)
        setting = replace(setting, compute=float(found.problem.compute[0]))
        simpler = self._baselines(setting, point, drawn, found) if request.baselines else ()
        return self._result(setting, found, certificate, replanned, simpler)

    def _drawn(self) -> PlanProblem | None:
        request, laws = self.request, self.laws
        costly = request.objective != "mean" or (request.robust is not None and len(laws.targets) > 20)
        count = min(request.draws, _FEW) if costly or not laws.separable(self.setting) else request.draws
        return problem_cache.at_draws(laws, self.setting, count, request.seed)

    def _objective(self, point: PlanProblem, drawn: PlanProblem | None) -> PlanProblem:
        """The problem to solve: the fit's own or its draws' as scenarios, with the requested objective."""
        request, budget = self.request, self.budget
        if request.objective == "regret":
            if budget.loss is not None or budget.compute is None:
                raise InputError('objective="regret" with a budget that is not compute', hint="give compute")
            point = self._with_regrets(replace(point, compute=np.array([budget.compute])))
        if request.robust is None:
            return self._of_losses(point)
        if drawn is None:
            raise InputError("a robust plan needs draws of the fits", hint="fit with resamples, or omit robust")
        if request.objective == "regret":
            drawn = replace(drawn, least_loss=np.repeat(point.least_loss, drawn.draws, 0))
        return drawn.over_draws(request.robust, request.tail, request.objective)

    def _with_regrets(self, point: PlanProblem) -> PlanProblem:
        """The problem with each target's least loss, under the same budget, as its offset."""
        T = point.weights.shape[1]
        alone = replace(point.at(np.zeros(T, np.intp)), weights=np.eye(T))
        found = optimum(alone, self.budget, seed=self.request.seed)
        if found is None or not np.isfinite(found.objective).all():
            raise InputError("the least loss of a target alone was not found", hint='plan with objective="worst"')
        return replace(point, least_loss=found.objective.reshape(1, T))

    def _of_losses(self, problem: PlanProblem) -> PlanProblem:
        return problem if self.request.objective == "mean" else problem.for_worst_target()

    def _box(self, found: SolvedProblem) -> tuple[float, float] | None:
        """The sizes that were searched; None where the size is given or comes from a ladder."""
        budget = self.budget
        return budget.box(float(found.problem.compute[0])) if budget.free and not budget.rungs else None

    def _replanned(self, drawn: PlanProblem | None, found: SolvedProblem) -> SolvedProblem | None:
        """Every draw planned again; None for a robust plan, which is one plan for all of them."""
        if drawn is None or self.request.robust is not None:
            return None
        many = replace(drawn, least_loss=np.broadcast_to(found.problem.least_loss, drawn.weights.shape))
        return solve_draws(self._of_losses(many), self.budget, found, self.request.seed)

    def _baselines(
        self, setting: Setting, point: PlanProblem, drawn: PlanProblem | None, found: SolvedProblem
    ) -> tuple[baselines.Baseline, ...]:
        # With regrets the offsets are the least losses; scenarios repeat them.
        T = point.weights.shape[1]
        offset = found.problem.least_loss[:, :T] if self.request.objective == "regret" else point.least_loss

        def judged(one: PlanProblem) -> PlanProblem:
            """A problem under the requested objective, without robustness."""
            at = np.full(one.draws, setting.compute)
            return self._of_losses(replace(one, compute=at, least_loss=np.broadcast_to(offset, one.weights.shape)))

        best = found.solution
        reference = baselines.Reference(
            best.shares[0],
            float(best.n[0]),
            judged(point),
            None if drawn is None else judged(drawn),
            self.budget,
            setting,
        )
        return baselines.compare(reference, self.laws, 0 if drawn is None else drawn.draws, self.request.seed)

    def _no_allocation(self) -> InputError:
        if self.setting.constraints.any:
            return InputError(
                "no allocation within the constraints lies in the domain of every law",
                hint="loosen the bounds on the languages that interfere",
            )
        return InputError(
            "no allocation found at which every target's effective tokens are positive: transfer between these "
            "languages is too negative",
            hint="plan fewer languages together, or omit those that interfere",
        )

    def _result(
        self,
        setting: Setting,
        found: SolvedProblem,
        certificate: Certificate,
        replanned: SolvedProblem | None,
        simpler: tuple[baselines.Baseline, ...],
    ) -> Plan:
        laws, request, best, codes = self.laws, self.request, found.solution, setting.languages
        N, X = float(best.params[0]), float(found.problem.budget(best.n)[0][0])
        tokens = dict(zip(codes, (best.shares[0][: len(codes)] * X).tolist(), strict=True))
        unique = {code: setting.unique_tokens.get(code, math.inf) for code in codes}
        allocation = Allocation(N, tokens, unique, setting.covariates)
        losses = {t: Expected(*each) for t, each in laws.expected(setting, allocation, request.seed).items()}
        spent = 6 * N * sum(tokens.values()) + 2 * N * self.budget.served
        compute = setting.compute if spent > 0.999 * setting.compute else spent
        spread = PlanIntervals.of(replanned, found, codes, self.budget, compute)
        value = float(best.objective[0])
        if request.objective == "mean" and request.robust is None:
            value = float(sum(setting.weights[t] * each.loss for t, each in losses.items()))
        idle = [f"{target} has no weight, so its loss is not planned for" for target in self.idle]
        return Plan(
            params=N,
            tokens=tokens,
            unique_tokens=unique,
            losses=losses,
            weights={target: setting.weights[target] for target in laws.targets},
            params_interval=spread.params,
            tokens_interval=spread.tokens,
            shares_interval=spread.shares,
            compute_interval=spread.compute if request.compute is None else None,
            objective=value,
            compute=compute,
            metric=laws.metric,
            extrapolation=laws.extrapolation(allocation),
            notes=(
                *idle,
                *_same_text(unique),
                str(certificate),
                *self._notes(found, replanned, spent),
                *laws.notes(setting, allocation),
            ),
            source=laws.source,
            estimated=laws.estimated(codes),
            pooled=laws.pooled,
            certificate=certificate,
            baselines=simpler,
            given=self.budget.kind,
            goal=request.objective if request.robust is None else f"{request.objective}, robust {request.robust}",
            inference_tokens=self.budget.served,
            covariates=setting.covariates,
        )

    def _notes(self, found: SolvedProblem, replanned: SolvedProblem | None, spent: float) -> list[str]:
        request, notes, C = self.request, [], float(found.problem.compute[0])
        if found.solution.at_edge.any():
            full = found.solution.params[0] > 0.99 * self.budget.high
            notes.append(
                "the size fills the memory: more memory would lower the loss"
                if full
                else "the best size lies at the edge of what was searched: the law does not bound it"
            )
        if spent < 0.999 * C:
            notes.append(f"the bounds leave {100 * (1 - spent / C):.3g} % of the compute unspent")
        if request.robust is not None:
            tail = f", over the worst {100 * request.tail:.3g} % of them" if request.robust == "cvar" else ""
            notes.append(f"planned for the mean over draws of the laws{tail}; the objective is that mean")
        if replanned is not None:
            inside = np.isfinite(replanned.solution.objective)
            notes.append(f"intervals of size and tokens: {inside.sum()} draws of the laws, each planned again")
            if not inside.all():
                notes.append(f"{(~inside).sum()} draws left the domain of the laws; the intervals do not cover them")
            if (lost := int(np.isinf(replanned.problem.compute).sum())) > 0:
                notes.append(f"in {lost} draws no compute reaches the loss; they count as unlimited compute")
        return notes


def _same_text(unique_tokens: Mapping[str, float]) -> list[str]:
    """Sentences on languages that are planned beside the macro-language which they are part of."""
    sentences = []
    for macro, member in members_beside_macro(unique_tokens):
        whole, part = (unique_tokens[code] for code in (macro, member))
        which = (
            f"the {count(part)} unique tokens of {member} are" if math.isfinite(part) else f"the text of {member} is"
        )
        within = f"the {count(whole)} of {macro}" if math.isfinite(whole) else f"that of {macro}"
        sentences.append(
            f"{member} is part of {macro}: {which} among {within}, the same text, and it counts twice here"
        )
    return sentences
