"""The page Plan: size and mixture for a budget, as the controls move; from scratch or from a checkpoint."""

from typing import Annotated, Any, Literal

from pydantic import Field
from starlette.responses import Response

from babelscale.charts import style
from babelscale.errors import InputError
from babelscale.formatting import count, flops, interval, number
from babelscale.planning import Checkpoint, Decision, Plan, decide, design, plan
from babelscale.reporting.report.document import Section, Table
from babelscale.reporting.report.findings import plan_section
from babelscale.reporting.report.study_analysis import BUDGET
from babelscale.web.app_state import PUBLISHED, AppState
from babelscale.web.endpoints import Endpoint, Page
from babelscale.web.query import Bound, ByLanguage, Codes, NotNegative, Positive, Query, Sizes
from babelscale.web.sections import sections

# A plan over more languages than any study has trained on says nothing, and would keep the machine busy.
MOST_LANGUAGES, MOST_DRAWS = 420, 400
# Laws whose crossover is told one by one.
_MOST_CROSSOVERS = 12

_BOUND = "a number for every language, or by language as sw=1e9,yo=1e8"


class PlanQuery(Query):
    """What `babelscale.plan` takes, and where its laws come from."""

    languages: Annotated[
        Codes,
        Field(
            description="codes with commas between them, such as sw,yo,ha",
            min_length=1,
            max_length=MOST_LANGUAGES,
            examples=["sw,yo,ha"],
        ),
    ]
    source: Annotated[str, Field(description="published, served, or the name of an uploaded table")] = ""
    compute: Annotated[Positive | None, Field(description="FLOPs, such as 1e21", examples=["1e21"])] = None
    params: Annotated[Positive | None, Field(description="parameters (N), such as 2e9")] = None
    tokens: Annotated[Positive | None, Field(description="tokens in all (D), such as 1e11")] = None
    loss: Annotated[Positive | None, Field(description="the objective to reach, such as 0.95")] = None
    helpers: Annotated[Codes, Field(description="with published figures: languages that may help, as codes")] = ()
    weights: Annotated[ByLanguage | None, Field(description="how much each loss matters, such as sw=2,yo=1")] = None
    unique: Annotated[ByLanguage | None, Field(description="unique tokens by language, such as sw=7.7e8")] = None
    objective: Annotated[Literal["mean", "worst", "regret"], Field(description="mean, worst or regret")] = "mean"
    robust: Annotated[Literal["mean", "cvar"] | None, Field(description="mean or cvar over draws of the laws")] = None
    min_tokens: Annotated[Bound | None, Field(description=_BOUND)] = None
    max_tokens: Annotated[Bound | None, Field(description=_BOUND)] = None
    max_epochs: Annotated[Bound | None, Field(description=_BOUND)] = None
    min_share: Annotated[Bound | None, Field(description=_BOUND)] = None
    max_share: Annotated[Bound | None, Field(description=_BOUND)] = None
    inference_tokens: Annotated[NotNegative, Field(description="tokens that will be served, 2 N FLOPs each")] = 0.0
    memory: Annotated[Positive | None, Field(description="bytes that the model may fill in training")] = None
    ladder: Annotated[Sizes | None, Field(description="atlas, or sizes such as 1e8,3e8,1e9")] = None
    draws: Annotated[int, Field(ge=0, le=MOST_DRAWS, description=f"draws of the laws, 0 to {MOST_DRAWS}")] = 200
    baselines: Annotated[bool, Field(description="true or false: compare with simpler mixtures")] = True


class PlanPageQuery(PlanQuery):
    """A plan, and a checkpoint to go on from; the languages and the budget of served laws may be left out."""

    languages: Annotated[
        Codes,
        Field(
            description="codes such as sw,yo,ha (default: every language with a law of its own)",
            max_length=MOST_LANGUAGES,
            examples=["sw,yo,ha"],
        ),
    ] = ()
    start: Annotated[Literal["scratch", "checkpoint"], Field(description="scratch or checkpoint")] = "scratch"
    checkpoint_params: Annotated[Positive | None, Field(description="parameters of the checkpoint, such as 1e9")] = None
    checkpoint_tokens: Annotated[ByLanguage | None, Field(description="its tokens by language: sw=1e9,en=1e11")] = None


class ConfigurationQuery(PlanQuery):
    """A plan as a design to train."""

    vocabulary: Annotated[int, Field(ge=256, le=2_000_000, description="rows of the tokenizer")] = 64_512


def plan_of(state: AppState, query: PlanQuery) -> Plan:
    """The plan of a question."""
    given: dict[str, Any] = {
        name: getattr(query, name)
        for name in (
            "compute",
            "params",
            "tokens",
            "loss",
            "languages",
            "weights",
            "objective",
            "robust",
            "min_tokens",
            "max_tokens",
            "max_epochs",
            "min_share",
            "max_share",
            "inference_tokens",
            "memory",
            "draws",
            "baselines",
        )
    }
    given["unique_tokens"] = query.unique
    given["ladder"] = True if query.ladder == "atlas" else query.ladder or False
    source = query.source or state.default_source
    if source == PUBLISHED:
        return plan(**given, published=True, helpers=query.helpers)
    if query.helpers:
        given["languages"] = tuple(dict.fromkeys((*query.languages, *query.helpers)))
    return plan(state.fits(source, query.languages), **given)


