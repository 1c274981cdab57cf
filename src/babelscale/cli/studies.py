"""Commands for studies: run, plan, status, report and others."""

import sys
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from babelscale.cli.options import (
    Corpus,
    Json,
    Name,
    Only,
    Out,
    RecordsFile,
    Seed,
    bar,
    codes_of,
    numbers,
    one_line_descriptions,
    option_group,
    show,
)


@option_group
@dataclass(frozen=True)
class EngineOptions:
    """Where runs are trained.

    Parameters
    ----------
    engine
        Where to train: local is this machine, ray is a Ray cluster, and slurm writes an array script for SLURM and does
        not wait for it.
    slots
        Number of runs at the same time (default: one for each accelerator, or one for each CPU if there is none).
    address
        Address of the Ray cluster: auto for the cluster of this machine, HOST:PORT, ray://HOST:PORT, or local.
    submit
        Submit the array script to SLURM at once.
    """

    engine: Literal["local", "ray", "slurm"] = "local"
    slots: int | None = None
    address: str = "auto"
    submit: bool = False


@one_line_descriptions
def run(
    name: Name,
    *,
    out: Out = None,
    corpus: Corpus = None,
    only: Only = None,
    where: EngineOptions = EngineOptions(),
    report: bool = True,
    holdout: Annotated[bool, Parameter(negative="")] = False,
    records: RecordsFile = None,
) -> None:
    """Train the missing runs of a study, then fit laws, plan and write the report.

    Example: babelscale study run quickstart --corpus my-texts/

    Ctrl-C and SIGTERM save the runs in progress. The same command then continues from there.

    Parameters
    ----------
    report
        Write the report after training.
    holdout
        Also train the runs in the holdout of the design. By default they are left out, so that you can seal a forecast
        of them first.
    """
    from babelscale.reporting.monitor import running
    from babelscale.study.engines import run_local, run_ray

    study, groups = created(name, out, corpus), codes_of(only)
    if where.engine == "slurm":
        running.submit(study, only=groups, holdout=holdout, now=where.submit, restored_from=records)
        return
    chosen = partial(run_ray, address=where.address) if where.engine == "ray" else partial(run_local, slots=where.slots)
    running.run(study, only=groups, engine=chosen, report=report, holdout=holdout, restored_from=records)


@one_line_descriptions
def text(name: str, source: str, *, out: Path, json: Json = False) -> None:
    """Divide one text that exists in many languages between the languages of a study, by passages.

    No passage is then training text of two languages.

    Example: babelscale study text atlas-miniature bible37.tar.xz --out texts/miniature

    Use the new folder as the --corpus of the study. `study run` does the same by itself if its --corpus is such a text.

    Parameters
    ----------
    name
        The design. It lists the languages, and [corpus.passages] says how to divide the text between them.
    source
        A folder or a tar archive of LANGUAGE.tsv files. Each line is a verse: Gen.1.31, a tab, its text.
    out
        The new folder. It holds train/LANGUAGE.txt, valid/LANGUAGE.txt (the same passages in every language) and
        passages.json.
    """
    from babelscale.study.text import deal

    show(deal(_design(name), source, out), json)


@one_line_descriptions
def prepare(
    name: Name, *, out: Out = None, corpus: Corpus = None, only: Only = None, records: RecordsFile = None
) -> None:
    """Train the tokenizer and tokenise the text of a study, without training models.

    Example: babelscale study prepare my-study.toml --records my-study-records.jsonl.xz
    """
    from babelscale.reporting.monitor import running

    study = created(name, out, corpus)
    running.prepare(study, only=codes_of(only), restored_from=records)
    sys.stdout.write(f"{study.folder}\n")


@one_line_descriptions
def records(name: Name, *, out: Path | None = None, json: Json = False) -> None:
    """Write the records of a study's finished runs into one small file, from which they can be restored.

    Example: babelscale study records quickstart --out quickstart.jsonl.xz

    Runs that are already in the file stay there. If the folder of the study is lost, `babelscale study run quickstart
    --records quickstart.jsonl.xz` restores them.

    Parameters
    ----------
    out
        File to write (default: NAME-records.jsonl.xz).
    """
    from babelscale.study import records as files

    study = _existing(name, None)
    with bar() as drawn:
        written = files.write(study, out or Path(f"{study.design.name}-records.jsonl.xz"), drawn)
    show(written, json)


@option_group
@dataclass(frozen=True)
class HostOptions:
    """The hosts that train together.

    Parameters
    ----------
    distributed
        Train on several hosts together.
    coordinator
        HOST:PORT of the first process.
    processes
        Number of processes.
    process
        Number of this process, from 0.
    """

    distributed: bool = False
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


