"""The page Study: how far a study is that is being trained, and its curves as they grow. Looking writes nothing."""

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
from babelscale.web.sections import sections

if TYPE_CHECKING:
    from babelscale.reporting.monitor.eta import Eta
    from babelscale.reporting.monitor.run_logs import RunLog
    from babelscale.reporting.monitor.study_monitor import RunSnapshot, StudyMonitor, StudySnapshot

_NUMERIC = range(2, 9)
_CAPTIONS = (
    ("working", "Runs under way"),
    ("failed", "Failed runs"),
    ("waiting", "Runs that wait"),
    ("finished", "Finished runs"),
)
# More curves than this are a thicket, more rows than this nobody reads: those that do something come first.
MOST_CURVES, MOST_ROWS = 40, 500
_POINTS, _METRIC = 60, "bits_per_byte"
_HINT = "serve one: babelscale serve studies/NAME, while babelscale study run NAME trains it"
_COLUMNS = (
    "run",
    "trained on",
    "parameters",
    "tokens",
    "step",
    "done",
    "loss (nats per token)",
    "tokens/s",
    "heard of",
    "remark",
)


class StatusQuery(Query):
    """Nothing: the study is the one that is served."""


class StudyQuery(Query):
    """Which runs are shown."""

    state: Annotated[
        Literal["all", "working", "failed", "waiting", "finished"], Field(description="all, or a state of runs")
    ] = "all"
    text: Annotated[str, Field(description="part of a run's name or mixture", examples=["sv"])] = ""
    refresh: Annotated[Literal["2", "5", "30", "off"], Field(description="seconds until the page asks again")] = "5"


def _folder(state: AppState) -> Path:
    if state.path is None or not (state.path / "design.json").is_file():
        raise InputError("no study's folder is served", hint=_HINT)
    return state.path


def _status(state: AppState, query: StatusQuery) -> dict[str, Any]:
    """What `babelscale study status --json` prints."""
    from babelscale.study import Study, cost

    return cost.status(Study.open(_folder(state))).to_dict()


_monitors: "WeakKeyDictionary[AppState, StudyMonitor]" = WeakKeyDictionary()


def _monitor(state: AppState) -> "StudyMonitor":
    """One for each server, so that what it saw is remembered."""
    from babelscale.reporting.monitor.study_monitor import StudyMonitor

    return _monitors.setdefault(state, StudyMonitor(_folder(state)))


def _view(state: AppState, query: StudyQuery) -> dict[str, Any]:
    try:
        monitor = _monitor(state)
        now = monitor.snapshot()
    except InputError as error:
        said = [f"Here {error.message}." if state.path is None else f"{error.message}."]
        said += [f"To see one here, {error.hint}."] if error.hint else []
        return sections([Section("No study to follow yet", "progress", said)]) | {"progress": None}
    chosen = _chosen(now, query)
    logs = monitor.logs([run.name for run in chosen if run.state != "waiting"][:MOST_CURVES])
    parts = [_progress(now), _table(now, chosen), _curves(chosen, logs), _speed(now)]
    return sections(parts) | {"progress": {"done": now.done, "total": now.flops, "says": _bar(now)}}


def _chosen(now: "StudySnapshot", query: StudyQuery) -> list["RunSnapshot"]:
    """The runs asked for: those that do something first, then by name."""
    from babelscale.reporting.monitor.study_monitor import STATES

    sought = query.text.casefold()
    found = [
        run
        for run in now.runs
        if query.state in ("all", run.state)
        and (sought in run.name.casefold() or sought in run.spec.mixture_name.casefold())
    ]
    return sorted(found, key=lambda run: (STATES.index(run.state), run.name))


def _bar(now: "StudySnapshot") -> str:
    return f"{_percent(now.done / now.flops)} of {flops(now.flops)} FLOPs done"


def _percent(share: float) -> str:
    """Rounded down: what is not finished is not 100 %."""
    return f"{math.floor(1000 * share) / 10:g} %"


def _progress(now: "StudySnapshot") -> Section:
    counted = [f"{now.count('finished')} of {len(now.runs)} runs are finished"]
    counted += [f"{now.count(state)} {said}" for state, said in _SAID if now.count(state)]
    paragraphs = [f"{now.title}: {', '.join(counted)}.", f"{_bar(now)}. {_left(now)}"]
    failed = [run for run in now.runs if run.state == "failed"]
    warning = [f"{run.name} failed: {run.reason}" for run in failed[:5]]
    if len(failed) > 5:
        warning.append(f"{len(failed) - 5} more runs failed; the table tells why.")
    return Section("Progress", "progress", paragraphs, warning=warning)


_SAID: tuple[tuple[Literal["working", "waiting", "failed"], str], ...] = (
    ("working", "under way"),
    ("waiting", "waiting"),
    ("failed", "failed"),
)


def _left(now: "StudySnapshot") -> str:
    """How long it will take, and how sure that is."""
    from babelscale.reporting.monitor.study_monitor import SILENT

    if now.flops <= now.done:
        return "Nothing is left to train."
    silent = now.silent or 0.0
    quiet = f"There was no progress for {duration(silent)}, so the study may have stopped." if silent > SILENT else ""
    if now.left is None:
        return f"{quiet}The remaining time is unknown, because there is too little progress so far."
    return f"{quiet}{'Once it goes on, about' if quiet else 'About'} {_time(now.left)}"


