"""The page Transfer: which languages help which, in any order, with intervals, predictions and tests."""

from collections.abc import Sequence
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
from babelscale.web.query import Query
from babelscale.web.sections import sections

# A sentence a target is read up to so many; beyond, charts and the ranking of one target say it.
_MOST_LINES = 12
_MOST = 420


class TransferQuery(Query):
    """What `babelscale transfer` takes, and where its scores come from."""

    source: Annotated[str, Field(description="published, served, or the name of an uploaded table")] = ""
    predict: Annotated[
        Codes, Field(description="predict scores for these languages too, as codes: ig,rw,lb", max_length=_MOST)
    ] = ()
    fill: Annotated[bool, Field(description="true or false: predict what is missing in the matrix")] = False
    tests: Annotated[bool, Field(description="true or false: permutation tests of what the scores say")] = False
    mixtures: Annotated[bool, Field(description="true or false: read scores from runs of several languages")] = False
    along: Annotated[bool, Field(description="true or false: scores along size and tokens too")] = False
    anchor: Annotated[Number | None, Field(gt=0, le=1, description="share of the stable phase, from 0 to 1")] = None
    params: Annotated[Positive | None, Field(description="parameters of the runs to use, such as 1e6")] = None


class HelpersQuery(TransferQuery):
    """One target of a matrix."""

    target: Annotated[str, Field(description="a language of the matrix, as code", examples=["sw"])]


class TransferPageQuery(TransferQuery):
    """A matrix, and how it is shown."""

    order: Annotated[
        Literal["branch", "script", "clusters", "gains", "helps", "given"],
        Field(description="branch, script, clusters, gains, helps or given"),
    ] = "branch"
    cells: Annotated[Literal["score", "low", "high", "half"], Field(description="score, low, high or half")] = "score"
    target: Annotated[str, Field(description="a language of the matrix, as code")] = ""
    only: Annotated[Codes, Field(description="show these languages alone, as codes")] = ()
    hide: Annotated[Codes, Field(description="languages not to show, as codes")] = ()


def report_of(state: AppState, query: TransferQuery) -> TransferReport:
    """The matrix of a question, and what it asks beside; what takes seconds is worked on in the background.

    Raises:
        InputError: the source holds no scores. JobPending: they are being worked out.
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
    asks = TransferQuery.model_validate({name: getattr(query, name) for name in TransferQuery.model_fields})
    return state.jobs.result(f"{asks.key} {source} {'' if place is None else file_stamp(place)}", make)


def _transfer(state: AppState, query: TransferQuery) -> dict[str, Any]:
    return report_of(state, query).to_dict()


def _helpers(state: AppState, query: HelpersQuery) -> dict[str, Any]:
    matrix = report_of(state, query).matrix
    found = matrix.helpers(query.target, most=len(matrix.languages))
    return {"target": query.target, "helpers": [helper.to_dict() for helper in found]}


def _view(state: AppState, query: TransferPageQuery) -> dict[str, Any]:
    found = report_of(state, query)
    whole = found.matrix
    codes, notes = _chosen(whole, query)
    shown = whole.within(codes)
    first = transfer_sections.scores(shown, query.order, query.cells)
    warning = _without_intervals(shown, query.cells)
    lines = first.lines if len(codes) <= _MOST_LINES else ()
    parts: list[Section | None] = [replace(first, lines=lines, notes=[*first.notes, *notes], warning=warning)]
    if query.target:
        parts.append(transfer_sections.helped(whole.within(dict.fromkeys((query.target, *codes))), query.target))
    parts.append(_ranked(found, shown))
    if found.prediction is not None:
        parts.append(transfer_sections.predicted(found.prediction))
    if found.analysis is not None:
        parts.append(transfer_sections.tests(found.analysis))
    names = [{"code": code, "name": style.name(code)} for code in whole.languages]
    return {**sections(parts), "languages": names}


def _ranked(found: TransferReport, shown: TransferMatrix) -> Section | None:
    figures = transfer_sections.rankings(shown)
    if found.along is not None:
        figures.append(transfer_sections.moving(found.along))
    return Section("Who gives and who gains", "rankings", figures=figures) if figures else None


def _chosen(matrix: TransferMatrix, query: TransferPageQuery) -> tuple[list[str], list[str]]:
    """The languages to show, and a note on those that are named and not in the matrix.

    Raises:
        InputError: fewer than two are left.
    """
    codes = [code for code in matrix.languages if code not in query.hide and (not query.only or code in query.only)]
    if len(codes) < 2:
        raise InputError(
            f"only, hide: {len(codes)} of the matrix's languages are left", hint=f"it has {_listed(matrix.languages)}"
        )
    strangers = [code for code in dict.fromkeys((*query.only, *query.hide)) if code not in matrix.languages]
    notes = [f"Not in this matrix: {_listed(strangers)}."] if strangers else []
    if len(codes) < len(matrix.languages):
        notes.append(f"{len(codes)} of {len(matrix.languages)} languages are shown.")
    return codes, notes


def _listed(codes: Sequence[str]) -> str:
    return ", ".join(codes)


def _without_intervals(matrix: TransferMatrix, cells: str) -> list[str]:
    """Said where ends of intervals are asked for and there are none, or few."""
    if cells == "score":
        return []
    known = int(((matrix.high - matrix.low) < float("inf")).sum())
    total = int((matrix.status != "missing").sum())
    return [] if known == total else [f"{known} of {total} scores have a 90 % interval; the others are grey."]


PAGE = Page(
    "transfer",
    "Transfer",
    "Which languages help which, and how sure that is.",
    (
        Endpoint(
            "/api/transfer",
            TransferQuery,
            _transfer,
            "The transfer matrix. Tests, predictions and scores along size and tokens stand beside it where asked for.",
        ),
        Endpoint("/api/helpers", HelpersQuery, _helpers, "Who helps one language, best first, with intervals."),
        Endpoint("/view/transfer", TransferPageQuery, _view, "What the page Transfer shows."),
    ),
)