@one_line_descriptions
def train(
    name: Name,
    runs: str,
    *,
    out: Out = None,
    devices: int | None = None,
    tensor: int = 1,
    hosts: HostOptions = HostOptions(),
) -> None:
    """Train named runs of a prepared study on all devices of this machine or of several hosts.

    Example: babelscale study train my-study s-sv-600k-s0-0d60e6d374 --devices 8

    On several hosts, start the same command on each host with --distributed. Under SLURM and on TPU pods the hosts find
    each other. Elsewhere, give --coordinator, --processes and --process. All hosts must see the folder of the study.

    Parameters
    ----------
    runs
        Names of the runs, separated by commas (`babelscale study status` lists them). Runs of one shape, recipe and
        length are trained together in one program.
    devices
        Number of devices (default: all).
    tensor
        Number of devices that split each matrix between them. The other devices split the batch.
    """
    from babelscale.reporting.monitor import running

    if hosts.distributed or hosts.coordinator is not None:
        import jax

        jax.distributed.initialize(hosts.coordinator, hosts.processes, hosts.process)
    running.train(_existing(name, out), codes_of(runs) or [], devices=devices, tensor=tensor)


@option_group
@dataclass(frozen=True)
class DeviceOptions:
    """The devices whose time is estimated.

    Parameters
    ----------
    device
        Device to train on: cpu-thread (default), h200, h100, a100, tpu-v5p or tpu-v5e.
    throughput
        Measured FLOPs a second of one device, used instead of the figure for the device.
    devices
        Number of devices that train at the same time (default: 1, or the number of CPUs of this machine).
    """

    device: str | None = None
    throughput: float | None = None
    devices: int | None = None


@one_line_descriptions
def plan(
    name: Name,
    *,
    out: Out = None,
    only: Only = None,
    hardware: DeviceOptions = DeviceOptions(),
    power: bool = False,
    target: str | None = None,
    json: Json = False,
) -> None:
    """Print the runs and the cost of a study before it is trained, and how much of it is finished.

    Example: babelscale study plan single-gpu --device h200

    Parameters
    ----------
    power
        Also simulate the runs of the design and fit every law to them. This shows how well the design would identify
        each parameter.
    target
        Language for --power (default: the first target of the design).
    """
    from babelscale.reporting.design.study_forecast import forecast_study

    found = forecast_study(
        _design(name),
        **asdict(hardware),
        only=codes_of(only),
        folder=_folder(name, out),
        power=power,
        target=target,
        progress=bar() if power else None,
    )
    show(found, json)


@option_group
@dataclass(frozen=True)
class SimulationOptions:
    """The tables that are simulated.

    Parameters
    ----------
    assume
        Parameter values to assume instead of the defaults, for example alpha=0.4,tau_da=0.5.
    tables
        Number of simulated tables for every law and target. More tables make the expected intervals more precise.
    noise
        Standard deviation of log loss between seeds (default: as measured, or 0.005).
    """

    assume: str | None = None
    tables: int = 8
    noise: float | None = None
    seed: Seed = 0


@one_line_descriptions
def power(
    name: Name,
    *,
    law: str | None = None,
    target: str | None = None,
    out: Out = None,
    simulation: SimulationOptions = SimulationOptions(),
    laws_apart: Annotated[bool, Parameter(negative="")] = False,
    json: Json = False,
) -> None:
    """Print what a design could identify before it is trained: the parameters of every law, and other questions.

    Example: babelscale study power atlas-miniature

    If the folder of the study is prepared, the command uses its token counts. If the folder has finished runs that
    differ only in their seeds, the command measures the noise from them.

    Parameters
    ----------
    law
        Law to identify (default: all laws).
    target
        Language (default: the targets in the design's analysis).
    laws_apart
        Also simulate tables from each of three laws, and print how often the true law predicts held-out runs best.
    """
    from babelscale.reporting.design.study_power import study_power

    found = study_power(
        _design(name),
        law,
        target,
        folder=_folder(name, out),
        parameters=numbers(simulation.assume, "--assume"),
        tables=simulation.tables,
        noise=simulation.noise,
        apart=laws_apart,
        seed=simulation.seed,
        progress=bar(),
    )
    show(found, json)


@one_line_descriptions
def status(name: Name, *, out: Out = None, json: Json = False) -> None:
    """Print which runs of a study are finished, in progress and missing."""
    from babelscale.study import cost

    show(cost.status(_existing(name, out)), json)


@one_line_descriptions
def report(name: Name, *, out: Out = None) -> None:
    """Analyse the finished runs of a study and write its report."""
    from babelscale import reporting
    from babelscale.study.disk import watched

    folder = _existing(name, out).folder
    with watched(folder):
        written = reporting.build_report(folder, progress=bar())
    sys.stdout.write(f"{written}\n")


