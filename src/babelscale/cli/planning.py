"""Commands that decide: plan, expand, decide, modular."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from babelscale.cli.options import Json, Published, Seed, codes_of, numbers, show
from babelscale.errors import InputError


def plan(
    *sources: Path,
    compute: float | None = None,
    params: float | None = None,
    tokens: float | None = None,
    loss: float | None = None,
    languages: str | None = None,
    helpers: str | None = None,
    published: Published = False,
    unique: str | None = None,
    weights: str | None = None,
    law: str = "adaptive-transfer",
    objective: Literal["mean", "worst", "regret"] = "mean",
    robust: Literal["mean", "cvar"] | None = None,
    tail: float = 0.1,
    min_tokens: str | None = None,
    max_tokens: str | None = None,
    max_epochs: str | None = None,
    min_share: str | None = None,
    max_share: str | None = None,
    inference_tokens: float = 0.0,
    memory: float | None = None,
    bytes_per_param: float = 22.0,
    ladder: str | None = None,
    draws: int = 200,
    baselines: bool = True,
    save: Path | None = None,
    chart: Path | None = None,
    config: Path | None = None,
    vocabulary: int = 64_512,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Which model size, and how many tokens of which languages, for a compute budget or a loss to reach.

    Examples:
        babelscale plan --languages sw,yo,ha --compute 1e21 --published
        babelscale plan studies/quickstart --languages sv,da --compute 1e14 --max-epochs 4
        babelscale plan --languages sw,hi --loss 0.95 --inference-tokens 1e12 --config plan.toml

    Parameters
    ----------
    sources
        Saved fits (one a target language), or a folder of runs to fit first; none means --published.
    compute
        Training budget in FLOPs.
    params
        N, where the size is given; alone: the compute for which it is the best size.
    tokens
        D_tot, where it is given; alone: the compute for which it is the best.
    loss
        The objective to reach, with the least compute (or with --params or --tokens the least of the other).
    languages
        Languages that may be trained on, helpers included, separated by commas.
    helpers
        With --published: languages that may be trained on for the others' sake.
    unique
        Unique tokens you have, where they differ from the runs' or the table's: sw=7.7e8,yo=5e7.
    weights
        How much each language's loss matters (default equal): sw=2,yo=1.
    law
        The law fitted when a folder of runs is given.
    objective
        The weighted mean loss, the worst language's loss, or the worst regret.
    robust
        Plan for the mean over draws of the laws, or for the mean of their worst tail.
    tail
        The share of draws that is the tail.
    min_tokens
        Bounds: one number for every language, or by language as sw=1e9,yo=1e8.
    max_tokens
        Likewise.
    max_epochs
        Likewise.
    min_share
        Likewise.
    max_share
        Likewise.
    inference_tokens
        Tokens that will be served, charged at 2 N FLOPs each.
    memory
        Bytes that the model may fill at --bytes-per-param (22 while training, 2 when served at half width).
    ladder
        Sizes to choose from: atlas for the study's twenty, or 1e8,3e8,1e9.
    draws
        SeparableForm of the laws, each planned anew for the intervals.
    baselines
        Compare with simpler mixtures.
    chart
        Write the plan as a chart here (.html, .svg, .png, .pdf or .json).
    config
        Write a design here that `babelscale study run` trains, with tokens and sampling rates by language.
    vocabulary
        Of the design's tokenizer.
    """
    from babelscale import planning

    codes = codes_of(languages)
    bounds = {
        "min_tokens": min_tokens,
        "max_tokens": max_tokens,
        "max_epochs": max_epochs,
        "min_share": min_share,
        "max_share": max_share,
    }
    given: dict[str, Any] = {
        "compute": compute,
        "params": params,
        "tokens": tokens,
        "loss": loss,
        "languages": codes,
        "seed": seed,
        "weights": numbers(weights, "--weights"),
        "unique_tokens": numbers(unique, "--unique"),
        "objective": objective,
        "robust": robust,
        "tail": tail,
        "inference_tokens": inference_tokens,
        "memory": memory,
        "bytes_per_param": bytes_per_param,
        "ladder": _ladder(ladder),
        "draws": draws,
        "baselines": baselines,
        "helpers": codes_of(helpers),
        **{name: _bound(text, f"--{name.replace('_', '-')}") for name, text in bounds.items()},
    }
    result = planning.plan(**given, **_basis(sources, law, codes, published))
    if config is not None:
        from babelscale.planning import design

        design.write(result, config, name=config.stem, vocabulary=vocabulary)
    if chart is not None:
        from babelscale import charts

        charts.save(charts.plan(result), chart)
    show(result, json, save)


