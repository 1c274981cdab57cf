"""The page Laws: laws fitted to a table of runs, what they leave over, and what the runs identify."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from babelscale import fitting, laws
from babelscale.errors import DomainError, InputError
from babelscale.fitting import Comparison, Fit, Profile
from babelscale.reporting.report import law_sections
from babelscale.reporting.report.document import Section
from babelscale.runs import Axis, Metric, Runs
from babelscale.web.endpoints import Endpoint, Page
from babelscale.web.pages import laws_sections
from babelscale.web.questions import Codes, Positive, Question
from babelscale.web.sections import sections
from babelscale.web.served import PUBLISHED, SERVED, Served, stamp
from babelscale.web.work import Busy, Progress

MOST_TARGETS, MOST_LAWS, MOST_RESAMPLES = 6, len(laws.LAWS), 1000
_LAWS = ", ".join(laws.LAWS)
_METRICS = "bits_per_byte, nats_per_token or unigram_normalised (default: the first that the table holds)"


class SourceQuestion(Question):
    """Which runs."""

    source: Annotated[str, Field(description="served, or the name of an upload", examples=["served"])] = ""


class _How(SourceQuestion):
    """What a fit takes besides its law and target."""

    metric: Annotated[Metric | None, Field(description=_METRICS)] = None
    objective: Annotated[Literal["huber", "lad", "squares"], Field(description="huber, lad or squares")] = "huber"
    delta: Annotated[Positive, Field(description="Huber's threshold on log loss")] = 1e-3
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, description="of the resamples")] = 0

    @property
    def how(self) -> dict[str, Any]:
        return {"metric": self.metric, "objective": self.objective, "delta": self.delta, "seed": self.seed}


class FitQuestion(_How):
    """What `babelscale.fit` takes."""

    law: Annotated[str, Field(description=f"one of {_LAWS}", examples=["chinchilla"])] = "chinchilla"
    target: Annotated[str, Field(description="language whose loss is fitted (default: the only one measured)")] = ""
    resamples: Annotated[int, Field(ge=0, le=MOST_RESAMPLES, description="refits behind the intervals")] = 200


class ProfileQuestion(FitQuestion):
    """What `babelscale.profile` takes."""

    parameter: Annotated[str, Field(description="a parameter of the law, such as alpha", examples=["alpha"])]


class CompareQuestion(_How):
    """What `babelscale.compare` takes."""

    laws: Annotated[Codes, Field(description=f"of {_LAWS}", examples=["chinchilla,multilingual"])] = laws_sections.USUAL
    targets: Annotated[Codes, Field(description="languages (default: every measured one)")] = ()
    axes: Annotated[Codes, Field(description="of random, params, tokens, compute, mixture (default: all)")] = ()


class PageQuestion(_How):
    """What the page shows."""

    targets: Annotated[
        Codes, Field(description="languages (default: the one with most losses)", max_length=MOST_TARGETS)
    ] = ()
    laws: Annotated[Codes, Field(description=f"of {_LAWS}", max_length=MOST_LAWS)] = ()
    parameter: Annotated[str, Field(description="of which the profile is shown")] = ""
    compare: Annotated[bool, Field(description="true or false: also compare on held-out runs")] = False


@dataclass(frozen=True)
class Fitted:
    """Fits of one reading of the runs, and why there are no others."""

    runs: Runs
    fits: tuple[Fit, ...]
    limits: tuple[str, ...]


def _kept(served: Served, asked: _How, what: str, make: Callable[[Runs, Progress], Any]) -> Any:
    """What `make(runs, progress)` gives, worked on in the background and kept while the runs stay the same."""
    source = asked.source or served.usual
    place = served.place(source)
    key = f"{what} {source} {stamp(place)} {asked.model_dump_json()}"
    return served.work.result(key, lambda progress: make(Runs.read(place), progress))


def _law(asked: FitQuestion, runs: Runs) -> laws.ScalingLaw:
    return laws.by_name(asked.law, runs.target(asked.target or None), runs)


def _fit(served: Served, asked: FitQuestion) -> dict[str, Any]:
    def make(runs: Runs, progress: Progress) -> dict[str, Any]:
        law = _law(asked, runs)
        return fitting.fit(law, runs, **asked.how, resamples=asked.resamples, progress=progress).to_dict()

    return _kept(served, asked, "fit", make)


def _profile(served: Served, asked: ProfileQuestion) -> dict[str, Any]:
    def make(runs: Runs, progress: Progress) -> Profile:
        law = _law(asked, runs)
        return fitting.profile(law, runs, asked.parameter, **asked.how, resamples=asked.resamples, progress=progress)

    return _kept(served, asked, "profile", make).to_dict()


def _compare(served: Served, asked: CompareQuestion) -> dict[str, Any]:
    return _compared(served, asked).to_dict()


def _compared(served: Served, asked: CompareQuestion) -> Comparison:
    axes: list[Axis] = list(asked.axes)  # pyright: ignore[reportAssignmentType]

    def make(runs: Runs, progress: Progress) -> Comparison:
        return fitting.compare(
            asked.laws, runs, targets=asked.targets or None, axes=axes or None, **asked.how, progress=progress
        )

    return _kept(served, asked, "compare", make)


def _described(served: Served, asked: SourceQuestion) -> dict[str, Any]:
    """What the page's controls offer for a source."""
    source = asked.source or served.usual
    if source == PUBLISHED or (source == SERVED and served.saved_fits):
        return {"source": source, "runs": 0, "languages": [], "targets": [], "metric": None, "laws": list(laws.LAWS)}
    runs = served.runs(source)
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