@one_line_descriptions
def verify(
    name: Name,
    *,
    from_languages: Annotated[str, Parameter(name="--from")],
    to_languages: Annotated[str, Parameter(name="--to")],
    size: str,
    tokens: float,
    fit: Path | None = None,
    seeds: int = 3,
    out: Path | None = None,
) -> None:
    """Write a design that tests a law's advice: does the loss rise with more languages at the recommended size?

    Example: babelscale study verify quickstart --from sv,da,id --to sv,da,id,ms,es,fr --size xs --tokens 3e5

    Train the design with `babelscale study run`, then run `babelscale study verdict`.

    Parameters
    ----------
    from_languages
        Languages of the smaller mixture, separated by commas. They are sampled evenly.
    to_languages
        Languages of the larger mixture. They must include those of the smaller one.
    size
        Size of the design at which the smaller mixture is trained.
    tokens
        Tokens of the smaller mixture, all languages together.
    fit
        Saved fit of the multilinguality law (default: the printed exponents of the ATLAS study).
    seeds
        Number of seeds for each mixture.
    out
        File of the design (default: NAME-verification.toml).
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


@one_line_descriptions
def verdict(name: Name, *, out: Out = None, margin: float = 0.01, json: Json = False) -> None:
    """Say whether the loss rose, from the finished runs of a design that `babelscale study verify` wrote.

    Example: babelscale study verdict quickstart-verification

    Parameters
    ----------
    margin
        A rise by less than this share of the loss counts as no rise.
    """
    from babelscale.errors import StudyError
    from babelscale.reporting.design import verification

    study = _existing(name, out)
    runs = study.runs()
    if runs is None:
        raise StudyError(f"{study.folder}: no run is finished", hint=f"run `babelscale study run {name}`")
    groups = {group: [spec.name for spec in specs] for group, specs in study.groups.items()}
    show(verification.verdict(runs, study.design, groups, margin=margin), json)


@option_group
@dataclass(frozen=True)
class SealOptions:
    """What a sealed forecast holds.

    Parameters
    ----------
    targets
        Languages whose losses are predicted, separated by commas (default: the targets of the design's analysis, or all
        languages).
    resamples
        Number of bootstrap refits behind each interval (default: 100).
    """

    targets: str | None = None
    resamples: int | None = None
    seed: Seed = 0


@one_line_descriptions
def forecast(
    study: Name,
    *,
    out: Out = None,
    seal: Annotated[bool, Parameter(negative="")] = False,
    open_: Annotated[bool, Parameter(name="--open", negative="")] = False,
    name: str | None = None,
    sealed: SealOptions = SealOptions(),
    json: Json = False,
) -> None:
    """Seal the predictions of every law for the runs of a study before they are trained, and score them afterwards.

    Examples:
        babelscale forecast quickstart --seal --targets sv,da
        babelscale forecast quickstart --open

    Without --seal and --open, the command lists the forecasts and their state.

    Parameters
    ----------
    seal
        Fit every law to the finished runs, and write the predictions for the other runs to STUDY/forecasts/NAME.json.
    open_
        Score a sealed forecast on the runs that were trained after it.
    name
        Name of the forecast. When you seal, the default is forecast-1, forecast-2 and so on. When you open, you need it
        if there are several forecasts.
    """
    from babelscale.errors import InputError
    from babelscale.reporting.design import forecast as forecasts

    if seal and open_:
        raise InputError("--seal and --open cannot be used together", hint="seal first, and open when runs are trained")
    if not seal and (sealed.targets is not None or sealed.resamples is not None):
        raise InputError(
            "--targets and --resamples can only be used with --seal", hint="a sealed forecast already has its own"
        )
    found = _existing(study, out)
    if seal:
        made = forecasts.seal(
            found,
            name=name,
            targets=codes_of(sealed.targets),
            seed=sealed.seed,
            progress=bar(),
            resamples=forecasts.RESAMPLES if sealed.resamples is None else sealed.resamples,
        )
        show(made, json)
    elif open_:
        show(forecasts.open_forecast(found.folder, name), json)
    else:
        show(forecasts.listing(found.folder), json)


@one_line_descriptions
def tensorboard(name: Name, *, out: Out = None, follow: bool = False) -> None:
    """Write the logs of the finished and running runs of a study as TensorBoard event files.

    Example: babelscale study tensorboard quickstart --follow & tensorboard --logdir studies/quickstart/tensorboard

    Parameters
    ----------
    follow
        Update the files every 15 seconds until you interrupt the command.
    """
    import time

    from babelscale.reporting.monitor.tensorboard import write_tensorboard

    study = _existing(name, out)
    sys.stdout.write(f"{write_tensorboard(study.folder)}\n")
    while follow:
        time.sleep(15)
        write_tensorboard(study.folder)


def created(name: str, out: Path | None, corpus: str | None) -> Any:
    """The study to train, from a design or from the folder of a study."""
    from babelscale.study import Study

    return Study.create(_design(name), out or (Path(name) if _is_study(name) else None), corpus)


def _existing(name: str, out: Path | None) -> Any:
    from babelscale.study import Study

    return Study.open(_folder(name, out))


def _design(name: str) -> Any:
    """The design, built-in, of a TOML file or of the folder of a study."""
    from babelscale.study import Study, load

    return Study.open(name).design if _is_study(name) else load(name)


def _is_study(name: str) -> bool:
    return (Path(name) / "design.json").is_file()


def _folder(name: str, out: Path | None) -> Path:
    return out or (Path(name) if Path(name).is_dir() else Path("studies") / Path(name).stem)
