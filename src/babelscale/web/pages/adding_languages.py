"""The page Adding languages: the cost of more languages, which to add first, and a design that verifies the cost."""

from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator
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
from babelscale.web.query import Query, Source
from babelscale.web.responses import download, sections

# The largest number of languages; the number of points on the curve of multipliers.
MOST_LANGUAGES, _POINTS = 5000, 17
# Tokens per parameter of the smaller model of a design, if the query has no tokens.
_TOKENS_PER_PARAMETER = 20.0


class ExpandQuery(Query, ExpansionRequest):
    """The options of an expansion, and the sources of its law and its transfer scores."""

    languages: Annotated[
        Counted, option(..., "Number of languages now, or their codes: 4, or sw,en.", flag="languages", example="4")
    ]
    source: Source = PUBLISHED
    fitted: Annotated[str, Field(description="code of the target whose law is used, for a source with runs")] = ""
    matrix: Annotated[
        str, Field(description="published or served: the source of the transfer scores that rank the languages to add")
    ] = PUBLISHED

    limits: ClassVar = {"languages": MOST_LANGUAGES, "to": MOST_LANGUAGES}


class DesignQuery(ExpandQuery):
    """A design that verifies an expansion."""

    design: Annotated[
        str, Field(description="the design to start from: quickstart, laptop, single-gpu, atlas-2025, or served")
    ] = "quickstart"
    size: Annotated[str, Field(description="a size of this design (default: its first)")] = ""
    seeds: Annotated[int, Field(ge=2, le=50, description="number of seeds of each mixture")] = 4


class ModularQuery(Query, PartitionRequest):
    """The options of a partition, and the source of its laws."""

    source: Source = ""

    limits: ClassVar = {"languages": 60, "models": 12, "draws": 400}

    @model_validator(mode="after")
    def _several(self) -> Self:
        if len(self.languages or ()) < 2:
            raise InputError("languages: two or more are needed", hint="for example sw,hi,en")
        return self


class DecideQuery(Query, CheckpointDecisionRequest):
    """The options of a decision, and the source of its laws or runs."""

    source: Source = ""


def _law(state: AppState, query: ExpandQuery) -> tuple[Fit | None, int | None]:
    """The fit of an expansion (None for published exponents), and the largest number of languages in its runs.

    Raises:
        InputError: the source has no multilinguality law. JobPending: laws are being fitted.
    """
    if query.source == PUBLISHED:
        return None, None
    if query.source == SERVED and (saved := state.load_saved()):
        fits = [fit for fit in saved if fit.law.prices_languages and query.fitted in ("", fit.target)]
        if not fits:
            raise InputError(
                f"source: the server has no fit of the {adding_languages.LAW} law",
                hint=f"run `babelscale fit RUNS --law {adding_languages.LAW} --target sw --save fits/sw.json`",
            )
        return fits[0], None
    return adding_languages.own_fit(state.analysis(query.source), query.fitted or None)


def _ranked(state: AppState, query: ExpandQuery, codes: list[str]) -> tuple[CandidateLanguage, ...]:
    if not codes:
        return ()
    if query.matrix == PUBLISHED:
        scores: TransferMatrix = transfer_matrix()
    else:
        scores = report_of(state, TransferQuery(source=query.matrix)).matrix
    rounding = ROUNDING if query.matrix == PUBLISHED else 0.0
    return rank_candidates(scores, codes, query.candidates, rounding=rounding)


def expansion_of(state: AppState, query: ExpandQuery) -> Expansion:
    """The expansion of a query."""
    count, codes = query.count, list(query.codes)
    fit, _ = _law(state, query)
    first = _ranked(state, query, codes)
    return expand(count, query.to, params=query.params, tokens=query.tokens, fit=fit, first=first)


def _view(state: AppState, query: ExpandQuery) -> dict[str, Any]:
    count, codes = query.count, list(query.codes)
    fit, most = _law(state, query)
    options: dict[str, Any] = {"params": query.params, "tokens": query.tokens, "fit": fit}
    ends = [adding_languages.frontier_to(count, to, **options) for to in _ends(count, query.to)]
    curve = [expand(count, to, **options) for to in _curve(count, query.to)]
    parts: list[Section] = [adding_languages.priced(ends, curve, most=most)]
    if codes:
        parts.append(adding_languages.added(_ranked(state, query, codes)))
    return sections(parts)


