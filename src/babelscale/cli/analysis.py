"""Commands that read tables: fit, profile, compare."""

import sys
from pathlib import Path
from typing import Any, Literal

from babelscale.cli.options import Json, Seed, bar, codes_of, dumps, metric_of, numbers, show


def fit(
    runs: Path,
    *,
    law: str = "chinchilla",
    target: str | None = None,
    metric: str | None = None,
    objective: Literal["huber", "lad", "squares"] = "huber",
    delta: float = 1e-3,
    fix: str | None = None,
    share: str | None = None,
    resamples: int = 200,
    seed: Seed = 0,
    save: Path | None = None,
    chart: Path | None = None,
    json: Json = False,
) -> None:
    """Fit a scaling law to a table of runs: for one language, several, or all.

    Examples:
        babelscale fit studies/quickstart --law adaptive-transfer --target sv --chart sv.pdf
        babelscale fit studies/quickstart --law adaptive-transfer --target all --share alpha,beta --save fits/

    Parameters
    ----------
    runs
        A folder of runs, a study's folder, or one table (CSV, Parquet, JSON lines) with params, tokens and loss.
    law
        chinchilla, data-constrained, multilingual, adaptive-transfer, multilinguality, coupled, coupled-transfer or
        farseer.
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
    chart
        Draw to this file (.html, .svg, .png, .pdf or .json): one fit as its loss by tokens and sizes, several as
        measured against predicted losses.
    """
    from babelscale import fitting, laws
    from babelscale.runs import Runs

    table = Runs.read(runs)
    how: dict[str, Any] = {
        "metric": metric_of(metric),
        "objective": objective,
        "delta": delta,
        "fixed": numbers(fix, "--fix"),
        "resamples": resamples,
        "seed": seed,
    }
    wanted = list(table.targets) if target == "all" else codes_of(target) or [table.target()]
    if len(wanted) == 1 and share is None:
        form = laws.by_name(law, table.target(wanted[0]), table)
        one = fitting.fit(form, table, **how, progress=bar())
        _draw([one], table, chart)
        show(one, json, save)
        return
    fits = fitting.fit_many(law, table, wanted, shared=tuple(codes_of(share) or ()), **how, progress=bar())
    _draw(list(fits.values()), table, chart)
    for code, found in fits.items():
        if save is not None:
            found.save(save / f"{law}-{code}.json")
        if not json:
            sys.stdout.write(f"{found}\n\n")
    if json:
        sys.stdout.write(dumps({"fits": {code: found.to_dict() for code, found in fits.items()}}) + "\n")


def _draw(fits: list[Any], runs: Any, chart: Path | None) -> None:
    """A picture of one fit or of several."""
    if chart is None:
        return
    from babelscale import charts

    charts.save(charts.law_curves(fits[0], runs) if len(fits) == 1 else charts.measured_predicted(fits, runs), chart)


def profile(
    runs: Path,
    parameter: str,
    *,
    law: str = "adaptive-transfer",
    target: str | None = None,
    metric: str | None = None,
    resamples: int = 200,
    seed: Seed = 0,
    chart: Path | None = None,
    json: Json = False,
) -> None:
    """Show how well runs identify one parameter: the objective along it, all others refitted, and its interval.

    Example: babelscale profile studies/quickstart lambda --target sv

    Parameters
    ----------
    parameter
        A parameter of the law: lambda, R_D, tau_en, tau_other, alpha, ...
    chart
        Draw the profile to this file: .html, .svg, .png, .pdf or .json.
    """
    from babelscale import fitting, laws
    from babelscale.runs import Runs

    table = Runs.read(runs)
    form = laws.by_name(law, table.target(target), table)
    found = fitting.profile(
        form, table, parameter, metric=metric_of(metric), resamples=resamples, seed=seed, progress=bar()
    )
    if chart is not None:
        from babelscale import charts

        charts.save(charts.profile(found), chart)
    show(found, json)


def compare(
    runs: Path,
    *,
    laws: str = "chinchilla,data-constrained,multilingual,adaptive-transfer",
    targets: str | None = None,
    axes: str | None = None,
    expanding: str = "compute",
    rungs: int = 5,
    objective: Literal["huber", "lad", "squares"] = "huber",
    metric: str | None = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
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
        codes_of(laws) or [],
        Runs.read(runs),
        targets=codes_of(targets),
        axes=chosen,
        expanding=windows,
        rungs=rungs,
        objective=objective,
        metric=metric_of(metric),
        seed=seed,
        progress=bar(),
    )
    show(found, json)
