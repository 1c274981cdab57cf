"""The page Adding languages: what more languages cost, which to add first, and the design that checks it."""

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field
from starlette.responses import Response

from babelscale.errors import InputError
from babelscale.fitting import Fit
from babelscale.planning import (
    CandidateLanguage,
    Checkpoint,
    Decision,
    Expansion,
    ModelPartition,
    decide,
    expand,
    partition_models,
    rank_candidates,
)
from babelscale.published.transfer import ROUNDING, transfer_matrix
from babelscale.reporting.report import adding_languages
from babelscale.reporting.report.document import Section
from babelscale.transfer import TransferMatrix
from babelscale.web.app_state import PUBLISHED, SERVED, AppState
from babelscale.web.endpoints import Endpoint, Page
from babelscale.web.pages.transfer import TransferQuery, report_of
from babelscale.web.query import Bound, ByLanguage, Codes, Positive, Query
from babelscale.web.sections import sections

# More languages than there are corpora of; and what the curve of multipliers is drawn at.
MOST_LANGUAGES, _POINTS = 5000, 17
_MOST_MODELS, _MOST_CODES = 12, 60
# Of the smaller model of a design, where no tokens are given.
_TOKENS_A_PARAMETER = 20.0


class ExpandQuery(Query):
    """What `babelscale.expand` takes, and where its law comes from."""

    languages: Annotated[str, Field(description="how many there are, or which: 4, or sw,en", examples=["4"])]
    to: Annotated[int, Field(ge=1, le=MOST_LANGUAGES, description="how many there shall be", examples=["16"])]
    params: Annotated[Positive | None, Field(description="N of the model to expand; goes with tokens")] = None
    tokens: Annotated[Positive | None, Field(description="its tokens, all languages together; goes with params")] = None
    source: Annotated[str, Field(description="published, served, or the name of an uploaded table")] = PUBLISHED
    fitted: Annotated[str, Field(description="with runs: the target whose law is taken, as code")] = ""
    matrix: Annotated[str, Field(description="published or served: whose transfer scores rank additions")] = PUBLISHED
    candidates: Annotated[Codes, Field(description="languages that may be added, as codes (default: all)")] = ()


class DesignQuery(ExpandQuery):
    """An expansion as a design that checks it."""

    design: Annotated[str, Field(description="quickstart, laptop, single-gpu, atlas-2025, or served")] = "quickstart"
    size: Annotated[str, Field(description="a size of the design to start from (default: its first)")] = ""
    seeds: Annotated[int, Field(ge=2, le=50, description="runs of each side, 2 or more")] = 4


class ModularQuery(Query):
    """What `babelscale.partition_models` takes."""

    languages: Annotated[
        Codes,
        Field(
            description="codes with commas between them", min_length=2, max_length=_MOST_CODES, examples=["sw,hi,en"]
        ),
    ]
    compute: Annotated[Positive, Field(description="FLOPs of all models together", examples=["1e21"])]
    source: Annotated[str, Field(description="published, served, or the name of an uploaded table")] = ""
    weights: Annotated[ByLanguage | None, Field(description="how much each loss matters, such as sw=2,yo=1")] = None
    unique: Annotated[ByLanguage | None, Field(description="unique tokens by language, such as sw=7.7e8")] = None
    models: Annotated[int | None, Field(ge=2, le=_MOST_MODELS, description="how many models")] = None
    memory: Annotated[Bound | Literal["same"] | None, Field(description="bytes when served, or same")] = None
    pivot: Annotated[str, Field(description="the language of a translation-style split, as code")] = ""
    split: Annotated[Literal["pairs", "hub"] | None, Field(description="pairs or hub; goes with pivot")] = None
    draws: Annotated[int, Field(ge=0, le=400, description="draws of the laws, 0 to 400")] = 200


class DecideQuery(Query):
    """What `babelscale.decide` takes."""

    params: Annotated[Positive | None, Field(description="parameters (N), such as 2e9", examples=["2e9"])] = None
    tokens: Annotated[Positive | None, Field(description="new training tokens, or give compute")] = None
    compute: Annotated[Positive | None, Field(description="the same budget in FLOPs", examples=["1e21"])] = None
    language: Annotated[str, Field(description="code of the language")] = ""
    source: Annotated[str, Field(description="published, served, or the name of an uploaded table")] = ""
    checkpoint_params: Annotated[Positive | None, Field(description="parameters of a checkpoint of your own")] = None
    checkpoint_tokens: Annotated[ByLanguage | None, Field(description="its tokens by language: sw=1e9,en=1e11")] = None
    charge: Annotated[bool, Field(description="true or false: starting over may spend its compute too")] = False
    mixture: Annotated[ByLanguage | None, Field(description="shares of the new tokens, such as sw=9,en=1")] = None


