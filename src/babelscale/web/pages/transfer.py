"""The page Transfer: which languages help which, with intervals, predictions and tests."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from babelscale.charts import style
from babelscale.errors import InputError
from babelscale.options import Codes, Number, Positive
from babelscale.reporting.report import transfer_report, transfer_sections
from babelscale.reporting.report.document import Section
from babelscale.reporting.report.transfer_report import TransferReport
from babelscale.transfer import TransferMatrix
from babelscale.web.app_state import PUBLISHED, AppState, file_stamp
from babelscale.web.endpoints import Endpoint, Page
from babelscale.web.job_queue import Progress
from babelscale.web.query import Query, Source
from babelscale.web.responses import sections

# The most languages for which there is one sentence for each target.
_MOST_LINES = 12
_MOST_PREDICTED = 420


class TransferQuery(Query):
    """The options of `babelscale transfer`, and the source of the scores."""

    source: Source = ""
    predict: Annotated[
        Codes,
        Field(description="also predict scores for these languages, as codes: ig,rw,lb", max_length=_MOST_PREDICTED),
    ] = ()
    fill: Annotated[bool, Field(description="true or false: predict missing scores of the matrix")] = False
    tests: Annotated[bool, Field(description="true or false: run permutation tests of the scores")] = False
    mixtures: Annotated[
        bool, Field(description="true or false: also estimate scores from runs of several languages")
    ] = False
    along: Annotated[bool, Field(description="true or false: also show scores by model size and tokens")] = False
    anchor: Annotated[Number | None, Field(gt=0, le=1, description="share of the stable phase, from 0 to 1")] = None
    params: Annotated[Positive | None, Field(description="parameters of the runs to use, such as 1e6")] = None


class HelpersQuery(TransferQuery):
    """One target of a matrix."""

    target: Annotated[str, Field(description="a language of the matrix, as code", examples=["sw"])]


class TransferPageQuery(TransferQuery):
    """A matrix, and how the page shows it."""

    order: Annotated[
        Literal["branch", "script", "clusters", "gains", "helps", "given"],
        Field(description="order of languages: branch, script, clusters, gains, helps or given"),
    ] = "branch"
    cells: Annotated[
        Literal["score", "low", "high", "half"],
        Field(description="content of the cells: score, low, high or half (half the width of the interval)"),
    ] = "score"
    target: Annotated[str, Field(description="a language of the matrix, as code")] = ""
    only: Annotated[Codes, Field(description="show only these languages, as codes")] = ()
    hide: Annotated[Codes, Field(description="do not show these languages, as codes")] = ()


def report_of(state: AppState, query: TransferQuery) -> TransferReport:
    """The matrix of a query with its predictions and tests; a background thread computes what takes seconds.

    Raises:
        InputError: the source has no scores. JobPending: the scores are being computed.
    """
    source = query.source or state.default_score_source
    printed = source == PUBLISHED
    place = None if printed else state.score_path(source)
    predicted = query.predict if query.predict or query.fill else None

    def make(progress: Progress | None = None) -> TransferReport:
        return transfer_report.transfer_report(
            place,
            published=printed,
            mixtures=query.mixtures,
            tests=query.tests,
            predicted=predicted,
            moves=query.along,
            anchor=query.anchor,
            params=query.params,
            progress=progress,
        )

    if printed and predicted is None and not query.tests:
        return make()
    shared = TransferQuery.model_validate({name: getattr(query, name) for name in TransferQuery.model_fields})
    return state.jobs.result(f"{shared.key} {source} {'' if place is None else file_stamp(place)}", make)


def _helpers(state: AppState, query: HelpersQuery) -> dict[str, Any]:
    matrix = report_of(state, query).matrix
    return {"target": query.target, "helpers": matrix.helpers(query.target, most=len(matrix.languages))}


def _view(state: AppState, query: TransferPageQuery) -> dict[str, Any]:
    report = report_of(state, query)
    whole = report.matrix
    codes, notes = _chosen(whole, query)
    shown = whole.within(codes)
    first = transfer_sections.scores(shown, query.order, query.cells)
    warning = _without_intervals(shown, query.cells)
    lines = first.lines if len(codes) <= _MOST_LINES else ()
    parts: list[Section | None] = [replace(first, lines=lines, notes=[*first.notes, *notes], warning=warning)]
    if query.target:
        parts.append(transfer_sections.helped(whole.within(dict.fromkeys((query.target, *codes))), query.target))
    parts.append(_ranked(report, shown))
    if report.prediction is not None:
        parts.append(transfer_sections.predicted(report.prediction))
    if report.analysis is not None:
        parts.append(transfer_sections.tests(report.analysis))
    names = [{"code": code, "name": style.name(code)} for code in whole.languages]
    return {**sections(parts), "languages": names}


def _ranked(report: TransferReport, shown: TransferMatrix) -> Section | None:
    figures = transfer_sections.rankings(shown)
    if report.along is not None:
        figures.append(transfer_sections.moving(report.along))
    return Section("Sources and targets, ranked", "rankings", figures=figures) if figures else None


def _chosen(matrix: TransferMatrix, query: TransferPageQuery) -> tuple[list[str], list[str]]:
    """The languages to show, and notes on languages that are not in the matrix.

    Raises:
        InputError: fewer than two languages remain.
    """
    codes = [code for code in matrix.languages if code not in query.hide and (not query.only or code in query.only)]
    if len(codes) < 2:
        raise InputError(
            f"only, hide: {len(codes)} languages of the matrix remain",
            hint=f"the matrix has {', '.join(matrix.languages)}",
        )
    unknown = [code for code in dict.fromkeys((*query.only, *query.hide)) if code not in matrix.languages]
    notes = [f"The matrix does not have {', '.join(unknown)}."] if unknown else []
    if len(codes) < len(matrix.languages):
        notes.append(f"{len(codes)} of {len(matrix.languages)} languages are shown.")
    return codes, notes


def _without_intervals(matrix: TransferMatrix, cells: str) -> list[str]:
    """A warning if the cells show ends of intervals and some scores have none."""
    if cells == "score":
        return []
    known = int(((matrix.high - matrix.low) < float("inf")).sum())
    total = int((matrix.status != "missing").sum())
    return [] if known == total else [f"{known} of {total} scores have a 90 % interval; the others are grey."]


PAGE = Page(
    "transfer",
    "Transfer",
    "Which languages help which, with intervals.",
    (
        Endpoint(
            "/api/transfer",
            TransferQuery,
            report_of,
            "The transfer matrix. The query can request tests, predictions, and scores by model size and tokens.",
        ),
        Endpoint("/api/helpers", HelpersQuery, _helpers, "The helpers of one language, best first, with intervals."),
        Endpoint("/view/transfer", TransferPageQuery, _view, "The content of the page Transfer."),
    ),
)