def _time(left: "Eta") -> str:
    far = "no upper end" if left.high is None else f"at most {duration(left.high)}"
    return (
        f"{duration(left.seconds)} are left (at least {duration(left.low)}, {far}; 90 % interval from "
        f"{left.steps} steps of progress in {duration(left.over)}), if it goes on as it went."
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
            "Means of the training loss between points, which lie evenly in log steps. A dot ends a run under way.",
            _numbers("Training losses", training, ()),
        )
    ]
    if held := _held_out(drawn, logs):
        figures.append(
            Figure(
                "held-out",
                charts.held_out.spec(held, _METRIC),
                "Held-out losses of languages that a run trains on. The last point of a finished run stands after the "
                "decay of its learning rate, and is lower for it.",
                _numbers("Held-out losses", held, ("name",)),
            )
        )
    more = sum(run.state != "waiting" for run in chosen) - MOST_CURVES
    notes = [f"{more} more runs are not drawn; choose fewer by state or text."] if more > 0 else []
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

    found: list[style.Row] = []
    for run in drawn:
        own = run.spec.languages
        lines = [line for line in logs[run.name].held_out if line["language"] in own and line["split"] == "validation"]
        if lines:
            told = pl.DataFrame(lines).select("step", "language", loss=METRICS[_METRIC])
            found += [
                _point(run, step) | {"name": style.name(code), "loss": loss} for step, code, loss in told.iter_rows()
            ]
    return found


def _numbers(caption: str, rows: Iterable[style.Row], more: tuple[str, ...]) -> Table:
    columns = ("run", *more, "step", "tokens", "loss")
    told = [
        [row["run"], *(row[name] for name in more), f"{row['step']:,}", f"{row['tokens']:,.0f}", f"{row['loss']:.4f}"]
        for row in rows
    ]
    heads = tuple("language" if name == "name" else name for name in columns)
    return Table(caption, heads, told, tuple(range(len(columns) - 3, len(columns))))


def _speed(now: "StudySnapshot") -> Section | None:
    if not now.history:
        return None
    rows = [{"time": 1000 * at, "flops": done, "share": done / now.flops} for at, done in now.history]
    paragraphs = []
    if now.left is not None:
        paragraphs.append(f"{flops(now.left.rate)} FLOPs a second over all runs together, as measured lately.")
    began = now.history[0][0]
    told = [[duration(at - began), flops(done), _percent(done / now.flops)] for at, done in now.history]
    figure = Figure(
        "done",
        charts.finished.spec(rows),
        "A step up where a run ended; what is under way comes on top.",
        Table("FLOPs of finished runs", ("after the first run's end", "FLOPs", "of the study"), told, (1, 2)),
    )
    return Section("Throughput", "throughput", paragraphs, figures=[figure])


def _table(now: "StudySnapshot", chosen: Sequence["RunSnapshot"]) -> Section:
    shown = chosen[:MOST_ROWS]
    tables = [
        _of_state(caption, rows)
        for state, caption in _CAPTIONS
        if (rows := [_row(run) for run in shown if run.state == state])
    ]
    said = [] if shown else ["No run fits what is asked for."]
    notes = [f"{len(chosen) - MOST_ROWS} more runs; choose fewer by state or text."] if len(chosen) > MOST_ROWS else []
    return Section(f"Runs ({len(chosen)} of {len(now.runs)})", "runs", said, tables=tables, notes=notes)


def _of_state(caption: str, rows: list[list[str]]) -> Table:
    """Columns that say nothing of any of the rows are left out."""
    told = [k for k in range(len(_COLUMNS)) if any(row[k] for row in rows)]
    numeric = [place for place, k in enumerate(told) if k in _NUMERIC]
    return Table(caption, [_COLUMNS[k] for k in told], [[row[k] for k in told] for row in rows], numeric)


def _row(run: "RunSnapshot") -> list[str]:
    spec, begun = run.spec, run.state != "waiting"
    return [
        run.name,
        spec.mixture_name,
        count(spec.shape.params),
        count(spec.tokens),
        f"{run.step:,} of {spec.steps:,}" if begun else f"{spec.steps:,}",
        _percent(run.done),
        number(run.loss, ".3f"),
        count(run.speed) if run.speed else "",
        _heard(run),
        run.reason,
    ]


def _heard(run: "RunSnapshot") -> str:
    """When it was heard of last, on the clock of this machine: the same text until it is heard of again."""
    import time

    if run.written is None:
        return ""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(run.written))


PAGE = Page(
    "study",
    "Study",
    "How far a study is that is being trained, and its learning curves as they grow.",
    (
        Endpoint(
            "/api/study",
            StatusQuery,
            _status,
            "Which runs are finished, begun, missing or failed. The same as `babelscale study status --json` prints.",
        ),
        Endpoint("/view/study", StudyQuery, _view, "What the page Study shows."),
    ),
)
