"""Commands that decide: plan, expand, decide, modular; their options are declared in `planning.request`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from babelscale.cli.options import Json, one_line_descriptions, read_options, read_runs, show, takes_options
from babelscale.errors import InputError
from babelscale.planning.request import (
    CheckpointDecisionRequest,
    ExpansionRequest,
    PartitionRequest,
    PlanOptions,
    PlanRequest,
)

if TYPE_CHECKING:
    from babelscale.fitting import Fit

LAW = "adaptive-transfer"
Request = TypeVar("Request", bound=PlanOptions)


@one_line_descriptions
@takes_options(PlanRequest)
def plan(
    *sources: Path,
    law: str = LAW,
    save: Path | None = None,
    chart: Path | None = None,
    config: Path | None = None,
    vocabulary: int = 64_512,
    json: Json = False,
    **options: Any,
) -> None:
    """Plan the size of a model and the tokens of each language, for a compute budget or a loss to reach.

    Examples:
        babelscale plan --languages sw,yo,ha --compute 1e21 --published
        babelscale plan studies/quickstart --languages sv,da --compute 1e14 --max-epochs 4
        babelscale plan --languages sw,hi --loss 0.95 --inference-tokens 1e12 --config plan.toml

    Parameters
    ----------
    sources
        Saved fits (one a target language), or a folder of runs to fit first; without them the published figures are
        used.
    law
        The law to fit when a folder of runs is given.
    save
        Write the plan here as JSON.
    chart
        Write the plan here as a chart (.html, .svg, .png, .pdf or .json).
    config
        Write a design here that `babelscale study run` trains, with tokens and sampling rates by language.
    vocabulary
        Vocabulary of the design's tokenizer.
    """
    from babelscale.planning import solve_plan

    request, fits = _laws(PlanRequest, options, sources, law)
    result = solve_plan(fits, request)
    if config is not None:
        from babelscale.planning import design

        design.write(result, config, name=config.stem, vocabulary=vocabulary)
    if chart is not None:
        from babelscale import charts

        charts.save(charts.plan(result), chart)
    show(result, json, save)


def _laws(
    model: type[Request], options: dict[str, Any], sources: tuple[Path, ...], law: str
) -> tuple[Request, "list[Fit] | None"]:
    """The request, and the fits to plan from; None for the published figures."""
    if sources and options.get("published"):
        raise InputError("--published takes no fits or runs", hint="give one of the two")
    request = read_options(model, options | {"published": not sources})
    if request.published and not request.languages:
        raise InputError("a plan from published figures needs --languages", hint="--languages sw,yo,ha")
    return request, _fits(sources, law, request.languages) if sources else None


def _fits(sources: tuple[Path, ...], law: str, codes: Sequence[str] | None) -> "list[Fit]":
    from babelscale import fitting, laws

    fits = []
    for source in sources:
        saved = [source] if source.suffix == ".json" else sorted(source.glob("*.json")) if _holds_fits(source) else []
        if saved:
            fits += [fitting.Fit.load(path) for path in saved]
            continue
        runs = read_runs(source)
        targets = [code for code in runs.targets if codes is None or code in codes]
        if not targets:
            raise InputError(
                f"{source}: no loss on any of {', '.join(codes or ())}", hint=f"measured: {', '.join(runs.targets)}"
            )
        fits += [fitting.fit(laws.by_name(law, target, runs), runs) for target in targets]
    return fits


def _holds_fits(folder: Path) -> bool:
    """Whether a folder is what `babelscale fit --save` wrote, not a study or a folder of runs."""
    return folder.is_dir() and not (folder / "runs").exists() and not any(folder.glob("runs.*"))


@one_line_descriptions
@takes_options(ExpansionRequest)
def expand(
    *, fit: Path | None = None, matrix: Path | None = None, save: Path | None = None, json: Json = False, **options: Any
) -> None:
    """Compute how much larger a model, and how many more tokens, keep the loss when languages are added.

    Examples:
        babelscale expand --from 4 --to 16
        babelscale expand --from sw,en --to 6 --params 2e9 --tokens 3e11

    Parameters
    ----------
    fit
        A saved fit of the multilinguality law (default: the published exponents).
    matrix
        Transfer scores, JSON or CSV, that rank the languages to add (default: the published scores).
    save
        Write the result here as JSON.
    """
    from babelscale import planning
    from babelscale.fitting import Fit

    request = read_options(ExpansionRequest, options)
    first: tuple[planning.CandidateLanguage, ...] = ()
    if request.codes:
        from babelscale.published.transfer import ROUNDING, transfer_matrix
        from babelscale.transfer import TransferMatrix

        scores = TransferMatrix.load(matrix) if matrix else transfer_matrix()
        rounding = 0.0 if matrix else ROUNDING
        first = planning.rank_candidates(scores, request.codes, request.candidates, rounding=rounding)
    result = planning.expand(
        request.count,
        request.to,
        params=request.params,
        tokens=request.tokens,
        fit=Fit.load(fit) if fit else None,
        first=first,
    )
    show(result, json, save)


@one_line_descriptions
@takes_options(CheckpointDecisionRequest)
def decide(
    runs: Path | None = None, *, fit: Path | None = None, save: Path | None = None, json: Json = False, **options: Any
) -> None:
    """Decide whether to continue a multilingual checkpoint or to start over, on a budget of new training.

    Examples:
        babelscale decide --params 2e9 --tokens 100e9 --language sw
        babelscale decide studies/laptop --params 1e6 --tokens 5e6 --language sv
        babelscale decide --fit fits/sw.json --checkpoint-params 1e9 --checkpoint-tokens sw=1e9,en=1e11 --tokens 5e9

    Parameters
    ----------
    runs
        A table with runs from scratch and continued runs (default: the published crossover).
    fit
        A saved fit of the law of the language, which predicts both losses for a checkpoint.
    save
        Write the decision here as JSON.
    """
    from babelscale.fitting import Fit
    from babelscale.planning.decision import solve_decision

    request = read_options(CheckpointDecisionRequest, options)
    sources = {"runs": read_runs(runs) if runs else None, "fit": Fit.load(fit) if fit else None}
    show(solve_decision(request, **sources), json, save)


@one_line_descriptions
@takes_options(PartitionRequest)
def modular(
    *sources: Path,
    law: str = LAW,
    matrix: Path | None = None,
    save: Path | None = None,
    json: Json = False,
    **options: Any,
) -> None:
    """Decide between one model for all languages and several that share the same training compute.

    Examples:
        babelscale modular --languages sw,hi,en,fr --compute 1e21
        babelscale modular --languages sw,hi,en --compute 1e21 --pivot en --split hub

    Parameters
    ----------
    sources
        Saved fits or a folder of runs, as in `babelscale plan`; without them the published figures are used.
    law
        The law to fit when a folder of runs is given.
    matrix
        Transfer scores that guide the search.
    save
        Write the result here as JSON.
    """
    from babelscale.planning.partition import solve_partition
    from babelscale.transfer import TransferMatrix

    request, fits = _laws(PartitionRequest, options, sources, law)
    show(solve_partition(fits, TransferMatrix.load(matrix) if matrix else None, request), json, save)
