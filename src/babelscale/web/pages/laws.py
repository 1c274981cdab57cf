"""The page Laws: laws fitted to a table of runs, what they leave over, and what the runs identify."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from babelscale import fitting, laws
from babelscale.errors import DomainError, InputError
from babelscale.fitting import Comparison, Fit, Profile
from babelscale.options import Codes, Positive
from babelscale.reporting.report import law_sections
from babelscale.reporting.report.document import Section
from babelscale.runs import Axis, Metric, Runs
from babelscale.web.app_state import PUBLISHED, SERVED, AppState, file_stamp
from babelscale.web.endpoints import Endpoint, Page
from babelscale.web.job_queue import Progress, QueueFull
from babelscale.web.pages import laws_sections
from babelscale.web.query import Query
from babelscale.web.sections import sections

MOST_TARGETS, MOST_LAWS, MOST_RESAMPLES = 6, len(laws.LAWS), 1000
_LAWS = ", ".join(laws.LAWS)
_METRICS = "bits_per_byte, nats_per_token or unigram_normalised (default: the first that the table holds)"


class SourceQuery(Query):
    """Which runs."""

    source: Annotated[str, Field(description="served, or the name of an upload", examples=["served"])] = ""


class FitFormOptions(SourceQuery):
    """What a fit takes besides its law and target."""

    metric: Annotated[Metric | None, Field(description=_METRICS)] = None
    objective: Annotated[Literal["huber", "lad", "squares"], Field(description="huber, lad or squares")] = "huber"
    delta: Annotated[Positive, Field(description="Huber's threshold on log loss")] = 1e-3
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="seed of the resamples")] = 0

    @property
    def how(self) -> dict[str, Any]:
        return {"metric": self.metric, "objective": self.objective, "delta": self.delta, "seed": self.seed}


class FitQuery(FitFormOptions):
    """What `babelscale.fit` takes."""

    law: Annotated[str, Field(description=f"one of {_LAWS}", examples=["chinchilla"])] = "chinchilla"
    target: Annotated[str, Field(description="language whose loss is fitted (default: the only one measured)")] = ""
    resamples: Annotated[int, Field(ge=0, le=MOST_RESAMPLES, description="number of refits for the intervals")] = 200


class ProfileQuery(FitQuery):
    """What `babelscale.profile` takes."""

    parameter: Annotated[str, Field(description="a parameter of the law, such as alpha", examples=["alpha"])]


class CompareQuery(FitFormOptions):
    """What `babelscale.compare` takes."""

    laws: Annotated[Codes, Field(description=f"of {_LAWS}", examples=["chinchilla,multilingual"])] = laws_sections.USUAL
    targets: Annotated[Codes, Field(description="languages (default: every measured one)")] = ()
    axes: Annotated[Codes, Field(description="of random, params, tokens, compute, mixture (default: all)")] = ()


class LawsPageQuery(FitFormOptions):
    """What the page shows."""

    targets: Annotated[
        Codes, Field(description="languages (default: the one with most losses)", max_length=MOST_TARGETS)
    ] = ()
    laws: Annotated[Codes, Field(description=f"of {_LAWS}", max_length=MOST_LAWS)] = ()
    parameter: Annotated[str, Field(description="parameter whose profile is shown")] = ""
    compare: Annotated[bool, Field(description="true or false: also compare on held-out runs")] = False


@dataclass(frozen=True)
class Fitted:
    """Fits of one reading of the runs, and why there are no others."""

    runs: Runs
    fits: tuple[Fit, ...]
    limits: tuple[str, ...]


def _kept(state: AppState, query: FitFormOptions, what: str, make: Callable[[Runs, Progress], Any]) -> Any:
    """What `make(runs, progress)` gives, worked on in the background and kept while the runs stay the same."""
    source = query.source or state.default_source
    place = state.place(source)
    key = f"{what} {source} {file_stamp(place)} {query.model_dump_json()}"
    return state.jobs.result(key, lambda progress: make(Runs.read(place), progress))


def _law(query: FitQuery, runs: Runs) -> laws.ScalingLaw:
    return laws.by_name(query.law, runs.target(query.target or None), runs)


def _fit(state: AppState, query: FitQuery) -> dict[str, Any]:
    def make(runs: Runs, progress: Progress) -> dict[str, Any]:
        law = _law(query, runs)
        return fitting.fit(law, runs, **query.how, resamples=query.resamples, progress=progress).to_dict()

    return _kept(state, query, "fit", make)


def _profile(state: AppState, query: ProfileQuery) -> dict[str, Any]:
    def make(runs: Runs, progress: Progress) -> Profile:
        law = _law(query, runs)
        return fitting.profile(law, runs, query.parameter, **query.how, resamples=query.resamples, progress=progress)

    return _kept(state, query, "profile", make).to_dict()


def _compare(state: AppState, query: CompareQuery) -> dict[str, Any]:
    return _compared(state, query).to_dict()


def _compared(state: AppState, query: CompareQuery) -> Comparison:
    axes: list[Axis] = list(query.axes)  # pyright: ignore[reportAssignmentType]

    def make(runs: Runs, progress: Progress) -> Comparison:
        return fitting.compare(
            query.laws, runs, targets=query.targets or None, axes=axes or None, **query.how, progress=progress
        )

    return _kept(state, query, "compare", make)


def _description(state: AppState, query: SourceQuery) -> dict[str, Any]:
    """What the page's controls offer for a source."""
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
    """Measured languages, those with the most losses first."""
    counted = runs.losses["language"].value_counts().sort("count", "language", descending=[True, False])
    return counted["language"].to_list()