def _ends(count: int, to: int) -> list[int]:
    """The numbers of languages whose frontiers are drawn: the present, two in between, and the requested one."""
    steps = {round(count * (to / count) ** share) for share in (0.0, 1 / 3, 2 / 3)}
    return [*sorted(steps - {to}, reverse=to < count), to]


def _curve(count: int, to: int) -> list[int]:
    """Numbers of languages on the curve of multipliers, up to the requested number or four times the present."""
    low, high = sorted((count, to))
    ends = np.geomspace(max(1, low), max(high, 4 * count), _POINTS)
    return sorted({round(float(each)) for each in ends} | {count, to})


def _design(state: AppState, query: DesignQuery) -> Response:
    """The design that trains the smaller and the larger mixture of an expansion.

    Raises:
        InputError: the laboratory is not installed, or the design has too few languages.
    """
    try:
        from babelscale.reporting.design.verification import verification
        from babelscale.study import Study, built_in, load
    except ImportError as error:
        raise InputError(
            f"design: the laboratory is not installed on the server ({error.name} is missing)",
            hint="pip install 'babelscale[lab]'",
        ) from None
    known = list(built_in())
    if query.design == SERVED and state.has_runs:
        design = Study.open(state.place(SERVED)).design
    elif query.design in known:
        design = load(query.design)
    else:
        raise InputError(f"design: there is no design {query.design!r}", hint=f"designs: {', '.join(known)}")
    count, codes = query.count, list(query.codes)
    before = codes or list(design.languages[:count])
    ranked = [one.language for one in _ranked(state, query, codes)] if codes else []
    more = [code for code in (*ranked, *design.languages) if code in design.languages and code not in before]
    after = [*before, *dict.fromkeys(more)][: query.to]
    if len(after) < query.to:
        raise InputError(
            f"to: {design.name} has {len(design.languages)} languages, not {query.to}",
            hint="use fewer languages, or another design",
        )
    size = query.size or next(iter(design.sizes))
    if size not in design.sizes:
        raise InputError(
            f"size: {design.name} has no size {size!r}", hint=f"sizes of {design.name}: {', '.join(design.sizes)}"
        )
    tokens = query.tokens or _TOKENS_PER_PARAMETER * design.shape(size).params
    fit, _ = _law(state, query)
    text = verification(design, before, after, size, tokens, fit=fit, seeds=query.seeds)
    return download(text, "verification.toml", "application/toml")


def modular_of(state: AppState, query: ModularQuery) -> ModelPartition:
    """The partition of languages into models, for a query."""
    source = query.source or state.default_source
    if source == PUBLISHED:
        return solve_partition(None, None, query.model_copy(update={"published": True}))
    fits = state.fits(source, query.languages or ())
    key = " ".join([query.key, *(fit.fingerprint for fit in fits)])
    return state.jobs.result(key, lambda progress: solve_partition(fits, None, query))


def decision_of(state: AppState, query: DecideQuery) -> Decision:
    """Pretrain or finetune, for a query: from runs, the law of a checkpoint, or the published crossover."""
    source = query.source or state.default_source
    if source == PUBLISHED:
        return solve_decision(query)
    if Checkpoint.of(query) is not None:
        fits = state.fits(source, [query.language] if query.language else ())
        return solve_decision(query, fit=fits[0])
    runs = state.runs(source)
    return state.jobs.result(f"{query.key} {runs.hash}", lambda progress: solve_decision(query, runs))


PAGE = Page(
    "adding-languages",
    "Adding languages",
    "The cost of more languages at the same loss, and the languages to add first.",
    (
        Endpoint(
            "/api/expand",
            ExpandQuery,
            expansion_of,
            "The model size, tokens and compute that more languages need at the same loss, with intervals.",
        ),
        Endpoint(
            "/api/expand.toml",
            DesignQuery,
            _design,
            "A design that trains the smaller and the larger mixture of an expansion, with enough seeds to "
            "detect a rise of the loss.",
        ),
        Endpoint(
            "/api/modular",
            ModularQuery,
            modular_of,
            "The partition of the languages into one model or several.",
            heavy=True,
        ),
        Endpoint("/api/decide", DecideQuery, decision_of, "Whether to continue a checkpoint or to train from scratch."),
        Endpoint("/view/adding-languages", ExpandQuery, _view, "The content of the page Adding languages."),
    ),
)
