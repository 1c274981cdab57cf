"""Commands on transfer between languages: the matrix, what it says and predicts, and what to train next."""

import sys
from pathlib import Path
from typing import Any, Literal

from babelscale.cli.options import Corpus, Json, Out, Published, Seed, bar, codes_of, dumps, show
from babelscale.cli.studies import created

Picture = Literal["matrix", "sources", "asymmetry", "along"]
Order = Literal["branch", "script", "clusters", "given"]


def transfer(
    runs: Path | None = None,
    *,
    published: Published = False,
    target: str | None = None,
    mixtures: bool = False,
    tests: bool = False,
    predict: str | None = None,
    along: bool = False,
    anchor: float | None = None,
    params: float | None = None,
    relations: Path | None = None,
    chart: Path | None = None,
    picture: Picture = "matrix",
    order: Order = "branch",
    seed: Seed = 0,
    save: Path | None = None,
    json: Json = False,
) -> None:
    """Show which languages help which: the bilingual transfer score (BTS) of every pair, and what the scores say.

    Examples:
        babelscale transfer --published --target sw
        babelscale transfer studies/quickstart --tests
        babelscale transfer --published --predict ig,rw,lb --target ig
        babelscale transfer studies/mine --mixtures --chart transfer.pdf

    Parameters
    ----------
    runs
        A folder of runs with monolingual and 50/50 bilingual ones, or a matrix (CSV: rows targets, columns sources, or
        a row a score; JSON as --save writes it).
    target
        Show only this language's helpers, best first.
    mixtures
        Read the scores from runs of several languages, two or more, instead of pairs alone.
    tests
        Same and different script, family and branch, reciprocity, clusters, with permutation tests.
    predict
        Predict every missing score, between the matrix's languages and these (codes separated by commas, or none).
    along
        Show how scores move with size and tokens.
    anchor
        d_mono, as a share of the shortest monolingual run's stable phase (default 0.4; mixtures: what they reach).
    params
        N of the runs to use (default: the size with the most bilingual runs).
    relations
        More features of languages and pairs for --tests, --predict and --mixtures (typology, say): a JSON file with
        languages, pairs (name -> square) and traits (name -> list), null where unknown.
    chart
        Draw a picture to this file: .html, .svg, .png, .pdf or .json (Vega-Lite).
    picture
        What to draw: the matrix, the ranking of sources, what pairs give and take, or scores along size and tokens.
    order
        Of languages in the matrix.
    save
        Write the matrix to this JSON or CSV file.
    """
    from babelscale.reporting.report import transfer_report
    from babelscale.transfer import Relations

    found = transfer_report.transfer_report(
        runs,
        published=published,
        mixtures=mixtures,
        tests=tests,
        moves=along or picture == "along",
        predicted=None if predict is None else [code for code in codes_of(predict) or [] if code != "none"],
        anchor=anchor,
        params=params,
        known=Relations.load(relations) if relations else None,
        seed=seed,
        progress=bar(),
    )
    if save is not None:
        found.matrix.save(save)
    if chart is not None:
        transfer_report.draw(found, picture, order, chart)
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


def next_runs(
    name: str,
    *,
    compute: float | None = None,
    count: int | None = None,
    width: int | None = None,
    tokens: float | None = None,
    size: str | None = None,
    targets: str | None = None,
    out: Out = None,
    corpus: Corpus = None,
    file: Path | None = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Propose the next runs of a study: the mixtures that tell most about transfer between its languages, for a budget.

    Example: babelscale study next quickstart --compute 2e13

    Writes a design that holds the study and the new runs; `babelscale study run` trains what is new of it.

    Parameters
    ----------
    compute
        FLOPs for all of them; or give --count.
    count
        How many mixtures.
    width
        Languages of the widest mixtures (default 8, fewer in a small study); others are half as wide, or pairs.
    tokens
        Of each language in a mixture (default: as in the longest mixtures of the study, otherwise three quarters of a
        monolingual run's).
    size
        Of the design's sizes (default: that of the most mixtures).
    targets
        Languages whose transfer matters, separated by commas (default all).
    file
        The design to write (default NAME-next.toml).
    """
    from babelscale.reporting.design import next_runs

    study = created(name, out, corpus)
    found = next_runs.next_runs(
        study, compute=compute, count=count, width=width, tokens=tokens, size=size, targets=codes_of(targets), seed=seed
    )
    path = found.save(file or Path(f"{study.design.name}-next.toml"))
    show(found, json)
    if not json:
        sys.stdout.write(f"{path}\n  babelscale study run {path} --out {study.folder}\n")