def _basis(sources: tuple[Path, ...], law: str, codes: list[str] | None, published: bool) -> dict[str, Any]:
    """The fits to plan from, or `published`."""
    if not (published or not sources):
        return {"fits": _fits(sources, law, codes)}
    if sources:
        raise InputError("--published takes no fits or runs", hint="leave one of them out")
    if not codes:
        raise InputError("a plan from published figures needs --languages", hint="--languages sw,yo,ha")
    return {"published": True}


def _bound(text: str | None, option: str) -> dict[str, float] | float | None:
    """One number, or numbers by language."""
    if text is None or "=" in text:
        return numbers(text, option)
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{option} {text!r}", hint="write a number, or numbers by language as sw=2,yo=1") from None


def _ladder(text: str | None) -> bool | list[float]:
    if text is None or text == "atlas":
        return text is not None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--ladder {text!r}", hint="write atlas, or sizes such as 1e8,3e8,1e9") from None


def _fits(sources: tuple[Path, ...], law: str, codes: list[str] | None) -> list[Any]:
    from babelscale import fitting, laws
    from babelscale.runs import Runs

    fits = []
    for source in sources:
        saved = [source] if source.suffix == ".json" else sorted(source.glob("*.json")) if _holds_fits(source) else []
        if saved:
            fits += [fitting.Fit.load(path) for path in saved]
            continue
        runs = Runs.read(source)
        targets = [code for code in runs.targets if codes is None or code in codes]
        if not targets:
            raise InputError(f"{source}: no loss on any of {codes}", hint=f"measured: {', '.join(runs.targets)}")
        fits += [fitting.fit(laws.by_name(law, target, runs), runs) for target in targets]
    return fits


def _holds_fits(folder: Path) -> bool:
    """Whether a folder is what `babelscale fit --save` left, not a study or a folder of runs."""
    return folder.is_dir() and not (folder / "runs").exists() and not any(folder.glob("runs.*"))


def expand(
    *,
    from_languages: Annotated[str, Parameter(name="--from")],
    to_languages: Annotated[str, Parameter(name="--to")],
    params: float | None = None,
    tokens: float | None = None,
    fit: Path | None = None,
    matrix: Path | None = None,
    candidates: str | None = None,
    save: Path | None = None,
    json: Json = False,
) -> None:
    """From K to rK languages at equal loss: how much larger a model, how many more tokens, how much more compute.

    Examples:
        babelscale expand --from 4 --to 16
        babelscale expand --from sw,en --to 6 --params 2e9 --tokens 3e11

    Parameters
    ----------
    from_languages
        How many there are, or which (then the first to add are told too).
    to_languages
        How many there shall be.
    params
        N of the model to expand, for absolute numbers; goes with --tokens.
    tokens
        D_tot of the model to expand, over all languages.
    fit
        A saved fit of the multilinguality law (default: the study's printed exponents).
    matrix
        Transfer scores, JSON or CSV, that rank the languages to add (default: the study's printed ones).
    candidates
        Languages that may be added, separated by commas (default: all of the matrix).
    """
    from babelscale import planning
    from babelscale.fitting import Fit

    have = None if from_languages.strip().lstrip("-").isdigit() else codes_of(from_languages) or []
    first: tuple[Any, ...] = ()
    if have is not None:
        from babelscale.published.transfer import ROUNDING, transfer_matrix
        from babelscale.transfer import TransferMatrix

        scores = TransferMatrix.load(matrix) if matrix else transfer_matrix()
        rounding = 0.0 if matrix else ROUNDING
        first = planning.rank_candidates(scores, have, codes_of(candidates), rounding=rounding)
    count = len(have) if have is not None else _whole(from_languages, "--from")
    result = planning.expand(
        count,
        _whole(to_languages, "--to"),
        params=params,
        tokens=tokens,
        fit=Fit.load(fit) if fit else None,
        first=first,
    )
    show(result, json, save)


