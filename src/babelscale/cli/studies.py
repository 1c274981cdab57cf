"""Commands of studies: run, plan, status, report."""

import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from babelscale.cli.options import Corpus, Json, Only, Out, RecordsFile, Seed, bar, codes_of, numbers, show


def run(
    name: str,
    *,
    out: Out = None,
    corpus: Corpus = None,
    only: Only = None,
    slots: int | None = None,
    engine: Literal["local", "ray", "slurm"] = "local",
    address: str = "auto",
    submit: bool = False,
    report: bool = True,
    holdout: Annotated[bool, Parameter(negative="")] = False,
    records: RecordsFile = None,
) -> None:
    """Train what is missing of a study, then fit, plan and report.

    Example: babelscale study run quickstart --corpus my-texts/

    Ctrl-C and SIGTERM save what is under way; the same command goes on from there.

    Parameters
    ----------
    name
        quickstart, a TOML file, or a study's folder.
    slots
        Runs at a time (default: one an accelerator, or one a CPU where there are none).
    engine
        This machine, a Ray cluster, or an array script for SLURM, which is written and not waited for.
    address
        The Ray cluster: auto for the one this machine belongs to, ray://HOST:PORT, or local.
    submit
        Submit the array script to SLURM at once.
    holdout
        Train the runs of the design's holdout too. They are left out by default, so that a forecast of them can be
        sealed first.
    """
    from babelscale.reporting.monitor import running
    from babelscale.study.engines import run_local, run_ray

    study, groups = created(name, out, corpus), codes_of(only)
    if engine == "slurm":
        running.submit(study, only=groups, holdout=holdout, now=submit, restored_from=records)
        return
    chosen = partial(run_ray, address=address) if engine == "ray" else partial(run_local, slots=slots)
    running.run(study, only=groups, engine=chosen, report=report, holdout=holdout, restored_from=records)


def text(name: str, source: str, *, out: Path, json: Json = False) -> None:
    """Deal one text that exists in many languages out to a study's languages, so that none reads another's passages.

    Example: babelscale study text atlas-miniature bible37.tar.xz --out texts/miniature

    The folder is then the --corpus of the study. `study run` does the same by itself where --corpus is such a text.

    Parameters
    ----------
    name
        The design: its languages, and how [corpus.passages] shares the text among them.
    source
        A folder, or a tar archive, of LANGUAGE.tsv files. A line is a verse: Gen.1.31, a tab, its text.
    out
        The new folder: train/LANGUAGE.txt, valid/LANGUAGE.txt (the same passages in every language) and passages.json.
    """
    from babelscale.study.text import deal

    show(deal(_design(name), source, out), json)


def prepare(
    name: str, *, out: Out = None, corpus: Corpus = None, only: Only = None, records: RecordsFile = None
) -> None:
    """Train the tokenizer and tokenise the text of a study, without training models.

    Example: babelscale study prepare my-study.toml --records my-study-records.jsonl.xz
    """
    from babelscale.reporting.monitor import running

    study = created(name, out, corpus)
    running.prepare(study, only=codes_of(only), restored_from=records)
    sys.stdout.write(f"{study.folder}\n")


def records(name: str, *, out: Path | None = None, json: Json = False) -> None:
    """Write the records of a study's finished runs into one small file, from which they can be restored.

    Example: babelscale study records quickstart --out quickstart.jsonl.xz

    Runs that the file holds already stay in it. `babelscale study run quickstart --records quickstart.jsonl.xz` takes
    them back where the study's folder is lost.

    Parameters
    ----------
    out
        The file (default NAME-records.jsonl.xz).
    """
    from babelscale.study import records as files

    study = _existing(name, None)
    with bar() as drawn:
        written = files.write(study, out or Path(f"{study.design.name}-records.jsonl.xz"), drawn)
    show(written, json)


def train(
    name: str,
    runs: str,
    *,
    out: Out = None,
    devices: int | None = None,
    tensor: int = 1,
    distributed: bool = False,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
) -> None:
    """Train named runs of a prepared study on the devices of this machine, or of several hosts.

    Example: babelscale study train my-study s-sv-600k-s0-0d60e6d374 --devices 8

    On several hosts, start the same command on each with --distributed. Under SLURM and on TPU pods they find each
    other; elsewhere name --coordinator HOST:PORT, --processes and --process. All share the study's folder.

    Parameters
    ----------
    name
        The study, or its folder.
    runs
        Run, or several separated by commas (`babelscale study status` lists them); several of one shape, recipe and
        length are trained together in one program.
    devices
        How many devices (default all).
    tensor
        Devices that split each matrix between them; the others split the batch.
    processes
        How many processes there are.
    process
        Which of them this one is, from 0.
    """
    from babelscale.reporting.monitor import running

    if distributed or coordinator is not None:
        import jax

        jax.distributed.initialize(coordinator, processes, process)
    running.train(_existing(name, out), codes_of(runs) or [], devices=devices, tensor=tensor)