def _have(query: ExpandQuery) -> tuple[int, list[str]]:
    """How many languages there are, and which where they are named."""
    text = query.languages
    if text.lstrip("+-").isdigit():
        count = int(text)
        if not 1 <= count <= MOST_LANGUAGES:
            raise InputError(f"languages: {text}", hint=f"a count from 1 to {MOST_LANGUAGES}, or codes such as sw,en")
        return count, []
    codes = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not codes:
        raise InputError(f"languages: {text!r}", hint="a count such as 4, or codes such as sw,en")
    return len(codes), codes


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
    return rank_candidates(scores, codes, list(query.candidates) or None, rounding=rounding)


def expansion_of(state: AppState, query: ExpandQuery) -> Expansion:
    """The expansion of a question."""
    count, codes = _have(query)
    fit, _ = _law(state, query)
    first = _first(state, query, codes)
    return expand(count, query.to, params=query.params, tokens=query.tokens, fit=fit, first=first)


def _expand(state: AppState, query: ExpandQuery) -> dict[str, Any]:
    return expansion_of(state, query).to_dict()


def _view(state: AppState, query: ExpandQuery) -> dict[str, Any]:
    count, codes = _have(query)
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
    count, codes = _have(query)
    before = codes or list(design.languages[:count])
    ranked = [one.language for one in _first(state, query, codes)] if codes else []
    more = [code for code in (*ranked, *design.languages) if code in design.languages and code not in before]
    after = [*before, *dict.fromkeys(more)][: query.to]
    if len(after) < query.to:
        raise InputError(
            f"to: {design.name} has {len(design.languages)} languages, not {query.to}", hint="ask for fewer, or another"
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
    """One model or several, for a question."""
    if isinstance(query.memory, dict):
        raise InputError("memory: numbers by language", hint="bytes of all models together, or same")
    given: dict[str, Any] = {
        "compute": query.compute,
        "languages": query.languages,
        "weights": query.weights,
        "draws": query.draws,
        "unique_tokens": query.unique,
        "models": query.models,
        "memory": True if query.memory == "same" else query.memory,
        "pivot": query.pivot or None,
        "split": query.split,
    }
    source = query.source or state.default_source
    if source == PUBLISHED:
        return partition_models(**given, published=True)
    fits = state.fits(source, query.languages)
    key = " ".join([query.key, *(fit.fingerprint for fit in fits)])
    return state.jobs.result(key, lambda progress: partition_models(fits, **given))


def _modular(state: AppState, query: ModularQuery) -> dict[str, Any]:
    return modular_of(state, query).to_dict()


def decision_of(state: AppState, query: DecideQuery) -> Decision:
    """Pretrain or finetune, for a question: by runs, by the law of a checkpoint, or by the printed crossover."""
    given: dict[str, Any] = {
        "tokens": query.tokens,
        "compute": query.compute,
        "language": query.language or None,
        "charge": query.charge,
    }
    source = query.source or state.default_source
    seen, size = query.checkpoint_tokens, query.checkpoint_params
    if (seen is None) != (size is None):
        raise InputError("checkpoint_params, checkpoint_tokens: one of them alone", hint="give both or neither")
    checkpoint = Checkpoint(size, seen) if seen is not None and size is not None else None
    if source == PUBLISHED:
        return decide(query.params, **given, checkpoint=checkpoint, mixture=query.mixture)
    if checkpoint is not None:
        fits = state.fits(source, [query.language] if query.language else ())
        return decide(query.params, **given, fit=fits[0], checkpoint=checkpoint, mixture=query.mixture)
    runs = state.runs(source)
    key = f"{query.key} {runs.hash}"
    return state.jobs.result(key, lambda progress: decide(query.params, **given, runs=runs))


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
            "A design that trains both ends of an expansion, with seeds enough to see a rise of the loss.",
        ),
        Endpoint("/api/modular", ModularQuery, _modular, "One model for all languages, or several.", heavy=True),
        Endpoint("/api/decide", DecideQuery, _decide, "Continue a checkpoint or start over."),
        Endpoint("/view/adding-languages", ExpandQuery, _view, "What the page Adding languages shows."),
    ),
)
