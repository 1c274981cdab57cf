"""Commands for transfer between languages: the matrix, its tests and predictions, and the next runs to train."""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from babelscale.cli.options import (
    Corpus,
    Json,
    Name,
    Out,
    Published,
    Seed,
    bar,
    codes_of,
    dumps,
    one_line_descriptions,
    option_group,
    read_runs,
    show,
)
from babelscale.cli.studies import created


@option_group
@dataclass(frozen=True)
class ScoreOptions:
    """How scores are estimated, and what is computed from them.

    Parameters
    ----------
    mixtures
        Estimate the scores from runs of two or more languages, not only from runs of pairs.
    tests
        Test whether script, family and branch matter and whether scores are reciprocal, with permutation tests, and
        show clusters of languages.
    predict
        Predict every missing score between the languages of the matrix and these further ones (codes separated by
        commas, or none).
    along
        Show how scores change with size and tokens.
    anchor
        d_mono, as a share of the stable phase of the shortest monolingual run (default: 0.4; with --mixtures: the
        tokens that the mixtures reach).
    params
        Use the runs of this size N (default: the size with the most bilingual runs).
    relations
        JSON file with more features of languages and pairs, for example typology, for --tests, --predict and
        --mixtures. Its keys are languages, pairs (name -> square array) and traits (name -> list); unknown values are
        null.
    """

    mixtures: bool = False
    tests: bool = False
    predict: str | None = None
    along: bool = False
    anchor: float | None = None
    params: float | None = None
    relations: Path | None = None
    seed: Seed = 0


@option_group
@dataclass(frozen=True)
class ChartOptions:
    """The chart to draw.

    Parameters
    ----------
    chart
        Draw a chart to this file: .html, .svg, .png, .pdf or .json (Vega-Lite).
    picture
        Chart to draw: the matrix, the ranking of sources, the asymmetry of pairs, or scores against size and tokens.
    order
        Order of the languages in the matrix.
    """

    chart: Path | None = None
    picture: Literal["matrix", "sources", "asymmetry", "along"] = "matrix"
    order: Literal["branch", "script", "clusters", "given"] = "branch"


@one_line_descriptions
def transfer(
    runs: Path | None = None,
    *,
    published: Published = False,
    target: str | None = None,
    scores: ScoreOptions = ScoreOptions(),
    drawing: ChartOptions = ChartOptions(),
    save: Path | None = None,
    json: Json = False,
) -> None:
    """Show which languages help which others, as the bilingual transfer score (BTS) of every pair.

    Examples:
        babelscale transfer --published --target sw
        babelscale transfer studies/quickstart --tests
        babelscale transfer --published --predict ig,rw,lb --target ig
        babelscale transfer studies/mine --mixtures --chart transfer.pdf

    Parameters
    ----------
    runs
        A folder of runs that has monolingual and 50/50 bilingual runs, or a transfer matrix. A matrix is a CSV file
        (targets as rows and sources as columns, or one score in each row) or the JSON file that --save writes.
    target
        Show only the sources for this language, the best first.
    save
        Write the matrix to this JSON or CSV file.
    """
    from babelscale.reporting.report import transfer_report
    from babelscale.transfer import Relations

    if runs is not None and not transfer_report.holds_matrix(runs):
        read_runs(runs)
    further = codes_of(scores.predict)
    found = transfer_report.transfer_report(
        runs,
        published=published,
        mixtures=scores.mixtures,
        tests=scores.tests,
        moves=scores.along or drawing.picture == "along",
        predicted=None if further is None else [code for code in further if code != "none"],
        anchor=scores.anchor,
        params=scores.params,
        known=Relations.load(scores.relations) if scores.relations else None,
        seed=scores.seed,
        progress=bar(),
    )
    if save is not None:
        found.matrix.save(save)
    if drawing.chart is not None:
        transfer_report.draw(found, drawing.picture, drawing.order, drawing.chart)
    if target is not None:
        _helpers(found.matrix, target, json)
    else:
        show(found, json)


def _helpers(matrix: Any, target: str, json: bool) -> None:
    helpers = matrix.helpers(target, most=len(matrix.languages))
    if json:
        sys.stdout.write(dumps({"target": target, "helpers": [helper.to_dict() for helper in helpers]}) + "\n")
        return
    for helper in helpers:
        sys.stdout.write(f"{helper}\n")


@option_group
@dataclass(frozen=True)
class NextOptions:
    """The mixtures to propose.

    Parameters
    ----------
    compute
        Budget of all new runs together, in FLOPs. Give this or --count.
    count
        Number of mixtures. Give this or --compute.
    width
        Number of languages in the widest mixtures (default: 8, fewer in a small study). Other mixtures are half as
        wide, or pairs.
    tokens
        Tokens of each language in a mixture (default: as in the longest mixtures of the study, otherwise three quarters
        of a monolingual run).
    size
        One of the sizes of the design (default: the size with the most mixtures).
    targets
        Languages whose transfer matters, separated by commas (default: all).
    """

    compute: float | None = None
    count: int | None = None
    width: int | None = None
    tokens: float | None = None
    size: str | None = None
    targets: str | None = None


@one_line_descriptions
def next_runs(
    name: Name,
    *,
    mixtures: NextOptions = NextOptions(),
    out: Out = None,
    corpus: Corpus = None,
    file: Path | None = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Propose the next runs of a study: the mixtures that add most to the knowledge of transfer, for a budget.

    Example: babelscale study next quickstart --compute 2e13

    The command writes a design with the runs of the study and the new runs. `babelscale study run` trains the new runs.

    Parameters
    ----------
    file
        File of the new design (default: NAME-next.toml).
    """
    from babelscale.reporting.design import next_runs

    study = created(name, out, corpus)
    wanted: dict[str, Any] = asdict(mixtures) | {"targets": codes_of(mixtures.targets)}
    found = next_runs.next_runs(study, **wanted, seed=seed)
    path = found.save(file or Path(f"{study.design.name}-next.toml"))
    show(found, json)
    if not json:
        sys.stdout.write(f"{path}\n  babelscale study run {path} --out {study.folder}\n")