def plan(
    name: str,
    *,
    out: Out = None,
    only: Only = None,
    device: str | None = None,
    throughput: float | None = None,
    devices: int | None = None,
    power: bool = False,
    target: str | None = None,
    json: Json = False,
) -> None:
    """Print what a study would train and cost, without training; and what of it is done.

    Example: babelscale study plan single-gpu --device h200

    Parameters
    ----------
    device
        Where it would be trained: cpu-thread (default), h200, h100, a100, tpu-v5p, tpu-v5e.
    throughput
        FLOPs a second of one device, as measured, in place of the device's.
    devices
        How many train at once (default 1, or this machine's CPUs).
    power
        Simulate the design's runs and fit every law to them, to tell how well it would identify each parameter.
    target
        The language whose laws are meant (default: the design's first target).
    """
    from babelscale.reporting.design.study_forecast import forecast_study

    found = forecast_study(
        _design(name),
        device=device,
        throughput=throughput,
        devices=devices,
        only=codes_of(only),
        folder=_folder(name, out),
        power=power,
        target=target,
        progress=bar() if power else None,
    )
    show(found, json)


def power(
    name: str,
    *,
    law: str | None = None,
    target: str | None = None,
    out: Out = None,
    assume: str | None = None,
    tables: int = 8,
    noise: float | None = None,
    laws_apart: Annotated[bool, Parameter(negative="")] = False,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Print what a design could tell before it is trained: intervals of every law's parameters, and its questions.

    Example: babelscale study power atlas-miniature

    Where the study's folder is prepared, its token counts are used; where it has finished runs that differ in their
    seeds alone, the noise is theirs.

    Parameters
    ----------
    law
        The law to identify (default: all).
    target
        The language (default: the targets of the design's analysis).
    assume
        Numbers of the assumed laws in place of the default ones: alpha=0.4,tau_da=0.5.
    tables
        Simulated tables for every law and target; more make the expected intervals steadier.
    noise
        Scatter of log loss from seed to seed (default: as measured, or 0.005).
    laws_apart
        Also draw tables from each of three laws and tell how often the true one predicts held-out runs best.
    """
    from babelscale.reporting.design.study_power import study_power

    found = study_power(
        _design(name),
        law,
        target,
        folder=_folder(name, out),
        parameters=numbers(assume, "--assume"),
        tables=tables,
        noise=noise,
        apart=laws_apart,
        seed=seed,
        progress=bar(),
    )
    show(found, json)


def status(name: str, *, out: Out = None, json: Json = False) -> None:
    """Print which runs of a study are finished, under way and missing."""
    from babelscale.study import cost

    show(cost.status(_existing(name, out)), json)


def report(name: str, *, out: Out = None) -> None:
    """Analyse the finished runs of a study and write its report."""
    from babelscale import reporting
    from babelscale.study.disk import watched

    folder = _existing(name, out).folder
    with watched(folder):
        written = reporting.build_report(folder, progress=bar())
    sys.stdout.write(f"{written}\n")


def verify(
    name: str,
    *,
    from_languages: Annotated[str, Parameter(name="--from")],
    to_languages: Annotated[str, Parameter(name="--to")],
    size: str,
    tokens: float,
    fit: Path | None = None,
    seeds: int = 3,
    out: Path | None = None,
) -> None:
    """Write a design that checks a law's advice: does the loss rise with more languages at the recommended size?

    Example: babelscale study verify quickstart --from sv,da,id --to sv,da,id,ms,es,fr --size xs --tokens 3e5

    Run it with `babelscale study run`, then ask `babelscale study verdict`.

    Parameters
    ----------
    from_languages
        Languages of the smaller mixture, sampled evenly.
    to_languages
        Those of the larger one, which holds them.
    size
        The size of the design to start from.
    tokens
        D of the smaller mixture, all languages together.
    fit
        A saved fit of the multilinguality law (default: the printed exponents of the ATLAS study).
    seeds
        Runs of each side.
    out
        File of the design (default NAME-verification.toml).
    """
    from babelscale.fitting import Fit
    from babelscale.reporting.design import verification

    design = _design(name)
    text = verification.verification(
        design,
        codes_of(from_languages) or [],
        codes_of(to_languages) or [],
        size,
        tokens,
        fit=Fit.load(fit) if fit else None,
        seeds=seeds,
    )
    path = verification.write(text, out or Path(f"{design.name}-verification.toml"))
    sys.stdout.write(f"{path}\n")


def verdict(name: str, *, out: Out = None, margin: float = 0.01, json: Json = False) -> None:
    """Say whether the loss rose in a verification's finished runs.

    Example: babelscale study verdict quickstart-verification

    Parameters
    ----------
    margin
        A rise below this share of the loss counts as none.
    """
    from babelscale.errors import StudyError
    from babelscale.reporting.design import verification

    study = _existing(name, out)
    runs = study.runs()
    if runs is None:
        raise StudyError(f"{study.folder}: no run is finished", hint="babelscale study run")
    groups = {group: [spec.name for spec in specs] for group, specs in study.groups.items()}
    show(verification.verdict(runs, study.design, groups, margin=margin), json)


def forecast(
    study: str,
    *,
    out: Out = None,
    seal: Annotated[bool, Parameter(negative="")] = False,
    open_: Annotated[bool, Parameter(name="--open", negative="")] = False,
    name: str | None = None,
    targets: str | None = None,
    resamples: int | None = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Seal what every law predicts for the runs of a study before they are trained, and score it afterwards.

    Examples:
        babelscale forecast quickstart --seal --targets sv,da
        babelscale forecast quickstart --open

    With neither --seal nor --open it lists the forecasts and their state.

    Parameters
    ----------
    study
        The study, or its folder.
    seal
        Fit every law to the finished runs and write its predictions for the others to STUDY/forecasts/NAME.json.
    open_
        Score a sealed forecast on the runs that were trained after it.
    name
        The forecast (sealing: default forecast-1, forecast-2, ...; opening: needed where there are several).
    targets
        Languages whose losses are predicted, separated by commas (default: the targets of the design's analysis, or
        all its languages).
    resamples
        Bootstrap refits behind each interval (default 100).
    """
    from babelscale.errors import InputError
    from babelscale.reporting.design import forecast as forecasts

    if seal and open_:
        raise InputError("--seal and --open are both given", hint="seal first; open once runs are trained")
    if not seal and (targets is not None or resamples is not None):
        raise InputError("--targets and --resamples belong to --seal", hint="a sealed forecast keeps its own")
    found = _existing(study, out)
    if seal:
        made = forecasts.seal(
            found,
            name=name,
            targets=codes_of(targets),
            seed=seed,
            progress=bar(),
            resamples=forecasts.RESAMPLES if resamples is None else resamples,
        )
        show(made, json)
    elif open_:
        show(forecasts.open_forecast(found.folder, name), json)
    else:
        show(forecasts.listing(found.folder), json)


def tensorboard(name: str, *, out: Out = None, follow: bool = False) -> None:
    """Write the logs of a study's runs, finished or under way, as TensorBoard event files.

    Example: babelscale study tensorboard quickstart --follow & tensorboard --logdir studies/quickstart/tensorboard

    Parameters
    ----------
    follow
        Bring them up to date every 15 seconds until interrupted.
    """
    import time

    from babelscale.reporting.monitor.tensorboard import write_tensorboard

    study = _existing(name, out)
    sys.stdout.write(f"{write_tensorboard(study.folder)}\n")
    while follow:
        time.sleep(15)
        write_tensorboard(study.folder)


def created(name: str, out: Path | None, corpus: str | None) -> Any:
    """A study to be trained: of a design, or that of a study's folder."""
    from babelscale.study import Study

    return Study.create(_design(name), out or (Path(name) if _is_study(name) else None), corpus)


def _existing(name: str, out: Path | None) -> Any:
    from babelscale.study import Study

    return Study.open(_folder(name, out))


def _design(name: str) -> Any:
    """A built-in design, that of a TOML file, or that of a study's folder."""
    from babelscale.study import Study, load

    return Study.open(name).design if _is_study(name) else load(name)


def _is_study(name: str) -> bool:
    return (Path(name) / "design.json").is_file()


def _folder(name: str, out: Path | None) -> Path:
    return out or (Path(name) if Path(name).is_dir() else Path("studies") / Path(name).stem)
