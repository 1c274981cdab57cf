"""The page Adding languages: what more languages cost, which to add first, and the design that checks it."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

import numpy as np
from pydantic import Field, field_validator, model_validator
from starlette.responses import Response

from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.options import option
from babelscale.planning import (
    CandidateLanguage,
    Checkpoint,
    Decision,
    Expansion,
    ModelPartition,
    expand,
    rank_candidates,
    solve_decision,
    solve_partition,
)
from babelscale.planning.request import CheckpointDecisionRequest, Counted, ExpansionRequest, PartitionRequest
from babelscale.published.transfer import ROUNDING, transfer_matrix
from babelscale.reporting.report import adding_languages
from babelscale.reporting.report.document import Section
from babelscale.transfer import TransferMatrix
from babelscale.web.app_state import PUBLISHED, SERVED, AppState
from babelscale.web.endpoints import Endpoint, Page
from babelscale.web.pages.transfer import TransferQuery, report_of
from babelscale.web.query import Query
from babelscale.web.sections import sections

# More languages than there are corpora of; and what the curve of multipliers is drawn at.
MOST_LANGUAGES, _POINTS = 5000, 17
_MOST_MODELS, _MOST_CODES, _MOST_DRAWS = 12, 60, 400
# Of the smaller model of a design, where no tokens are given.
_TOKENS_A_PARAMETER = 20.0


class ExpandQuery(Query, ExpansionRequest):
    """The options of an expansion, and where its law and its transfer scores come from."""

    languages: Annotated[
        Counted, option(..., "Number of languages now, or their codes: 4, or sw,en.", flag="languages", example="4")
    ]
    source: Annotated[str, Field(description="published, served, or the name of an uploaded table")] = PUBLISHED
    fitted: Annotated[str, Field(description="with runs: code of the target whose law is used")] = ""
    matrix: Annotated[
        str, Field(description="published or served: the transfer scores that rank the languages to add")
    ] = PUBLISHED

    @field_validator("languages", "to")
    @classmethod
    def _count(cls, value: int | Sequence[str]) -> int | Sequence[str]:
        if (value if isinstance(value, int) else len(value)) > MOST_LANGUAGES:
            raise ValueError(f"a count from 1 to {MOST_LANGUAGES}")
        return value


class DesignQuery(ExpandQuery):
    """An expansion as a design that checks it."""

    design: Annotated[str, Field(description="quickstart, laptop, single-gpu, atlas-2025, or served")] = "quickstart"
    size: Annotated[str, Field(description="a size of the design to start from (default: its first)")] = ""
    seeds: Annotated[int, Field(ge=2, le=50, description="seeds of each mixture, 2 or more")] = 4


class ModularQuery(Query, PartitionRequest):
    """The options of a partition, and where its laws come from."""

    source: Annotated[str, Field(description="published, served, or the name of an uploaded table")] = ""

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if len(self.languages or ()) < 2:
            raise InputError("languages: two or more are needed", hint="such as sw,hi,en")
        for name, value, most in (
            ("languages", len(self.languages or ()), _MOST_CODES),
            ("models", self.models or 0, _MOST_MODELS),
            ("draws", self.draws, _MOST_DRAWS),
        ):
            if value > most:
                raise InputError(f"{name}: {value}", hint=f"at most {most}")
        return self


class DecideQuery(Query, CheckpointDecisionRequest):
    """The options of a decision, and where its laws come from."""

    source: Annotated[str, Field(description="published, served, or the name of an uploaded table")] = ""


def _law(state: AppState, query: ExpandQuery) -> tuple[Fit | None, int | None]:
    """The fit to expand by, None for the printed exponents, and the most languages of its runs where they are known.

    Raises:
        InputError: the source has no multilinguality law, with the reason. JobPending: laws are being fitted.
    """
    if query.source == PUBLISHED:
        return None, None
    if query.source == SERVED and (saved := state.load_saved()):
        found = [fit for fit in saved if fit.law.prices_languages and query.fitted in ("", fit.target)]
        if not found:
            raise InputError(
                f"source: no fit of the {adding_languages.LAW} law is served here",
                hint=f"`babelscale fit RUNS --law {adding_languages.LAW} --target sw --save fits/sw.json` saves one",
            )
        return found[0], None
    return adding_languages.own_fit(state.analysis(query.source), query.fitted or None)


def _first(state: AppState, query: ExpandQuery, codes: list[str]) -> tuple[CandidateLanguage, ...]:
    if not codes:
        return ()
    if query.matrix == PUBLISHED:
        scores: TransferMatrix = transfer_matrix()
    else:
        scores = report_of(state, TransferQuery(source=query.matrix)).matrix
    rounding = ROUNDING if query.matrix == PUBLISHED else 0.0
    return rank_candidates(scores, codes, query.candidates, rounding=rounding)


def expansion_of(state: AppState, query: ExpandQuery) -> Expansion:
    """The expansion of a question."""
    count, codes = query.count, list(query.codes)
    fit, _ = _law(state, query)
    first = _first(state, query, codes)
    return expand(count, query.to, params=query.params, tokens=query.tokens, fit=fit, first=first)


def _expand(state: AppState, query: ExpandQuery) -> dict[str, Any]:
    return expansion_of(state, query).to_dict()


def _view(state: AppState, query: ExpandQuery) -> dict[str, Any]:
    count, codes = query.count, list(query.codes)
    fit, most = _law(state, query)
    given: dict[str, Any] = {"params": query.params, "tokens": query.tokens, "fit": fit}
    ends = [adding_languages.frontier_to(count, to, **given) for to in _ends(count, query.to)]
    curve = [expand(count, to, **given) for to in _curve(count, query.to)]
    parts: list[Section] = [adding_languages.priced(ends, curve, most=most)]
    if codes:
        parts.append(adding_languages.added(_first(state, query, codes)))
    return sections(parts)


def _ends(count: int, to: int) -> list[int]:
    """Now, two steps on the way, and what is asked for: the frontiers to draw."""
    steps = {round(count * (to / count) ** share) for share in (0.0, 1 / 3, 2 / 3)}
    return [*sorted(steps - {to}, reverse=to < count), to]


def _curve(count: int, to: int) -> list[int]:
    """Numbers of languages along the curve of multipliers, as far as asked for and at least fourfold."""
    low, high = sorted((count, to))
    ends = np.geomspace(max(1, low), max(high, 4 * count), _POINTS)
    return sorted({round(float(each)) for each in ends} | {count, to})


def _design(state: AppState, query: DesignQuery) -> Response:
    """The design that trains both ends of an expansion, from one of the designs of this package or the served study's.

    Raises:
        InputError: the laboratory is not installed, or the design has too few languages.
    """
    try:
        from babelscale.reporting.design.verification import verification
        from babelscale.study import Study, built_in, load
    except ImportError as error:
        raise InputError(
            f"design: the laboratory is not installed here ({error.name} is missing)",
            hint="pip install 'babelscale[lab]'",
        ) from None
    known = list(built_in())
    if query.design == SERVED and state.has_runs:
        design = Study.open(state.place(SERVED)).design
    elif query.design in known:
        design = load(query.design)
    else:
        raise InputError(f"design: {query.design!r}", hint=f"known: {', '.join(known)}")
    count, codes = query.count, list(query.codes)
    before = codes or list(design.languages[:count])
    ranked = [one.language for one in _first(state, query, codes)] if codes else []
    more = [code for code in (*ranked, *design.languages) if code in design.languages and code not in before]
    after = [*before, *dict.fromkeys(more)][: query.to]
    if len(after) < query.to:
        raise InputError(
            f"to: {design.name} has {len(design.languages)} languages, not {query.to}",
            hint="use fewer languages, or another design",
        )
    size = query.size or next(iter(design.sizes))
    if size not in design.sizes:
        raise InputError(f"size: {size!r}", hint=f"sizes of {design.name}: {', '.join(design.sizes)}")
    tokens = query.tokens or _TOKENS_A_PARAMETER * design.shape(size).params
    fit, _ = _law(state, query)
    text = verification(design, before, after, size, tokens, fit=fit, seeds=query.seeds)
    disposition = 'attachment; filename="verification.toml"'
    return Response(text, media_type="application/toml", headers={"content-disposition": disposition})


def modular_of(state: AppState, query: ModularQuery) -> ModelPartition:
    """One model or several, for a query."""
    source = query.source or state.default_source
    if source == PUBLISHED:
        return solve_partition(None, None, query.model_copy(update={"published": True}))
    fits = state.fits(source, query.languages or ())
    key = " ".join([query.key, *(fit.fingerprint for fit in fits)])
    return state.jobs.result(key, lambda progress: solve_partition(fits, None, query))


def _modular(state: AppState, query: ModularQuery) -> dict[str, Any]:
    return modular_of(state, query).to_dict()


def decision_of(state: AppState, query: DecideQuery) -> Decision:
    """Pretrain or finetune, for a query: by runs, by the law of a checkpoint, or by the published crossover."""
    source = query.source or state.default_source
    if source == PUBLISHED:
        return solve_decision(query)
    if Checkpoint.of(query) is not None:
        fits = state.fits(source, [query.language] if query.language else ())
        return solve_decision(query, fit=fits[0])
    runs = state.runs(source)
    return state.jobs.result(f"{query.key} {runs.hash}", lambda progress: solve_decision(query, runs))


def _decide(state: AppState, query: DecideQuery) -> dict[str, Any]:
    return decision_of(state, query).to_dict()


PAGE = Page(
    "adding-languages",
    "Adding languages",
    "What more languages cost, and which to add first.",
    (
        Endpoint("/api/expand", ExpandQuery, _expand, "From K to more languages at equal loss, with intervals."),
        Endpoint(
            "/api/expand.toml",
            DesignQuery,
            _design,
            "A design that trains the smaller and the larger mixture of an expansion, with enough seeds to "
            "detect a rise of the loss.",
        ),
        Endpoint("/api/modular", ModularQuery, _modular, "One model for all languages, or several.", heavy=True),
        Endpoint("/api/decide", DecideQuery, _decide, "Continue a checkpoint or train from scratch."),
        Endpoint("/view/adding-languages", ExpandQuery, _view, "What the page Adding languages shows."),
    ),
)
