"""The page Plan: model size and mixture for a budget, from scratch or from a checkpoint."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
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
from babelscale.web.query import Query, Source
from babelscale.web.responses import download, sections

# More languages than any study has trained on; more draws would occupy the server for long.
MOST_LANGUAGES, MOST_DRAWS = 420, 400
# Rows of the table of crossovers.
_MOST_CROSSOVERS = 12


class PlanQuery(Query, PlanRequest):
    """The options of a plan, and the source of its laws."""

    source: Source = ""

    limits: ClassVar = {"languages": MOST_LANGUAGES, "draws": MOST_DRAWS}


class PlanPageQuery(PlanQuery, CheckpointOptions):
    """A plan, and a checkpoint to compare with; with served laws, languages and budget may be omitted."""

    start: Annotated[
        Literal["scratch", "checkpoint"], Field(description="scratch, or checkpoint to compare with a checkpoint")
    ] = "scratch"


class ConfigurationQuery(PlanQuery):
    """A plan as a design for training."""

    vocabulary: Annotated[int, Field(ge=256, le=2_000_000, description="size of the vocabulary")] = 64_512


def plan_of(state: AppState, query: PlanQuery) -> Plan:
    """The plan of a query."""
    source = query.source or state.default_source
    if source == PUBLISHED:
        return solve_plan(None, query.model_copy(update={"published": True}))
    languages = tuple(dict.fromkeys((*(query.languages or ()), *(query.helpers or ()))))
    request = query.model_copy(update={"languages": languages or None, "helpers": None})
    return solve_plan(state.fits(source, query.languages or ()), request)


def _configuration(state: AppState, query: ConfigurationQuery) -> Response:
    text = design.training_design(plan_of(state, query), vocabulary=query.vocabulary)
    return download(text, "plan.toml", "application/toml")


def _view(state: AppState, query: PlanPageQuery) -> dict[str, Any]:
    filled = _filled(state, query)
    query = query.model_copy(update=filled)
    plan = plan_of(state, query)
    parts = [plan_section(plan)]
    if query.start == "checkpoint":
        parts.append(_continued(state, query, plan))
    texts = {name: ",".join(value) if name == "languages" else flops(value) for name, value in filled.items()}
    return {**sections(parts), "filled": texts}


def _filled(state: AppState, query: PlanPageQuery) -> dict[str, Any]:
    """Defaults for the options that the page leaves empty: all fitted targets, and BUDGET times the largest run."""
    if (query.source or state.default_source) == PUBLISHED:
        if not query.languages:
            raise InputError("languages: none given", hint="choose at least one, for example sw")
        return {}
    filled: dict[str, Any] = {}
    fits = state.fits(query.source or state.default_source, query.languages or ())
    if not query.languages:
        filled["languages"] = tuple(fit.target or "und" for fit in fits)
    if query.compute is None and query.params is None and query.tokens is None and query.loss is None:
        largest = [fit.range["compute"][1] for fit in fits if "compute" in fit.range]
        filled["compute"] = float(f"{BUDGET * max(largest):.3g}") if largest else 1e21
    return filled


def _continued(state: AppState, query: PlanPageQuery, plan: Plan) -> Section:
    """The comparison of continuing a checkpoint with training from scratch, at the compute of the plan."""
    source = query.source or state.default_source
    if source == PUBLISHED:
        languages = list(plan.losses)
        found = [decide(plan.params, compute=plan.compute, language=code) for code in languages[:_MOST_CROSSOVERS]]
        paragraph = "The UniMax checkpoint of the ATLAS study (420 languages) is continued on each language alone."
    else:
        if query.checkpoint_params is None or query.checkpoint_tokens is None:
            raise InputError(
                "checkpoint: its parameters or its tokens by language are not given",
                hint="for example 1e9 parameters, and sw=1e9,en=1e11",
            )
        checkpoint = Checkpoint(query.checkpoint_params, query.checkpoint_tokens)
        fits = state.fits(source, query.languages or ())[:_MOST_CROSSOVERS]
        found = [decide(plan.params, compute=plan.compute, fit=fit, checkpoint=checkpoint) for fit in fits]
        paragraph = f"A checkpoint of {count(checkpoint.params)} parameters is continued on each language alone."
    rows = [_crossover(each) for each in found]
    columns = ("language", "better", "crossover (new tokens)", "interval", "crossover (FLOPs)", "gain of continuing")
    table = Table(f"With {flops(plan.compute)} FLOPs of new training", columns, rows, (2, 3, 4, 5))
    notes = list(dict.fromkeys(note for each in found for note in each.notes))
    warning = list(dict.fromkeys(each.extrapolation for each in found if each.extrapolation))
    return Section(
        "From a checkpoint or from scratch", "continued", [paragraph], warning=warning, tables=[table], notes=notes
    )


_ANSWERS = {"finetune": "continue the checkpoint", "pretrain": "train from scratch", "either": "either one"}


def _crossover(found: Decision) -> list[str]:
    gain = found.losses.get("gain")
    gain_text = "" if gain is None else f"{number(gain[0], '+.4f')} ({interval(gain[1], gain[2], '+.4f')})"
    return [
        style.name(found.language) if found.language else "all",
        _ANSWERS[found.answer],
        count(found.crossover_tokens),
        " to ".join(count(end) for end in found.crossover_tokens_interval),
        flops(found.crossover_compute),
        gain_text,
    ]


PAGE = Page(
    "plan",
    "Plan",
    "The model size and the tokens of each language for your budget, from scratch or from a checkpoint.",
    (
        Endpoint(
            "/api/plan", PlanQuery, plan_of, "A plan: model size, tokens by language, and predicted losses.", heavy=True
        ),
        Endpoint(
            "/api/plan.toml",
            ConfigurationQuery,
            _configuration,
            "A plan as a design for `babelscale study run`, with sampling rates for other trainers.",
            heavy=True,
        ),
        Endpoint("/view/plan", PlanPageQuery, _view, "The content of the page Plan.", heavy=True),
    ),
    PlanPageQuery,
)