def _whole(text: str, option: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{option} {text!r}", hint="a count of languages is a whole number, 1 or more") from None


def decide(
    runs: Path | None = None,
    *,
    params: float | None = None,
    tokens: float | None = None,
    compute: float | None = None,
    language: str | None = None,
    fit: Path | None = None,
    checkpoint_params: float | None = None,
    checkpoint_tokens: str | None = None,
    charge: bool = False,
    mixture: str | None = None,
    unique: str | None = None,
    save: Path | None = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Pretrain or finetune: start over, or continue a multilingual checkpoint, on this budget of new training.

    Examples:
        babelscale decide --params 2e9 --tokens 100e9 --language sw
        babelscale decide studies/laptop --params 1e6 --tokens 5e6 --language sv
        babelscale decide --fit fits/sw.json --checkpoint-params 1e9 --checkpoint-tokens sw=1e9,en=1e11 --tokens 5e9

    Parameters
    ----------
    runs
        A table with runs from scratch and continued ones (default: the study's printed crossover).
    params
        N of the model; with a checkpoint, the size that would start over (default: the checkpoint's).
    tokens
        New training tokens that can be paid for; or give --compute.
    compute
        The same budget in FLOPs.
    fit
        A saved fit of the language's law, which tells both losses for a checkpoint.
    checkpoint_params
        N of the checkpoint.
    checkpoint_tokens
        What it has seen: sw=1e9,en=1e11.
    charge
        Let starting over spend the checkpoint's compute as well.
    mixture
        Shares of the new tokens when continuing (default: the language alone): sw=9,en=1.
    unique
        Unique tokens by language, where they differ from the runs'.
    """
    from babelscale import planning
    from babelscale.fitting import Fit
    from babelscale.runs import Runs

    seen = numbers(checkpoint_tokens, "--checkpoint-tokens")
    if (seen is None) != (checkpoint_params is None):
        raise InputError("--checkpoint-params and --checkpoint-tokens go together", hint="give both or neither")
    found = planning.decide(
        params,
        tokens=tokens,
        compute=compute,
        language=language,
        runs=Runs.read(runs) if runs else None,
        fit=Fit.load(fit) if fit else None,
        checkpoint=planning.Checkpoint(checkpoint_params, seen) if checkpoint_params and seen else None,
        charge=charge,
        mixture=numbers(mixture, "--mixture"),
        unique_tokens=numbers(unique, "--unique"),
        seed=seed,
    )
    show(found, json, save)


def modular(
    *sources: Path,
    compute: float,
    languages: str | None = None,
    published: Published = False,
    unique: str | None = None,
    weights: str | None = None,
    law: str = "adaptive-transfer",
    models: int | None = None,
    memory: str | None = None,
    pivot: str | None = None,
    split: Literal["pairs", "hub"] | None = None,
    matrix: Path | None = None,
    most: int = 300,
    save: Path | None = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """One model for all languages, or several that share the same training compute.

    Examples:
        babelscale modular --languages sw,hi,en,fr --compute 1e21
        babelscale modular --languages sw,hi,en --compute 1e21 --pivot en --split hub

    Parameters
    ----------
    sources
        Saved fits or a folder of runs, as in `babelscale plan`; none means --published.
    compute
        Of all models together, in FLOPs.
    languages
        Languages, separated by commas.
    unique
        Unique tokens you have: sw=7.7e8,yo=5e7.
    weights
        How much each language's loss matters.
    models
        How many models (default: as many as help).
    memory
        Bytes that all models may fill when served at 2 bytes a parameter; same for what one model would fill.
    pivot
        The language of a translation-style split.
    split
        pairs: a model for the pivot and each other language; hub: the pivot's own model and a translator of all.
    matrix
        Transfer scores that guide the search.
    most
        Partitions to try at most.
    """
    from babelscale import planning
    from babelscale.transfer import TransferMatrix

    codes = codes_of(languages)
    room: float | bool | None = None
    if memory is not None:
        bound = True if memory == "same" else _bound(memory, "--memory")
        if isinstance(bound, dict):
            raise InputError(f"--memory {memory!r}", hint="write bytes, or same")
        room = bound
    result = planning.partition_models(
        compute=compute,
        languages=codes,
        weights=numbers(weights, "--weights"),
        unique_tokens=numbers(unique, "--unique"),
        models=models,
        memory=room,
        pivot=pivot,
        split=split,
        matrix=TransferMatrix.load(matrix) if matrix else None,
        most=most,
        seed=seed,
        **_basis(sources, law, codes, published),
    )
    show(result, json, save)