def _plan(state: AppState, query: PlanQuery) -> dict[str, Any]:
    return plan_of(state, query).to_dict()


def _configuration(state: AppState, query: ConfigurationQuery) -> Response:
    text = design.training_design(plan_of(state, query), vocabulary=query.vocabulary)
    return Response(
        text, media_type="application/toml", headers={"content-disposition": 'attachment; filename="plan.toml"'}
    )


def _view(state: AppState, query: PlanPageQuery) -> dict[str, Any]:
    filled = _filled(state, query)
    query = query.model_copy(update=filled)
    made = plan_of(state, query)
    parts = [plan_section(made)]
    if query.start == "checkpoint":
        parts.append(_continued(state, query, made))
    told = {name: ",".join(value) if name == "languages" else flops(value) for name, value in filled.items()}
    return {**sections(parts), "filled": told}


def _filled(state: AppState, query: PlanPageQuery) -> dict[str, Any]:
    """What a page that was opened without a question asks: every fitted target, at BUDGET times the largest run."""
    if (query.source or state.default_source) == PUBLISHED:
        if not query.languages:
            raise InputError("languages: none given", hint="choose at least one, such as sw")
        return {}
    filled: dict[str, Any] = {}
    fits = state.fits(query.source or state.default_source, query.languages)
    if not query.languages:
        filled["languages"] = tuple(fit.target or "und" for fit in fits)
    if query.compute is None and query.params is None and query.tokens is None and query.loss is None:
        largest = [fit.range["compute"][1] for fit in fits if "compute" in fit.range]
        filled["compute"] = float(f"{BUDGET * max(largest):.3g}") if largest else 1e21
    return filled


def _continued(state: AppState, query: PlanPageQuery, made: Plan) -> Section:
    """Continuing a checkpoint against starting over, at the plan's compute."""
    source = query.source or state.default_source
    if source == PUBLISHED:
        languages = [code for code in made.losses if made.losses]
        found = [decide(made.params, compute=made.compute, language=code) for code in languages[:_MOST_CROSSOVERS]]
        said = "The study's UniMax checkpoint over 420 languages, continued on each language alone."
    else:
        if query.checkpoint_params is None or query.checkpoint_tokens is None:
            raise InputError(
                "checkpoint: its parameters and its tokens by language are not given",
                hint="such as 1e9 parameters, and sw=1e9,en=1e11",
            )
        checkpoint = Checkpoint(query.checkpoint_params, query.checkpoint_tokens)
        fits = state.fits(source, query.languages)[:_MOST_CROSSOVERS]
        found = [decide(made.params, compute=made.compute, fit=fit, checkpoint=checkpoint) for fit in fits]
        said = f"A checkpoint of {count(checkpoint.params)} parameters, continued on each language alone."
    rows = [_crossover(each) for each in found]
    columns = ("language", "better", "crossover (new tokens)", "interval", "crossover (FLOPs)", "gain of continuing")
    table = Table(f"At {flops(made.compute)} FLOPs of new training", columns, rows, (2, 3, 4, 5))
    notes = list(dict.fromkeys(note for each in found for note in each.notes))
    warning = list(dict.fromkeys(each.extrapolation for each in found if each.extrapolation))
    return Section(
        "From a checkpoint or from scratch", "continued", [said], warning=warning, tables=[table], notes=notes
    )


_ANSWERS = {"finetune": "continue the checkpoint", "pretrain": "start over", "either": "either, within the interval"}


def _crossover(found: Decision) -> list[str]:
    gain = found.losses.get("gain")
    told = "" if gain is None else f"{number(gain[0], '+.4f')} ({interval(gain[1], gain[2], '+.4f')})"
    return [
        style.name(found.language) if found.language else "all",
        _ANSWERS[found.answer],
        count(found.crossover_tokens),
        " to ".join(count(end) for end in found.crossover_tokens_interval),
        flops(found.crossover_compute),
        told,
    ]


PAGE = Page(
    "plan",
    "Plan",
    "How big a model, how many tokens of which languages, from scratch or from a checkpoint.",
    (
        Endpoint("/api/plan", PlanQuery, _plan, "A plan: size, tokens by language, expected losses.", heavy=True),
        Endpoint(
            "/api/plan.toml",
            ConfigurationQuery,
            _configuration,
            "A plan as a design that `babelscale study run` trains, with sampling rates for other trainers.",
            heavy=True,
        ),
        Endpoint("/view/plan", PlanPageQuery, _view, "What the page Plan shows.", heavy=True),
    ),
)
