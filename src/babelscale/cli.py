"""The command line: every command thin over one public function.

Tables and progress go to people; with --json a command prints one JSON object on standard output and nothing else.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from babelscale import __version__
from babelscale.errors import BabelscaleError, InputError

app = App(
    name="babelscale",
    version=__version__,
    help="Scaling laws and cross-lingual transfer for multilingual language models, and the decisions that follow. "
    "Start with `babelscale study run quickstart` or `babelscale plan --languages sw,yo,ha --compute 1e21`.",
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
study_app = App(name="study", help="Design, run and report studies: many training runs with one purpose.")
app.command(study_app)

# What `pip install babelscale` leaves out, by the extra that brings it.
_EXTRAS = {
    "page": {"altair", "jinja2", "starlette", "uvicorn", "vl_convert"},
    "lab": {"babel", "jax", "jaxlib", "num2words", "optax", "orbax", "sentencepiece"},
}

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON object and nothing else.")]
Published = Annotated[bool, Parameter(negative="", help="Answer from the printed figures of the ATLAS study.")]
Out = Annotated[Path | None, Parameter(name="--out", help="Folder of the study (default studies/NAME).")]
Corpus = Annotated[str | None, Parameter(help="Folder of text by language, in place of the design's own source.")]
Seed = Annotated[int, Parameter(help="Seed of every resampling.")]


def _codes(languages: str | None) -> list[str] | None:
    if languages is None:
        return None
    return [code.strip() for code in languages.split(",") if code.strip()]


def _numbers(text: str | None, option: str) -> dict[str, float] | None:
    """`sw=2,yo=1` as numbers by language."""
    if text is None:
        return None
    parts = [part.partition("=") for part in text.split(",")]
    try:
        return {code.strip(): float(number) for code, _, number in parts}
    except ValueError:
        raise InputError(f"{option} {text!r}", hint="write numbers by language, such as sw=2,yo=1") from None


def _show(result: Any, as_json: bool, save: Path | None = None) -> None:
    if save is not None:
        result.save(save)
    sys.stdout.write((_dumps(result.to_dict()) if as_json else str(result)) + "\n")


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _bar() -> Any:
    """A progress hook for long work, drawn on standard error where that is a terminal."""
    from babelscale.reporting.progress import Bar

    return Bar()


@app.command
def fit(
    runs: Path, *, law: str = "chinchilla", target: str | None = None, metric: str | None = None,
    resamples: int = 200, seed: Seed = 0, save: Path | None = None, json: Json = False,
) -> None:  # fmt: skip
    """Fit a scaling law to a table of runs.

    Example: babelscale fit studies/quickstart --law adaptive-transfer --target sv

    Parameters
    ----------
    runs
        A folder of runs, a study's folder, or one table (CSV, Parquet, JSON lines) with params, tokens and loss.
    law
        chinchilla, data-constrained, multilingual or adaptive-transfer.
    target
        Language whose loss is fitted; may be left out where only one was measured.
    metric
        bits_per_byte, nats_per_token or unigram_normalised (default: the first that the table holds).
    resamples
        Bootstrap refits over whole runs, for the intervals.
    save
        Write the fit to this JSON file; `babelscale plan` reads it.
    """
    from babelscale import fitting, laws
    from babelscale.runs import METRICS, Runs

    if metric is not None and metric not in METRICS:
        raise InputError(f"--metric {metric!r}", hint=f"one of {', '.join(METRICS)}")
    table = Runs.read(runs)
    form = laws.by_name(law, table.target(target), table)
    _show(fitting.fit(form, table, metric=metric, resamples=resamples, seed=seed), json, save)


@app.command
def compare(
    runs: Path, *, laws: str = "chinchilla,data-constrained,multilingual,adaptive-transfer", targets: str | None = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Compare laws by how well they predict held-out runs: random, largest N, most tokens, largest C, new mixtures.

    Example: babelscale compare studies/quickstart --targets sv

    Parameters
    ----------
    laws
        Names, separated by commas.
    targets
        Languages, separated by commas (default: every measured one).
    """
    from babelscale import fitting
    from babelscale.runs import Runs

    _show(fitting.compare(_codes(laws) or [], Runs.read(runs), targets=_codes(targets)), json)


@app.command
def transfer(
    runs: Path | None = None, *, published: Published = False, target: str | None = None, save: Path | None = None,
    json: Json = False,
) -> None:  # fmt: skip
    """Show which languages help which: the bilingual transfer score (BTS) of every measured pair.

    Example: babelscale transfer --published --target sw

    Parameters
    ----------
    runs
        A folder of runs with monolingual and 50/50 bilingual ones, or a CSV matrix (rows targets, columns sources).
    target
        Show only this language's helpers, best first.
    save
        Write the matrix to this JSON file.
    """
    from babelscale.runs import Runs
    from babelscale.transfer import TransferMatrix

    if runs is not None and not published:
        is_matrix = runs.suffix == ".csv" and runs.is_file() and runs.read_bytes()[:6] == b"target"
        matrix = TransferMatrix.read(runs) if is_matrix else TransferMatrix.from_runs(Runs.read(runs))
    elif published and runs is None:
        from babelscale.published import transfer_matrix

        matrix = transfer_matrix()
    else:
        raise InputError("transfer needs either runs or --published", hint="babelscale transfer --published")
    if target is None:
        _show(matrix, json, save)
        return
    helpers = matrix.helpers(target, most=len(matrix.languages))
    if json:
        sys.stdout.write(_dumps({"target": target, "helpers": [helper.to_dict() for helper in helpers]}) + "\n")
        return
    for helper in helpers:
        sys.stdout.write(f"{helper}\n")