def _fit_all(query: LawsPageQuery, runs: Runs, progress: Progress) -> Fitted:
    targets = [runs.target(code) for code in query.targets] or _targets(runs)[:1]
    names = query.laws or (laws_sections.USUAL if len(runs.languages) > 1 else laws_sections.USUAL[:1])
    if unknown := [name for name in names if name not in laws.LAWS]:
        raise InputError(f"laws: no law is called {unknown[0]!r}", hint=f"laws: {_LAWS}")
    fits: list[Fit] = []
    limits: list[str] = []
    for target in targets:
        for name in names:
            progress(f"{name} law of {target}", len(fits) + len(limits), len(targets) * len(names))
            try:
                fits.append(fitting.fit(laws.by_name(name, target, runs), runs, **query.how))
            except (InputError, DomainError) as error:
                limits.append(f"No {name} law of {target}: {error.message}")
    return Fitted(runs, tuple(fits), tuple(limits))


def _view(state: AppState, query: LawsPageQuery) -> dict[str, Any]:
    source = query.source or state.default_source
    if source == PUBLISHED:
        return sections(laws_sections.without_runs())
    if source == SERVED and state.saved_fits:
        return sections([laws_sections.saved(state.fits(source)), laws_sections.without_runs()[0]])
    alone = query.model_copy(update={"parameter": "", "compare": False})
    found: Fitted = _kept(state, alone, "laws", lambda runs, progress: _fit_all(alone, runs, progress))
    parts: list[Section | None] = [laws_sections.laws(found.fits, found.runs, found.limits)]
    if found.fits:
        parts.append(laws_sections.residuals(found.fits, found.runs))
    if found.fits and query.parameter:
        title = f"Profile of {query.parameter}"
        parts.append(_or_why(title, lambda: laws_sections.profiles(title, _profiles(state, query, found))))
    if found.fits and query.compare:
        parts.append(_or_why("On runs that the laws did not see", lambda: _held_out(state, query, found)))
    parameters = dict.fromkeys(name for fit in found.fits for name in fit.law.parameter_names)
    chosen = {
        "laws": list(dict.fromkeys(fit.law.name for fit in found.fits)),
        "targets": list(dict.fromkeys(fit.target for fit in found.fits)),
    }
    return sections(parts) | {"parameters": list(parameters), "chosen": chosen}


def _or_why(title: str, make: Callable[[], Section]) -> Section:
    """A section, or why there is none: what cannot be shown takes nothing else away."""
    try:
        return make()
    except QueueFull:
        raise
    except (InputError, DomainError) as error:
        return Section(title, "none", warning=[error.message, *([error.hint] if error.hint else [])])


def _profiles(state: AppState, query: LawsPageQuery, found: Fitted) -> list[Profile]:
    """A profile for every fit whose law has the parameter."""
    fits = [fit for fit in found.fits if query.parameter in fit.law.parameter_names]
    if not fits:
        known = dict.fromkeys(name for fit in found.fits for name in fit.law.parameter_names)
        raise InputError(
            f"parameter: {query.parameter!r} is in none of the laws", hint=f"parameters: {', '.join(known) or 'none'}"
        )
    # One after the other, each a piece of work of its own: what is done is kept.
    return [_one_profile(state, query, fit, found.runs) for fit in fits]


def _one_profile(state: AppState, query: LawsPageQuery, fit: Fit, runs: Runs) -> Profile:
    how = query.model_dump_json(include={"metric", "objective", "delta", "seed"})
    key = f"profile {fit.law.name} {fit.target} {query.parameter} {runs.hash} {how}"
    return state.jobs.result(
        key, lambda progress: fitting.profile(fit, runs, query.parameter, seed=query.seed, progress=progress)
    )


def _held_out(state: AppState, query: LawsPageQuery, found: Fitted) -> Section:
    given = query.model_dump(include={"source", "metric", "objective", "delta", "seed"})
    names = tuple(dict.fromkeys(fit.law.name for fit in found.fits))
    targets = tuple(dict.fromkeys(fit.target for fit in found.fits if fit.target))
    question = CompareQuery.model_validate({**given, "laws": names, "targets": targets})
    return replace(law_sections.held_out(_compared(state, question)), title="On runs that the laws did not see")


def _example(state: AppState, query: Query) -> Response:
    return Response(
        laws_sections.example(),
        media_type="text/csv",
        headers={"content-disposition": 'attachment; filename="example-runs.csv"'},
    )


PAGE = Page(
    "laws",
    "Laws",
    "Laws fitted to your runs: parameters, residuals, and what the runs do not identify.",
    (
        Endpoint("/api/tables", SourceQuery, _description, "A summary of a table of runs, without a fit."),
        Endpoint("/api/fit", FitQuery, _fit, "A law fitted to runs: parameters, 90 % intervals, notes, draws."),
        Endpoint(
            "/api/profile",
            ProfileQuery,
            _profile,
            "The objective along one parameter, with all other parameters refitted, and its 90 % interval.",
        ),
        Endpoint("/api/compare", CompareQuery, _compare, "Laws scored on runs that were left out of their fits."),
        Endpoint("/api/example.csv", Query, _example, "A small table of runs, computed from a known law."),
        Endpoint("/view/laws", LawsPageQuery, _view, "What the page Laws shows."),
    ),
)
