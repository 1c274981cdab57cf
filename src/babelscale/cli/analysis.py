"""Commands that read tables: fit, compare, plan, expand, decide."""

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from babelscale.cli.options import Json, Published, Seed, bar, codes_of, dumps, metric_of, numbers, show
from babelscale.errors import InputError


def fit(
    runs: Path, *, law: str = "chinchilla", target: str | None = None, metric: str | None = None,
    objective: Literal["huber", "lad", "squares"] = "huber", delta: float = 1e-3, fix: str | None = None,
    share: str | None = None, resamples: int = 200, seed: Seed = 0, save: Path | None = None, json: Json = False,
) -> None:  # fmt: skip
    """Fit a scaling law to a table of runs: for one language, several, or all.

    Examples:
        babelscale fit studies/quickstart --law adaptive-transfer --target sv
        babelscale fit studies/quickstart --law adaptive-transfer --target all --share alpha,beta --save fits/

    Parameters
    ----------
    runs
        A folder of runs, a study's folder, or one table (CSV, Parquet, JSON lines) with params, tokens and loss.
    law
        chinchilla, data-constrained, multilingual, adaptive-transfer or multilinguality.
    target
        Languages whose loss is fitted, separated by commas, or all; may be left out where only one was measured.
    metric
        bits_per_byte, nats_per_token or unigram_normalised (default: the first that the table holds).
    objective
        What is minimised over log losses: Huber's loss, absolute or squared deviations.
    delta
        Huber's threshold on log loss.
    fix
        Parameters to hold: lambda=0.065,E=1.7.
    share
        Parameters with one value for all targets: alpha,beta.
    resamples
        Bootstrap refits over whole runs, for the intervals.
    save
        Write the fit to this JSON file, several to this folder; `babelscale plan` reads them.
    """
    from babelscale import fitting, laws
    from babelscale.runs import Runs

    table = Runs.read(runs)
    how: dict[str, Any] = {
        "metric": metric_of(metric), "objective": objective, "delta": delta, "fixed": numbers(fix, "--fix"),
        "resamples": resamples, "seed": seed,
    }  # fmt: skip
    wanted = list(table.targets) if target == "all" else codes_of(target) or [table.target()]
    if len(wanted) == 1 and share is None:
        form = laws.by_name(law, table.target(wanted[0]), table)
        show(fitting.fit(form, table, **how, progress=bar()), json, save)
        return
    fits = fitting.fit_many(law, table, wanted, shared=tuple(codes_of(share) or ()), **how, progress=bar())
    for code, found in fits.items():
        if save is not None:
            found.save(save / f"{law}-{code}.json")
        if not json:
            sys.stdout.write(f"{found}\n\n")
    if json:
        sys.stdout.write(dumps({"fits": {code: found.to_dict() for code, found in fits.items()}}) + "\n")


def profile(
    runs: Path, parameter: str, *, law: str = "adaptive-transfer", target: str | None = None,
    metric: str | None = None, resamples: int = 200, seed: Seed = 0, json: Json = False,
) -> None:  # fmt: skip
    """Show how well runs identify one parameter: the objective along it, all others refitted, and its interval.

    Example: babelscale profile studies/quickstart lambda --target sv

    Parameters
    ----------
    parameter
        A parameter of the law: lambda, R_D, tau_en, tau_other, alpha, ...
    """
    from babelscale import fitting, laws
    from babelscale.runs import Runs

    table = Runs.read(runs)
    form = laws.by_name(law, table.target(target), table)
    found = fitting.profile(
        form, table, parameter, metric=metric_of(metric), resamples=resamples, seed=seed, progress=bar()
    )
    show(found, json)


