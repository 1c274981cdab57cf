"""The page Study: the progress and the learning curves of a study in training. It writes nothing."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from weakref import WeakKeyDictionary

from pydantic import Field

from babelscale.charts import monitor as charts
from babelscale.charts import style
from babelscale.errors import InputError
from babelscale.formatting import count, duration, flops, number
from babelscale.reporting.report.document import Figure, Section, Table
from babelscale.runs import METRICS
from babelscale.web.app_state import AppState
from babelscale.web.endpoints import Endpoint, Page
from babelscale.web.query import Query
from babelscale.web.responses import sections

if TYPE_CHECKING:
    from babelscale.reporting.monitor.run_logs import RunLog
    from babelscale.reporting.monitor.study_monitor import RunSnapshot, StudyMonitor, StudySnapshot

_NUMERIC = range(2, 9)
_CAPTIONS = (
    ("working", "Runs in progress"),
    ("failed", "Failed runs"),
    ("waiting", "Waiting runs"),
    ("finished", "Finished runs"),
)
# The most curves and rows; runs in progress come first.
MOST_CURVES, MOST_ROWS = 40, 500
_POINTS, _METRIC = 60, "bits_per_byte"
_HINT = "start the server with `babelscale serve studies/NAME` while `babelscale study run NAME` trains the study"
_COLUMNS = (
    "run",
    "trained on",
    "parameters",
    "tokens",
    "step",
    "done",
    "loss (nats per token)",
    "tokens/s",
    "last update",
    "remark",
)


class StatusQuery(Query):
    """No parameters: the study is the one that is served."""


class StudyQuery(Query):
    """The runs to show."""

    state: Annotated[
        Literal["all", "working", "failed", "waiting", "finished"],
        Field(description="all, working, failed, waiting or finished"),
    ] = "all"
    text: Annotated[str, Field(description="part of a run's name or mixture", examples=["sv"])] = ""
    refresh: Annotated[
        Literal["2", "5", "30", "off"], Field(description="seconds between two refreshes of the page")
    ] = "5"


def _folder(state: AppState) -> Path:
    if state.path is None or not (state.path / "design.json").is_file():
        raise InputError("the server has no folder of a study", hint=_HINT)
    return state.path


def _status(state: AppState, query: StatusQuery) -> Any:
    """The status of the served study, as `babelscale study status --json` prints it."""
    from babelscale.study import Study, cost

    return cost.status(Study.open(_folder(state)))


_monitors: "WeakKeyDictionary[AppState, StudyMonitor]" = WeakKeyDictionary()


def _monitor(state: AppState) -> "StudyMonitor":
    """The monitor of a server, which remembers what it has read."""
    from babelscale.reporting.monitor.study_monitor import StudyMonitor

    return _monitors.setdefault(state, StudyMonitor(_folder(state)))


def _view(state: AppState, query: StudyQuery) -> dict[str, Any]:
    try:
        monitor = _monitor(state)
        now = monitor.snapshot()
    except InputError as error:
        texts = [error.message, error.hint] if error.hint else [error.message]
        paragraphs = [f"{text[0].upper()}{text[1:]}." for text in texts]
        return sections([Section("No study yet", "progress", paragraphs)]) | {"progress": None}
    chosen = _chosen(now, query)
    logs = monitor.logs([run.name for run in chosen if run.state != "waiting"][:MOST_CURVES])
    parts = [_progress(now), _table(now, chosen), _curves(chosen, logs), _speed(now)]
    return sections(parts) | {"progress": {"done": now.done, "total": now.flops, "text": _bar(now)}}


def _chosen(now: "StudySnapshot", query: StudyQuery) -> list["RunSnapshot"]:
    """The runs that the query selects, by state and name; runs in progress come first."""
    from babelscale.reporting.monitor.study_monitor import STATES

    part = query.text.casefold()
    selected = [
        run
        for run in now.runs
        if query.state in ("all", run.state)
        and (part in run.name.casefold() or part in run.spec.mixture_name.casefold())
    ]
    return sorted(selected, key=lambda run: (STATES.index(run.state), run.name))


def _bar(now: "StudySnapshot") -> str:
    return f"{_percent(now.done / now.flops)} of {flops(now.flops)} FLOPs are done"


def _percent(share: float) -> str:
    """Per cent, rounded down, so that an unfinished study never shows 100 %."""
    return f"{math.floor(1000 * share) / 10:g} %"


def _progress(now: "StudySnapshot") -> Section:
    counted = [f"{now.count('finished')} of {len(now.runs)} runs are finished"]
    counted += [f"{now.count(state)} {label}" for state, label in _UNFINISHED if now.count(state)]
    paragraphs = [f"{now.title}: {', '.join(counted)}.", f"{_bar(now)}. {_remaining(now)}"]
    failed = [run for run in now.runs if run.state == "failed"]
    warning = [f"{run.name} failed: {run.reason}" for run in failed[:5]]
    if len(failed) > 5:
        warning.append(f"{len(failed) - 5} more runs failed; the table lists the reasons.")
    return Section("Progress", "progress", paragraphs, warning=warning)


_UNFINISHED: tuple[tuple[Literal["working", "waiting", "failed"], str], ...] = (
    ("working", "in progress"),
    ("waiting", "waiting"),
    ("failed", "failed"),
)


def _remaining(now: "StudySnapshot") -> str:
    """The remaining time and its interval."""
    from babelscale.reporting.monitor.study_monitor import SILENT

    if now.flops <= now.done:
        return "All runs are finished."
    silence = ""
    if now.silent is not None and now.silent > SILENT:
        silence = f"There was no progress for {duration(now.silent)}, so the study may have stopped. "
    if (left := now.left) is None:
        return f"{silence}The remaining time is unknown, because there is too little progress so far."
    end = "without an upper end" if left.high is None else f"to {duration(left.high)}"
    return (
        f"{silence}The remaining time is about {duration(left.seconds)} (90 % interval: {duration(left.low)} {end}). "
        f"This assumes the pace of the last {duration(left.over)}, in which progress was seen {left.steps} times."
    )


def _curves(chosen: Sequence["RunSnapshot"], logs: dict[str, "RunLog"]) -> Section | None:
    drawn = [run for run in chosen if run.name in logs]
    if not drawn:
        return None
    training = [_point(run, step) | {"loss": loss} for run in drawn for step, loss in logs[run.name].curve(_POINTS)]
    figures = [
        Figure(
            "training",
            charts.training.spec(training),
            "Each point is the mean training loss since the previous point; points are evenly spaced in log steps. "
            "A dot ends the curve of a run in progress.",
            _numbers("Training losses", training, ()),
        )
    ]
    if losses := _held_out(drawn, logs):
        figures.append(
            Figure(
                "held-out",
                charts.held_out.spec(losses, _METRIC),
                "These are the held-out losses of the languages that a run trains on. The last point of a finished run "
                "is measured after the decay of its learning rate and is lower for this reason.",
                _numbers("Held-out losses", losses, ("name",)),
            )
        )
    more = sum(run.state != "waiting" for run in chosen) - MOST_CURVES
    notes = [f"{more} more runs are not drawn; filter them by state or name."] if more > 0 else []
    return Section("Learning curves so far", "curves", figures=figures, notes=notes)


def _point(run: "RunSnapshot", step: int) -> style.Row:
    return {
        "run": run.name,
        "state": run.state,
        "mixture": run.spec.mixture_name,
        "step": step,
        "tokens": float(step * run.spec.recipe.tokens_per_step),
    }


def _held_out(drawn: Sequence["RunSnapshot"], logs: dict[str, "RunLog"]) -> list[style.Row]:
    import polars as pl

    rows: list[style.Row] = []
    for run in drawn:
        trained = run.spec.languages
        lines = [
            line for line in logs[run.name].held_out if line["language"] in trained and line["split"] == "validation"
        ]
        if lines:
            losses = pl.DataFrame(lines).select("step", "language", loss=METRICS[_METRIC])
            rows += [
                _point(run, step) | {"name": style.name(code), "loss": loss} for step, code, loss in losses.iter_rows()
            ]
    return rows


def _numbers(caption: str, rows: Iterable[style.Row], more: tuple[str, ...]) -> Table:
    columns = ("run", *more, "step", "tokens", "loss")
    cells = [
        [row["run"], *(row[name] for name in more), f"{row['step']:,}", f"{row['tokens']:,.0f}", f"{row['loss']:.4f}"]
        for row in rows
    ]
    heads = tuple("language" if name == "name" else name for name in columns)
    return Table(caption, heads, cells, tuple(range(len(columns) - 3, len(columns))))


def _speed(now: "StudySnapshot") -> Section | None:
    if not now.history:
        return None
    rows = [{"time": 1000 * at, "flops": done, "share": done / now.flops} for at, done in now.history]
    paragraphs = []
    if now.left is not None:
        paragraphs.append(
            f"All runs together train with {flops(now.left.rate)} FLOPs per second "
            f"(measured over the last {duration(now.left.over)})."
        )
    start = now.history[0][0]
    cells = [[duration(at - start), flops(done), _percent(done / now.flops)] for at, done in now.history]
    figure = Figure(
        "done",
        charts.finished.spec(rows),
        "The line rises where a run ends; runs in progress are not included.",
        Table(
            "FLOPs of finished runs",
            ("time after the end of the first run", "FLOPs", "share of the study"),
            cells,
            (1, 2),
        ),
    )
    return Section("Throughput", "throughput", paragraphs, figures=[figure])


def _table(now: "StudySnapshot", chosen: Sequence["RunSnapshot"]) -> Section:
    shown = chosen[:MOST_ROWS]
    tables = [
        _state_table(caption, rows)
        for state, caption in _CAPTIONS
        if (rows := [_row(run) for run in shown if run.state == state])
    ]
    paragraphs = [] if shown else ["No run matches the filter."]
    notes = (
        [f"{len(chosen) - MOST_ROWS} more runs are not listed; filter them by state or name."]
        if len(chosen) > MOST_ROWS
        else []
    )
    return Section(f"Runs ({len(chosen)} of {len(now.runs)})", "runs", paragraphs, tables=tables, notes=notes)


def _state_table(caption: str, rows: list[list[str]]) -> Table:
    """A table without the columns that are empty in all rows."""
    used = [k for k in range(len(_COLUMNS)) if any(row[k] for row in rows)]
    numeric = [place for place, k in enumerate(used) if k in _NUMERIC]
    return Table(caption, [_COLUMNS[k] for k in used], [[row[k] for k in used] for row in rows], numeric)


def _row(run: "RunSnapshot") -> list[str]:
    spec, started = run.spec, run.state != "waiting"
    return [
        run.name,
        spec.mixture_name,
        count(spec.shape.params),
        count(spec.tokens),
        f"{run.step:,} of {spec.steps:,}" if started else f"{spec.steps:,}",
        _percent(run.done),
        number(run.loss, ".3f"),
        count(run.speed) if run.speed else "",
        _last_update(run),
        run.reason,
    ]


def _last_update(run: "RunSnapshot") -> str:
    """The time of the last update of the log, on the clock of the server."""
    import time

    if run.written is None:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.written))


PAGE = Page(
    "study",
    "Study",
    "The progress and the learning curves of a study in training.",
    (
        Endpoint(
            "/api/study",
            StatusQuery,
            _status,
            "The finished, started, missing and failed runs, as `babelscale study status --json` prints them.",
        ),
        Endpoint("/view/study", StudyQuery, _view, "The content of the page Study."),
    ),
)
