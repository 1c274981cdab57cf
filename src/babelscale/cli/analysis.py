"""Commands that analyse tables of runs: fit, profile, compare."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from babelscale.cli.options import (
    Json,
    Metric,
    Seed,
    Table,
    bar,
    codes_of,
    dumps,
    metric_of,
    numbers,
    one_line_descriptions,
    option_group,
    read_runs,
    show,
)


@option_group
@dataclass(frozen=True)
class FitOptions:
    """How a law is fitted.

    Parameters
    ----------
    objective
        Deviation of log losses to minimise: Huber loss, absolute or squared deviations.
    delta
        Threshold of the Huber loss, in units of log loss.
    fix
        Parameters to keep fixed, for example lambda=0.065,E=1.7.
    resamples
        Number of bootstrap refits for the intervals. Each refit gives every run a random weight.
    """

    metric: Metric = None
    objective: Literal["huber", "lad", "squares"] = "huber"
    delta: float = 1e-3
    fix: str | None = None
    resamples: int = 200
    seed: Seed = 0


@one_line_descriptions
def fit(
    runs: Table,
    *,
    law: str = "chinchilla",
    target: str | None = None,
    share: str | None = None,
    options: FitOptions = FitOptions(),
    save: Path | None = None,
    chart: Path | None = None,
    json: Json = False,
) -> None:
    """Fit a scaling law to a table of runs, for one language, several languages or all.

    Examples:
        babelscale fit studies/quickstart --law adaptive-transfer --target sv --chart sv.pdf
        babelscale fit studies/quickstart --law adaptive-transfer --target all --share alpha,beta --save fits/

    Parameters
    ----------
    law
        The law: chinchilla, data-constrained, multilingual, adaptive-transfer, multilinguality, coupled,
        coupled-transfer or farseer.
    target
        Languages whose loss is fitted, separated by commas, or all. You need it if the table has losses of several
        languages.
    share
        Parameters that have one value for all targets, for example alpha,beta.
    save
        Write the fit to this JSON file, or several fits to this folder. `babelscale plan` reads them.
    chart
        Draw a chart to this file (.html, .svg, .png, .pdf or .json). One fit is drawn as loss by tokens and size,
        several fits as measured against predicted losses.
    """
    from babelscale import fitting, laws

    table = read_runs(runs)
    how: dict[str, Any] = {
        "metric": metric_of(options.metric),
        "objective": options.objective,
        "delta": options.delta,
        "fixed": numbers(options.fix, "--fix"),
        "resamples": options.resamples,
        "seed": options.seed,
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
    """Draw a chart of one fit or of several."""
    if chart is None:
        return
    from babelscale import charts

    charts.save(charts.law_curves(fits[0], runs) if len(fits) == 1 else charts.measured_predicted(fits, runs), chart)


@option_group
@dataclass(frozen=True)
class LawOptions:
    """The law and the language that a profile is about.

    Parameters
    ----------
    law
        The law to fit.
    target
        Language whose loss is fitted. You need it if the table has losses of several languages.
    """

    law: str = "adaptive-transfer"
    target: str | None = None


@one_line_descriptions
def profile(
    runs: Table,
    parameter: str,
    *,
    of: LawOptions = LawOptions(),
    metric: Metric = None,
    resamples: int = 200,
    seed: Seed = 0,
    chart: Path | None = None,
    json: Json = False,
) -> None:
    """Show how well the runs identify one parameter: the objective along its values, and its interval.

    All other parameters are fitted again at each value.

    Example: babelscale profile studies/quickstart lambda --target sv

    Parameters
    ----------
    parameter
        A parameter of the law, for example lambda, R_D, tau_en, tau_other or alpha.
    resamples
        Number of bootstrap refits for the interval.
    chart
        Draw the profile to this file: .html, .svg, .png, .pdf or .json.
    """
    from babelscale import fitting, laws

    table = read_runs(runs)
    form = laws.by_name(of.law, table.target(of.target), table)
    found = fitting.profile(
        form, table, parameter, metric=metric_of(metric), resamples=resamples, seed=seed, progress=bar()
    )
    if chart is not None:
        from babelscale import charts

        charts.save(charts.profile(found), chart)
    show(found, json)


@option_group
@dataclass(frozen=True)
class HoldOutOptions:
    """How runs are left out of the fits.

    Parameters
    ----------
    axes
        How runs are left out: some of random,params,tokens,compute,mixture (default: all).
    expanding
        What the expanding window is ordered by: some of compute,params,tokens, or none.
    rungs
        Largest number of windows.
    """

    axes: str | None = None
    expanding: str = "compute"
    rungs: int = 5


@one_line_descriptions
def compare(
    runs: Table,
    *,
    laws: str = "chinchilla,data-constrained,multilingual,adaptive-transfer",
    targets: str | None = None,
    hold_out: HoldOutOptions = HoldOutOptions(),
    objective: Literal["huber", "lad", "squares"] = "huber",
    metric: Metric = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Compare laws by how well they predict runs that were left out of the fit.

    The command leaves out random runs, the largest models (N), the longest runs (tokens), the most compute (C), and new
    mixtures. With an expanding window it also fits the runs up to some compute and predicts all larger ones.

    Example: babelscale compare studies/quickstart --targets sv

    Parameters
    ----------
    laws
        Names of the laws, separated by commas.
    targets
        Languages, separated by commas (default: every language with a measured loss).
    objective
        Deviation of log losses that the fits minimise.
    """
    from babelscale import fitting

    windows: list[Any] = [] if hold_out.expanding == "none" else codes_of(hold_out.expanding) or []
    chosen: list[Any] | None = codes_of(hold_out.axes)
    found = fitting.compare(
        codes_of(laws) or [],
        read_runs(runs),
        targets=codes_of(targets),
        axes=chosen,
        expanding=windows,
        rungs=hold_out.rungs,
        objective=objective,
        metric=metric_of(metric),
        seed=seed,
        progress=bar(),
    )
    show(found, json)
