"""The page Laws: laws fitted to a table of runs, their residuals, and which parameters the runs identify."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from pydantic import Field
from starlette.responses import Response

from babelscale import charts, fitting, formatting, laws, published
from babelscale.allocation import Allocation
from babelscale.charts import style
from babelscale.errors import DomainError, InputError
from babelscale.fitting import Comparison, Fit, Profile
from babelscale.formatting import plural
from babelscale.options import Codes, Positive
from babelscale.reporting.report import law_sections
from babelscale.reporting.report.document import Figure, Section, Table
from babelscale.runs import Axis, Metric, Runs
from babelscale.web.app_state import PUBLISHED, SERVED, AppState, file_stamp
from babelscale.web.endpoints import Endpoint, Page
from babelscale.web.job_queue import Progress, QueueFull
from babelscale.web.query import Query
from babelscale.web.responses import download, sections

MOST_TARGETS, MOST_LAWS, MOST_RESAMPLES = 6, len(laws.LAWS), 1000
_LAWS = ", ".join(laws.LAWS)
_METRICS = "bits_per_byte, nats_per_token or unigram_normalised (default: the first one in the table)"
_DEFAULT_LAWS = ("chinchilla", "adaptive-transfer")
# The most fits whose curves are drawn.
_MOST_CURVES = 6
_COLUMNS = (
    ("params", "yes", "N, parameters of the model, the embedding included"),
    ("tokens", "yes", "D, tokens of the language that the run was trained on"),
    ("loss", "yes", "nats per token, measured at the end of the run; empty if it was not measured"),
    ("run", "with several languages", "name of the run, which has one row for each language"),
    ("language", "with several languages", "code such as sw, fil or no"),
    ("unique_tokens", "no", "U, unique tokens of the language; further tokens are repeats"),
    ("flops", "no", "compute of the run; the default is 6 N D"),
    ("mixture", "no", "name of the run's mixture"),
    ("seed", "no", "seed of the run"),
)


class SourceQuery(Query):
    """The source of the runs."""

    source: Annotated[str, Field(description="served, or the name of an uploaded table", examples=["served"])] = ""


class FitFormOptions(SourceQuery):
    """The options of a fit, except law and target."""

    metric: Annotated[Metric | None, Field(description=_METRICS)] = None
    objective: Annotated[Literal["huber", "lad", "squares"], Field(description="huber, lad or squares")] = "huber"
    delta: Annotated[Positive, Field(description="threshold of the Huber loss, on the log loss")] = 1e-3
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="seed of the resamples")] = 0

    @property
    def fit_options(self) -> dict[str, Any]:
        return {"metric": self.metric, "objective": self.objective, "delta": self.delta, "seed": self.seed}


class FitQuery(FitFormOptions):
    """The options of `babelscale.fit`."""

    law: Annotated[str, Field(description=f"one of {_LAWS}", examples=["chinchilla"])] = "chinchilla"
    target: Annotated[str, Field(description="language whose loss is fitted (default: the only one measured)")] = ""
    resamples: Annotated[int, Field(ge=0, le=MOST_RESAMPLES, description="number of refits for the intervals")] = 200


class ProfileQuery(FitQuery):
    """The options of `babelscale.profile`."""

    parameter: Annotated[str, Field(description="a parameter of the law, such as alpha", examples=["alpha"])]


class CompareQuery(FitFormOptions):
    """The options of `babelscale.compare`."""

    laws: Annotated[Codes, Field(description=f"laws, from {_LAWS}", examples=["chinchilla,multilingual"])] = (
        _DEFAULT_LAWS
    )
    targets: Annotated[Codes, Field(description="languages (default: all measured ones)")] = ()
    axes: Annotated[
        Codes, Field(description="held-out axes, from random, params, tokens, compute, mixture (default: all)")
    ] = ()


class LawsPageQuery(FitFormOptions):
    """The options of the page."""

    targets: Annotated[
        Codes, Field(description="languages (default: the one with the most losses)", max_length=MOST_TARGETS)
    ] = ()
    laws: Annotated[Codes, Field(description=f"laws, from {_LAWS}", max_length=MOST_LAWS)] = ()
    parameter: Annotated[str, Field(description="the parameter whose profile is shown")] = ""
    compare: Annotated[bool, Field(description="true or false: also compare on held-out runs")] = False


@dataclass(frozen=True)
class PageFits:
    """Fits of runs, and the reasons why further laws could not be fitted."""

    runs: Runs
    fits: tuple[Fit, ...]
    limits: tuple[str, ...]


def _cached(state: AppState, query: FitFormOptions, what: str, make: Callable[[Runs, Progress], Any]) -> Any:
    """The result of `make(runs, progress)`, computed in the background and cached while the runs stay the same."""
    source = query.source or state.default_source
    place = state.place(source)
    key = f"{what} {source} {file_stamp(place)} {query.model_dump_json()}"
    return state.jobs.result(key, lambda progress: make(Runs.read(place), progress))


def _law(query: FitQuery, runs: Runs) -> laws.ScalingLaw:
    return laws.by_name(query.law, runs.target(query.target or None), runs)


def _fit(state: AppState, query: FitQuery) -> Fit:
    def make(runs: Runs, progress: Progress) -> Fit:
        law = _law(query, runs)
        return fitting.fit(law, runs, **query.fit_options, resamples=query.resamples, progress=progress)

    return _cached(state, query, "fit", make)


def _profile(state: AppState, query: ProfileQuery) -> Profile:
    def make(runs: Runs, progress: Progress) -> Profile:
        law = _law(query, runs)
        options = {**query.fit_options, "resamples": query.resamples, "progress": progress}
        return fitting.profile(law, runs, query.parameter, **options)

    return _cached(state, query, "profile", make)


def _compare(state: AppState, query: CompareQuery) -> Comparison:
    axes: list[Axis] = list(query.axes)  # pyright: ignore[reportAssignmentType]

    def make(runs: Runs, progress: Progress) -> Comparison:
        return fitting.compare(
            query.laws, runs, targets=query.targets or None, axes=axes or None, **query.fit_options, progress=progress
        )

    return _cached(state, query, "compare", make)


def _description(state: AppState, query: SourceQuery) -> dict[str, Any]:
    """A summary of a source, and the laws that can be fitted; the controls of the page offer these."""
    source = query.source or state.default_source
    if source == PUBLISHED or (source == SERVED and state.saved_fits):
        return {"source": source, "runs": 0, "languages": [], "targets": [], "metric": None, "laws": list(laws.LAWS)}
    runs = state.runs(source)
    return {
        "source": source,
        "runs": len(runs),
        "languages": list(runs.languages),
        "targets": _targets(runs),
        "metric": runs.metric,
        "laws": list(laws.LAWS),
        "hash": runs.hash,
    }


def _targets(runs: Runs) -> list[str]:
    """Measured languages; those with the most losses come first."""
    counted = runs.losses["language"].value_counts().sort("count", "language", descending=[True, False])
    return counted["language"].to_list()


def _fit_all(query: LawsPageQuery, runs: Runs, progress: Progress) -> PageFits:
    targets = [runs.target(code) for code in query.targets] or _targets(runs)[:1]
    names = query.laws or (_DEFAULT_LAWS if len(runs.languages) > 1 else _DEFAULT_LAWS[:1])
    if unknown := [name for name in names if name not in laws.LAWS]:
        raise InputError(f"laws: there is no law {unknown[0]!r}", hint=f"laws: {_LAWS}")
    fits: list[Fit] = []
    limits: list[str] = []
    for target in targets:
        for name in names:
            progress(f"{name} law of {target}", len(fits) + len(limits), len(targets) * len(names))
            try:
                fits.append(fitting.fit(laws.by_name(name, target, runs), runs, **query.fit_options))
            except (InputError, DomainError) as error:
                limits.append(f"The {name} law of {target} could not be fitted: {error.message}")
    return PageFits(runs, tuple(fits), tuple(limits))


def _view(state: AppState, query: LawsPageQuery) -> dict[str, Any]:
    source = query.source or state.default_source
    if source == PUBLISHED:
        return sections(_without_runs())
    if source == SERVED and state.saved_fits:
        return sections([_saved_section(state.fits(source)), _without_runs()[0]])
    fit_query = query.model_copy(update={"parameter": "", "compare": False})
    found: PageFits = _cached(state, fit_query, "laws", lambda runs, progress: _fit_all(fit_query, runs, progress))
    parts: list[Section | None] = [_laws_section(found.fits, found.runs, found.limits)]
    if found.fits:
        parts.append(_residuals_section(found.fits, found.runs))
    if found.fits and query.parameter:
        title = f"Profile of {query.parameter}"
        parts.append(_section_or_reason(title, lambda: _profiles_section(title, _profiles(state, query, found))))
    if found.fits and query.compare:
        parts.append(_section_or_reason("Predictions of held-out runs", lambda: _held_out(state, query, found)))
    parameters = dict.fromkeys(name for fit in found.fits for name in fit.law.parameter_names)
    chosen = {
        "laws": list(dict.fromkeys(fit.law.name for fit in found.fits)),
        "targets": list(dict.fromkeys(fit.target for fit in found.fits)),
    }
    return sections(parts) | {"parameters": list(parameters), "chosen": chosen}


def _section_or_reason(title: str, make: Callable[[], Section]) -> Section:
    """A section, or a section with the reason why there is none, so that the rest of the page is still shown."""
    try:
        return make()
    except QueueFull:
        raise
    except (InputError, DomainError) as error:
        return Section(title, "none", warning=[error.message, *([error.hint] if error.hint else [])])


def _profiles(state: AppState, query: LawsPageQuery, found: PageFits) -> list[Profile]:
    """A profile for every fit whose law has the parameter."""
    fits = [fit for fit in found.fits if query.parameter in fit.law.parameter_names]
    if not fits:
        known = dict.fromkeys(name for fit in found.fits for name in fit.law.parameter_names)
        raise InputError(
            f"parameter: none of the laws has a parameter {query.parameter!r}",
            hint=f"parameters: {', '.join(known) or 'none'}",
        )
    # Each profile is a job of its own, so finished ones are cached.
    return [_one_profile(state, query, fit, found.runs) for fit in fits]


def _one_profile(state: AppState, query: LawsPageQuery, fit: Fit, runs: Runs) -> Profile:
    options = query.model_dump_json(include={"metric", "objective", "delta", "seed"})
    key = f"profile {fit.law.name} {fit.target} {query.parameter} {runs.hash} {options}"
    return state.jobs.result(
        key, lambda progress: fitting.profile(fit, runs, query.parameter, seed=query.seed, progress=progress)
    )


def _held_out(state: AppState, query: LawsPageQuery, found: PageFits) -> Section:
    options = query.model_dump(include={"source", "metric", "objective", "delta", "seed"})
    names = tuple(dict.fromkeys(fit.law.name for fit in found.fits))
    targets = tuple(dict.fromkeys(fit.target for fit in found.fits if fit.target))
    comparison = CompareQuery.model_validate({**options, "laws": names, "targets": targets})
    return replace(law_sections.held_out(_compare(state, comparison)), title="Predictions of held-out runs")


def _example(state: AppState, query: Query) -> Response:
    return download(example(), "example-runs.csv", "text/csv")


def _laws_section(fits: Sequence[Fit], runs: Runs, limits: Sequence[str]) -> Section:
    """Parameters, curves, and measured against predicted losses; a warning lists laws that could not be fitted."""
    if not fits:
        return Section("Laws", "laws", [_extent(runs), "No law could be fitted."], warning=limits)
    made = law_sections.laws(fits, (), runs)
    curves = [
        replace(law_sections.curves(fit, runs), name=f"curves-{fit.law.name}-{fit.target}")
        for fit in fits[:_MOST_CURVES]
    ]
    more = len(fits) - len(curves)
    notes = [f"The curves of {more} more fits are not drawn."] if more > 0 else []
    return replace(
        made,
        paragraphs=[_extent(runs), *made.paragraphs],
        warning=limits,
        figures=[*curves, *made.figures],
        lines=made.notes,
        notes=notes,
    )


def _extent(runs: Runs) -> str:
    sizes, languages = runs.table["params"].n_unique(), len(runs.languages)
    counts = f"{plural(len(runs), 'run')} of {plural(sizes, 'size')} on {plural(languages, 'language')}"
    return f"The table has {counts}. The metric is {style.metric_title(runs.metric)}."


def _residuals_section(fits: Sequence[Fit], runs: Runs) -> Section:
    """Residuals against the predicted loss, N and D."""
    rows = charts.residual_rows(fits, runs)
    listed = [
        [
            row["law"],
            row["target"],
            row["run"],
            formatting.number(row["residual"], "+.3f"),
            f"{row['predicted']:.4f}",
            formatting.count(row["params"]),
            formatting.count(row["tokens"]),
        ]
        for row in sorted(rows, key=lambda row: -abs(row["residual"]))
    ]
    columns = ("law", "target", "run", "residual", "predicted", "parameters", "tokens")
    table = Table("Residuals, the largest first", columns, listed, (3, 4, 5, 6))
    reading = {
        "predicted": "If a law fits well, there is no trend, only scatter around the dashed line.",
        "params": "A bend or a slope here means that the law's term of N has the wrong form.",
        "tokens": "A slope among the longest runs shows that predictions for longer runs will be wrong.",
    }
    figures = [
        Figure(f"residuals-{by}", charts.residuals(rows, by, fits[0].metric), reading[by], table, half=True)
        for by in charts.AGAINST
    ]
    paragraphs = [
        "A residual is the log of the measured loss minus the log of the predicted loss, times 100. This is about "
        "the error in per cent. A residual above zero means that the run is worse than the law predicts.",
        *(_scatter(fit) for fit in fits if fit.residual_sd is not None),
    ]
    return Section("Residuals of the laws", "residuals", paragraphs, figures=figures)


def _scatter(fit: Fit) -> str:
    target = style.name(fit.target) if fit.target else "all text"
    return f"{fit.law.name} of {target}: runs scatter by {100 * (fit.residual_sd or 0.0):.3g} % around the law."


def _profiles_section(title: str, found: Sequence[Profile]) -> Section:
    """Profiles of a parameter, with one chart for each fit."""
    figures, paragraphs, notes = [], [], []
    for each in found:
        parameter = each.parameter
        rows = [
            [
                f"{row['value']:.6g}",
                formatting.number(row["objective"], ".8g"),
                formatting.number(row["units"], ".4g"),
                "inside" if row["inside"] else "",
            ]
            for row in charts.profile_rows(each)
        ]
        columns = (parameter, "objective", "rise (thresholds)", "90 % interval")
        who = f"{each.law} of {style.name(each.target) if each.target else 'all text'}"
        table = Table(f"Profile of {parameter}, {who}", columns, rows, (0, 1, 2))
        reading = (
            f"{who}: the best value is {each.best:.5g}, {charts.describe_interval(each)}. The line is the smallest "
            f"objective for each fixed value of the parameter. Values under the dashed threshold are as good "
            "as the best one."
        )
        figures.append(Figure(f"profile-{each.law}-{each.target}", charts.profile(each), reading, table, half=True))
        notes += [f"{who}: {note}" for note in (f"threshold {each.threshold:.3g}, {each.why}.", *each.notes)]
        paragraphs.append(f"{who}: {parameter} is {each.best:.5g}, {charts.describe_interval(each)}.")
    return Section(title, "profile", paragraphs, figures=figures, notes=notes)


def _saved_section(fits: Sequence[Fit]) -> Section:
    """The parameters of saved fits; without their runs there is no chart."""
    paragraphs = [
        "These fits are served without their runs, so only their parameters are shown. Serve or upload the "
        "runs to see more."
    ]
    return Section(
        "Saved fits", "laws", paragraphs, lines=law_sections.notes(fits), tables=[law_sections.parameters(fits)]
    )


def _without_runs() -> list[Section]:
    """The columns of a table of runs, and the coefficients that the ATLAS study printed."""
    columns = Table("Columns of a table of runs", ("column", "required", "content"), _COLUMNS)
    first = Section(
        "Laws are fitted to runs",
        "table",
        [
            "Upload a table of finished runs, or start the server with one (babelscale serve PATH). The table is a "
            "CSV, Excel, JSON, Parquet or Arrow file, and each row is one language of one run. A law with five "
            "parameters needs more than five runs and at least two sizes.",
            "The example table comes from a known law with noise of half a per cent; no model was trained for it.",
        ],
        tables=[columns],
    )
    return [first, _printed()]


@functools.cache
def _printed() -> Section:
    """Table C.1 of the study."""
    rows = [
        [
            row.vocabulary,
            row.training,
            style.name(row.language),
            f"{row.E:.2f}",
            f"{row.log_A:.2f}",
            f"{row.log_B:.2f}",
            f"{row.alpha:.2f}",
            f"{row.beta:.2f}",
            formatting.count(row.unique_tokens),
        ]
        for row in published.table_c1()
    ]
    columns = ("vocabulary", "training", "language", "E", "log A", "log B", "alpha", "beta", "unique tokens (U)")
    paragraphs = [
        "Table C.1 of the study prints the coefficients of L = E + A / N^alpha + B / D^beta with alpha = beta. It "
        "prints two decimals and no intervals. E is 0 in seven rows, so the laws cannot be used far "
        "beyond the fitted sizes."
    ]
    table = Table("Printed coefficients", columns, rows, (3, 4, 5, 6, 7, 8))
    return Section("Laws that the ATLAS study printed", "printed", paragraphs, tables=[table])


@functools.cache
def example() -> str:
    """A flat table whose losses follow an adaptive transfer law of Swahili with the source English."""
    law = laws.AdaptiveTransfer("sw", ("en",), other=False)
    numbers = {"E": 1.4, "A": 90.0, "B": 900.0, "alpha": 0.3, "beta": 0.33, "lambda": 0.07, "tau_en": 0.25}
    made = [(N, D, share) for N in (4e7, 1.2e8, 4e8, 1e9) for D in (1e9, 4e9, 1.6e10) for share in (1.0, 0.5, 0.1)]
    N, D, share = (np.array(column) for column in zip(*made, strict=True))
    unique = {"sw": np.full(len(N), 7e8), "en": np.full(len(N), 5e12)}
    runs = fitting.simulate(law, numbers, Allocation(N, {"sw": D * share, "en": D * (1 - share)}, unique), seed=0)
    losses = runs.losses.select("run", "language", loss=pl.col("nats") / pl.col("tokens"))
    rows = runs.exposure.join(losses, on=["run", "language"], how="left").join(
        runs.table.select("run", "params"), on="run"
    )
    trained = rows.filter(pl.col("tokens") > 0).sort("run", "language", descending=[False, True])
    return trained.select("run", "params", "language", "tokens", "unique_tokens", pl.col("loss").round(5)).write_csv()


PAGE = Page(
    "laws",
    "Laws",
    "Laws fitted to your runs: parameters, residuals, and parameters that the runs do not identify.",
    (
        Endpoint("/api/tables", SourceQuery, _description, "A summary of a table of runs, without a fit."),
        Endpoint("/api/fit", FitQuery, _fit, "A law fitted to runs: parameters, 90 % intervals, notes and draws."),
        Endpoint(
            "/api/profile",
            ProfileQuery,
            _profile,
            "The objective along one parameter, with all other parameters refitted, and its 90 % interval.",
        ),
        Endpoint("/api/compare", CompareQuery, _compare, "Laws scored on runs that were left out of their fits."),
        Endpoint("/api/example.csv", Query, _example, "A small table of runs, computed from a known law."),
        Endpoint("/view/laws", LawsPageQuery, _view, "The content of the page Laws."),
    ),
)
