"""The page Plan: size and mixture for a budget, as the controls move; from scratch or from a checkpoint."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator
from starlette.responses import Response

from babelscale.charts import style
from babelscale.errors import InputError
from babelscale.formatting import count, flops, interval, number
from babelscale.planning import Checkpoint, Decision, Plan, decide, design, solve_plan
from babelscale.planning.request import CheckpointOptions, PlanRequest
from babelscale.reporting.report.document import Section, Table
from babelscale.reporting.report.plan_section import plan_section
from babelscale.reporting.report.study_analysis import BUDGET
from babelscale.web.app_state import PUBLISHED, AppState
from babelscale.web.endpoints import Endpoint, Page
from babelscale.web.query import Query
from babelscale.web.sections import sections

# A plan over more languages than any study has trained on says nothing, and would keep the machine busy.
MOST_LANGUAGES, MOST_DRAWS = 420, 400
# Laws whose crossover is told one by one.
_MOST_CROSSOVERS = 12


class PlanQuery(Query, PlanRequest):
    """The options of a plan, and where its laws come from."""

    source: Annotated[str, Field(description="published, served, or the name of an uploaded table")] = ""

    @field_validator("languages")
    @classmethod
    def _languages(cls, value: Sequence[str] | None) -> Sequence[str] | None:
        if value and len(value) > MOST_LANGUAGES:
            raise ValueError(f"at most {MOST_LANGUAGES} languages")
        return value

    @field_validator("draws")
    @classmethod
    def _draws(cls, value: int) -> int:
        if value > MOST_DRAWS:
            raise ValueError(f"at most {MOST_DRAWS} draws")
        return value


class PlanPageQuery(PlanQuery, CheckpointOptions):
    """A plan, and a checkpoint to go on from; the languages and the budget of served laws may be omitted."""

    start: Annotated[Literal["scratch", "checkpoint"], Field(description="scratch or checkpoint")] = "scratch"


class ConfigurationQuery(PlanQuery):
    """A plan as a design to train."""

    vocabulary: Annotated[int, Field(ge=256, le=2_000_000, description="rows of the tokenizer")] = 64_512


def plan_of(state: AppState, query: PlanQuery) -> Plan:
    """The plan of a query."""
    source = query.source or state.default_source
    if source == PUBLISHED:
        return solve_plan(None, query.model_copy(update={"published": True}))
    languages = tuple(dict.fromkeys((*(query.languages or ()), *(query.helpers or ()))))
    request = query.model_copy(update={"languages": languages or None, "helpers": None})
    return solve_plan(state.fits(source, query.languages or ()), request)


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
    fits = state.fits(query.source or state.default_source, query.languages or ())
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
        fits = state.fits(source, query.languages or ())[:_MOST_CROSSOVERS]
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
    PlanPageQuery,
)