@app.command
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

    codes = _codes(languages)
    given: dict[str, Any] = {
        "compute": compute, "languages": codes, "seed": seed, "weights": _numbers(weights, "--weights"),
        "unique_tokens": _numbers(unique, "--unique"),
    }  # fmt: skip
    if published or not sources:
        if sources:
            raise InputError("--published takes no fits or runs", hint="leave one of them out")
        if not codes:
            raise InputError("a plan from published figures needs --languages", hint="--languages sw,yo,ha")
        result = planning.plan(published=True, **given)
    else:
        result = planning.plan(_fits(sources, law, codes), **given)
    _show(result, json, save)


def _fits(sources: tuple[Path, ...], law: str, codes: list[str] | None) -> list[Any]:
    from babelscale import fitting, laws
    from babelscale.runs import Runs

    fits = []
    for source in sources:
        if source.suffix == ".json":
            fits.append(fitting.Fit.load(source))
            continue
        runs = Runs.read(source)
        targets = [code for code in runs.targets if codes is None or code in codes]
        if not targets:
            raise InputError(f"{source}: no loss on any of {codes}", hint=f"measured: {', '.join(runs.targets)}")
        fits += [fitting.fit(laws.by_name(law, target, runs), runs) for target in targets]
    return fits


@app.command
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

    _show(planning.expand(from_languages, to_languages, params=params, tokens=tokens), json, save)


@app.command
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

    _show(planning.decide(params, tokens=tokens, compute=compute, language=language), json, save)


@app.command
def report(path: Path, *, out: Annotated[Path | None, Parameter(name="--out")] = None) -> None:
    """Write one self-contained HTML report of a study's folder or a table of runs.

    Example: babelscale report studies/quickstart
    """
    from babelscale import reporting

    sys.stdout.write(f"{reporting.report(path, out=out, progress=_bar())}\n")


@app.command
def serve(path: Path | None = None, *, port: int = 8765, host: str = "127.0.0.1") -> None:
    """Serve the report of a study, or a form that plans from published figures, on this machine.

    Example: babelscale serve studies/quickstart --port 8765
    """
    from babelscale.web import serve as run_server

    run_server(path, host=host, port=port)


@study_app.command(name="run")
def study_run(
    name: str, *, out: Out = None, corpus: Corpus = None, slots: int | None = None, report: bool = True
) -> None:
    """Train what is missing of a study, then fit, plan and report.

    Example: babelscale study run quickstart --corpus my-texts/

    Parameters
    ----------
    name
        quickstart, or a TOML file.
    slots
        Runs at a time (default: one a CPU).
    """
    from babelscale.reporting import running
    from babelscale.study import Study

    running.run(Study.create(name, out, corpus), slots=slots, report=report)


@study_app.command(name="plan")
def study_plan(name: str, *, json: Json = False) -> None:
    """Print what a study would train and cost, without training.

    Example: babelscale study plan quickstart
    """
    from babelscale.study import load
    from babelscale.study.cost import estimate

    _show(estimate(load(name)), json)


@study_app.command(name="status")
def study_status(name: str, *, out: Out = None, json: Json = False) -> None:
    """Print which runs of a study are finished, under way and missing."""
    from babelscale.study.cost import status

    _show(status(_existing(name, out)), json)


@study_app.command(name="report")
def study_report(name: str, *, out: Out = None) -> None:
    """Analyse the finished runs of a study and write its report."""
    from babelscale import reporting

    sys.stdout.write(f"{reporting.report(_existing(name, out).folder, progress=_bar())}\n")


def _existing(name: str, out: Path | None) -> Any:
    from babelscale.study import Study

    folder = out or (Path(name) if Path(name).is_dir() else Path("studies") / Path(name).stem)
    return Study.open(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; what a user can mend is said on standard error in two lines, with exit code 2."""
    try:
        app(sys.argv[1:] if arguments is None else arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        sys.stderr.write(f"error: {error}\n  hint: babelscale --help\n")
        sys.exit(2)
    except BabelscaleError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        extra = next((name for name, modules in _EXTRAS.items() if (error.name or "").split(".")[0] in modules), None)
        if extra is None:
            raise
        sys.stderr.write(f"error: this command needs {error.name}, which is not installed\n")
        sys.stderr.write(f"  hint: pip install 'babelscale[{extra}]'\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("stopped; what was finished is kept, and the same command goes on from there\n")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