def compare(
    runs: Path, *, laws: str = "chinchilla,data-constrained,multilingual,adaptive-transfer", targets: str | None = None,
    axes: str | None = None, expanding: str = "compute", rungs: int = 5,
    objective: Literal["huber", "lad", "squares"] = "huber", metric: str | None = None, seed: Seed = 0,
    json: Json = False,
) -> None:  # fmt: skip
    """Compare laws by how well they predict runs left out of the fit.

    Left out are random runs, the largest N, the most tokens, the largest C, new mixtures; and, in a window that
    expands, all runs of more compute than those fitted.

    Example: babelscale compare studies/quickstart --targets sv

    Parameters
    ----------
    laws
        Names, separated by commas.
    targets
        Languages, separated by commas (default: every measured one).
    axes
        Of random,params,tokens,compute,mixture (default: all).
    expanding
        By what the window grows: of compute,params,tokens; or none.
    rungs
        The most windows.
    objective
        What fits minimise over log losses.
    metric
        bits_per_byte, nats_per_token or unigram_normalised.
    """
    from babelscale import fitting
    from babelscale.runs import Runs

    windows: list[Any] = [] if expanding == "none" else codes_of(expanding) or []
    chosen: list[Any] | None = codes_of(axes)
    found = fitting.compare(
        codes_of(laws) or [], Runs.read(runs), targets=codes_of(targets), axes=chosen, expanding=windows, rungs=rungs,
        objective=objective, metric=metric_of(metric), seed=seed, progress=bar(),
    )  # fmt: skip
    show(found, json)


def plan(
    *sources: Path, compute: float, languages: str | None = None, published: Published = False,
    unique: str | None = None, weights: str | None = None, law: str = "adaptive-transfer", save: Path | None = None,
    seed: Seed = 0, json: Json = False,
) -> None:  # fmt: skip
    """Which model size, and how many tokens of which languages, for a compute budget.

    Examples:
        babelscale plan --languages sw,yo,ha --compute 1e21 --published
        babelscale plan studies/quickstart --languages sv,da --compute 1e14

    Parameters
    ----------
    sources
        Saved fits (one a target language), or a folder of runs to fit first; none means --published.
    compute
        Training budget in FLOPs.
    languages
        Languages that may be trained on, helpers included, separated by commas.
    unique
        Unique tokens you have, where they differ from the runs' or the table's: sw=7.7e8,yo=5e7.
    weights
        How much each language's loss matters (default equal): sw=2,yo=1.
    law
        The law fitted when a folder of runs is given.
    """
    from babelscale import planning

    codes = codes_of(languages)
    given: dict[str, Any] = {
        "compute": compute, "languages": codes, "seed": seed, "weights": numbers(weights, "--weights"),
        "unique_tokens": numbers(unique, "--unique"),
    }  # fmt: skip
    if published or not sources:
        if sources:
            raise InputError("--published takes no fits or runs", hint="leave one of them out")
        if not codes:
            raise InputError("a plan from published figures needs --languages", hint="--languages sw,yo,ha")
        result = planning.plan(published=True, **given)
    else:
        result = planning.plan(_fits(sources, law, codes), **given)
    show(result, json, save)


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
    *, from_languages: Annotated[int, Parameter(name="--from")], to_languages: Annotated[int, Parameter(name="--to")],
    params: float | None = None, tokens: float | None = None, save: Path | None = None, json: Json = False,
) -> None:  # fmt: skip
    """From K to rK languages at equal loss: how much larger a model, how many more tokens, how much more compute.

    Example: babelscale expand --from 4 --to 16

    Parameters
    ----------
    params
        N of the model to expand, for absolute numbers; goes with --tokens.
    tokens
        D_tot of the model to expand, over all languages.
    """
    from babelscale import planning

    show(planning.expand(from_languages, to_languages, params=params, tokens=tokens), json, save)


def decide(
    *, params: float, tokens: float | None = None, compute: float | None = None, language: str | None = None,
    save: Path | None = None, json: Json = False,
) -> None:  # fmt: skip
    """Pretrain or finetune: start over, or continue a multilingual checkpoint, on this budget of new training.

    Example: babelscale decide --params 2e9 --tokens 100e9 --language sw

    Parameters
    ----------
    params
        N of the model.
    tokens
        New training tokens that can be paid for; or give --compute.
    compute
        The same budget in FLOPs.
    """
    from babelscale import planning

    show(planning.decide(params, tokens=tokens, compute=compute, language=language), json, save)