def _fit_all(asked: PageQuestion, runs: Runs, progress: Progress) -> Fitted:
    targets = [runs.target(code) for code in asked.targets] or _targets(runs)[:1]
    names = asked.laws or (laws_sections.USUAL if len(runs.languages) > 1 else laws_sections.USUAL[:1])
    if unknown := [name for name in names if name not in laws.LAWS]:
        raise InputError(f"laws: no law is called {unknown[0]!r}", hint=f"laws: {_LAWS}")
    fits: list[Fit] = []
    limits: list[str] = []
    for target in targets:
        for name in names:
            progress(f"{name} law of {target}", len(fits) + len(limits), len(targets) * len(names))
            try:
                fits.append(fitting.fit(laws.by_name(name, target, runs), runs, **asked.how))
            except (InputError, DomainError) as error:
                limits.append(f"No {name} law of {target}: {error.message}")
    return Fitted(runs, tuple(fits), tuple(limits))


def _shown(served: Served, asked: PageQuestion) -> dict[str, Any]:
    source = asked.source or served.usual
    if source == PUBLISHED:
        return sections(laws_sections.without_runs())
    if source == SERVED and served.saved_fits:
        return sections([laws_sections.saved(served.fits(source)), laws_sections.without_runs()[0]])
    alone = asked.model_copy(update={"parameter": "", "compare": False})
    found: Fitted = _kept(served, alone, "laws", lambda runs, progress: _fit_all(alone, runs, progress))
    parts: list[Section | None] = [laws_sections.laws(found.fits, found.runs, found.limits)]
    if found.fits:
        parts.append(laws_sections.residuals(found.fits, found.runs))
    if found.fits and asked.parameter:
        title = f"Profile of {asked.parameter}"
        parts.append(_or_why(title, lambda: laws_sections.profiles(title, _profiles(served, asked, found))))
    if found.fits and asked.compare:
        parts.append(_or_why("On runs that the laws did not see", lambda: _held_out(served, asked, found)))
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
    except Busy:
        raise
    except (InputError, DomainError) as error:
        return Section(title, "none", warning=[error.message, *([error.hint] if error.hint else [])])


def _profiles(served: Served, asked: PageQuestion, found: Fitted) -> list[Profile]:
    """A profile for every fit whose law has the parameter."""
    fits = [fit for fit in found.fits if asked.parameter in fit.law.parameter_names]
    if not fits:
        known = dict.fromkeys(name for fit in found.fits for name in fit.law.parameter_names)
        raise InputError(
            f"parameter: {asked.parameter!r} is in none of the laws", hint=f"parameters: {', '.join(known) or 'none'}"
        )
    # One after the other, each a piece of work of its own: what is done is kept.
    return [_one_profile(served, asked, fit, found.runs) for fit in fits]


def _one_profile(served: Served, asked: PageQuestion, fit: Fit, runs: Runs) -> Profile:
    how = asked.model_dump_json(include={"metric", "objective", "delta", "seed"})
    key = f"profile {fit.law.name} {fit.target} {asked.parameter} {runs.hash} {how}"
    return served.work.result(
        key, lambda progress: fitting.profile(fit, runs, asked.parameter, seed=asked.seed, progress=progress)
    )


def _held_out(served: Served, asked: PageQuestion, found: Fitted) -> Section:
    given = asked.model_dump(include={"source", "metric", "objective", "delta", "seed"})
    names = tuple(dict.fromkeys(fit.law.name for fit in found.fits))
    targets = tuple(dict.fromkeys(fit.target for fit in found.fits if fit.target))
    question = CompareQuestion.model_validate({**given, "laws": names, "targets": targets})
    return replace(law_sections.held_out(_compared(served, question)), title="On runs that the laws did not see")


def _example(served: Served, asked: Question) -> Response:
    return Response(
        laws_sections.example(),
        media_type="text/csv",
        headers={"content-disposition": 'attachment; filename="example-runs.csv"'},
    )


PAGE = Page(
    "laws",
    "Laws",
    "Laws fitted to your runs: what they say, what they leave over, and what the runs cannot tell.",
    (
        Endpoint("/api/tables", SourceQuestion, _described, "A table of runs in a few numbers, without any fit."),
        Endpoint("/api/fit", FitQuestion, _fit, "A law fitted to runs: parameters, 90 % intervals, notes, draws."),
        Endpoint(
            "/api/profile",
            ProfileQuestion,
            _profile,
            "The objective along one parameter with all others refitted, and the 90 % interval that it gives.",
        ),
        Endpoint("/api/compare", CompareQuestion, _compare, "Laws scored on runs that their fit has not seen."),
        Endpoint("/api/example.csv", Question, _example, "A small table of runs, computed from a known law."),
        Endpoint("/view/laws", PageQuestion, _shown, "What the page Laws shows."),
    ),
)
