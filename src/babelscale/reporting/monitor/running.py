"""Run a study from end to end with progress bars: data, training, analysis, report."""

import difflib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import TaskID

from babelscale.errors import InputError, Stopped
from babelscale.reporting.monitor.progress import Bar, bars
from babelscale.study import RunSpec, Study, failures, records
from babelscale.study.disk import watched
from babelscale.study.engines import Engine, Event, run_local, slurm, stopped


def prepare(study: Study, *, only: Sequence[str] | None = None, restored_from: Path | None = None) -> None:
    """Prepare the data and restore the runs of a file of records; the result, and groups
    whose mixtures cannot keep to their `max_epochs`, are written to standard error.

    Raises:
        InputError: the file cannot be used, or holds runs but none of this study.
    """
    with Bar() as bar:
        study.prepare(bar, only)
    for sentence in study.exceeded_caps:
        sys.stderr.write(f"warning: {sentence}\n")
    if restored_from is None:
        return
    done = records.restore(study, restored_from)
    if done.foreign and not done.restored and not done.already:
        raise InputError(
            f"no run of {done}".replace("\n", ";"), hint="give the records of this study, or leave out --records"
        )
    sys.stderr.write(f"{done}\n")


def run(
    study: Study,
    *,
    only: Sequence[str] | None = None,
    engine: Engine = run_local,
    report: bool = True,
    holdout: bool = False,
    restored_from: Path | None = None,
) -> Path:
    """Prepare the data, train the missing runs, then fit, plan and write the report; returns the report or folder.

    Args:
        only: groups of the design; by default all.
        engine: trains the runs.
        holdout: train the design's holdout too.
        restored_from: a file of records, whose runs count as finished.

    Raises:
        Stopped: SIGINT or SIGTERM arrived during training; the state of unfinished runs is saved.
        StudyError: some runs failed. Finished runs are kept, and the same call continues from there.
        DiskFull: finished runs and saved states are kept.
    """
    console = Console(file=sys.stderr)

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    began = time.perf_counter()
    prepare(study, only=only, restored_from=restored_from)
    chosen, missing = study.select(only), study.missing_of(only, holdout=holdout)
    again = sum(study.is_finished(spec.name) for spec in missing)
    why = f" ({again} of them again, for states that others continue from)" if again else ""
    say(f"study {study.design.name}: {len(chosen)} runs, {len(missing)} to train{why}, in {study.folder}")
    if missing:
        with _TrainingView(missing, console) as view:
            study.train(engine=engine, only=only, holdout=holdout, on_event=view.on_event)
    else:
        study.train()
    if left := len(study.missing_of(only)):
        say(
            f"{left} runs of the holdout are not trained: seal a forecast of them (babelscale forecast "
            f"{study.folder} --seal), then add --holdout to this command"
        )
    result = study.folder
    if report:
        from babelscale import reporting

        with Bar() as bar, watched(study.folder):
            result = reporting.build_report(study.folder, progress=bar)
    say(f"done in {time.perf_counter() - began:.0f} s")
    sys.stdout.write(f"{result}\n")
    return result


def submit(
    study: Study,
    *,
    only: Sequence[str] | None = None,
    holdout: bool = False,
    now: bool = False,
    restored_from: Path | None = None,
) -> None:
    """Prepare the data and write an array script for SLURM that trains the missing runs; print how to submit it.

    Args:
        holdout: train the design's holdout too.
        now: submit the script as well.
        restored_from: a file of records, whose runs count as finished.

    Raises:
        StudyError: SLURM is not installed here, or it refused the script.
    """
    prepare(study, only=only, restored_from=restored_from)
    missing = study.missing_of(only, holdout=holdout)
    with watched(study.folder):
        commands = slurm.write_array(missing, study.folder, trunks=study.trunks)
    head = f"{len(missing)} runs to train; to submit them: bash {study.folder / 'slurm' / 'submit.sh'}"
    sys.stdout.write("".join(f"{line}\n" for line in (head, *commands)))
    if now and missing:
        slurm.submit(study.folder)


def train(study: Study, names: Sequence[str], *, devices: int | None = None, tensor: int = 1) -> None:
    """Train named runs of a prepared study in this process, on a mesh of devices; several as a population.

    If JAX runs in several processes, all of them call this; the first one shows progress.

    Raises:
        InputError: a name is no run of the study, or a run that it continues from is missing.
    """
    import jax

    from babelscale.study.worker import Signalled, train_runs
    from babelscale.training import memory
    from babelscale.training.mesh import make_mesh

    specs = [_named(study, name) for name in names]
    mesh = make_mesh(devices, tensor)
    console = Console(file=sys.stderr, quiet=jax.process_index() != 0)
    members = len(specs) if len(specs) > 1 else None
    first = specs[0]
    execution = memory.choose(first.shape, first.recipe, mesh, members)
    needed = memory.estimate(first.shape, first.recipe, execution, mesh, members)
    console.print(
        f"{len(specs)} runs on {mesh.size} devices ({mesh.devices.flat[0].device_kind}), {execution.dtype}, "
        f"{execution.microbatches} microbatches; about {needed}",
        highlight=False,
        soft_wrap=True,
    )
    with bars(console) as progress:
        task = progress.add_task("training", total=specs[0].steps)

        def show(step: int, loss: float) -> None:
            progress.update(task, completed=step, description=f"{loss:.3f} nats a token")

        stop = Signalled()
        if jax.process_index() == 0:
            failures.forget(study.folder, names)
        try:
            published = train_runs(study, specs, progress=show, stop=stop, mesh=mesh, execution=execution)
        except Stopped:
            raise stopped(stop.number) from None
    if published:
        study.write_tables()
    for spec in published:
        sys.stdout.write(f"{study.finished(spec.name)}\n")


def _named(study: Study, name: str) -> RunSpec:
    spec = study.specs.get(name)
    if spec is None:
        close = difflib.get_close_matches(name, study.specs)
        hint = f"did you mean {', '.join(close)}" if close else "`babelscale study status` lists its runs"
        raise InputError(f"{study.folder} has no run {name!r}", hint=hint)
    if isinstance(spec.base, RunSpec) and not study.has_state(spec.base):
        lacks = "has no saved state" if study.is_finished(spec.base.name) else "is not finished"
        raise InputError(f"{name} continues from {spec.base.name}, which {lacks}", hint="train that run first")
    return spec


class _TrainingView:
    """One bar for the whole study, measured in FLOPs, and one bar for each run under way."""

    def __init__(self, missing: Sequence[RunSpec], console: Console) -> None:
        self._specs = {spec.name: spec for spec in missing}
        self._terminal = console.is_terminal
        self._console = console
        self._total = len(missing)
        self._done = 0
        self._began = time.perf_counter()
        self._progress = bars(console)
        self._whole = self._progress.add_task("training", total=sum(spec.flops for spec in missing))
        self._tasks: dict[str, TaskID] = {}
        self._flops: dict[str, float] = {}

    def __enter__(self) -> "_TrainingView":
        if self._terminal:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def on_event(self, event: Event) -> None:
        name = event["run"]
        spec = self._specs[name]
        if "warning" in event:
            self._console.print(f"  warning: {name}: {event['warning']}", highlight=False, soft_wrap=True)
        elif "step" in event:
            self._flops[name] = spec.flops * event["step"] / spec.steps
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=spec.steps)
            self._progress.update(
                self._tasks[name], completed=event["step"], description=f"  {name}  {event['loss']:.3f} nats"
            )
        else:
            self._done += 1
            self._flops[name] = spec.flops
            if name in self._tasks:
                self._progress.remove_task(self._tasks.pop(name))
            outcome = "failed" if "failed" in event else "done"
            left = self._time_left()
            self._console.print(f"  {self._done}/{self._total} {outcome} {name}{left}", highlight=False, soft_wrap=True)
        done = sum(self._flops.values())
        self._progress.update(
            self._whole, completed=done, description=f"training, {self._tokens_per_second():,.0f} tokens/s"
        )

    def _tokens_per_second(self) -> float:
        """Of all runs together, since the start."""
        shares = ((self._specs[name], flops / self._specs[name].flops) for name, flops in self._flops.items())
        return sum(spec.tokens * share for spec, share in shares) / (time.perf_counter() - self._began)

    def _time_left(self) -> str:
        if self._terminal:
            return ""
        gone = time.perf_counter() - self._began
        whole = self._progress.tasks[0].total or 1.0
        share = sum(self._flops.values()) / whole
        return f", about {gone / share * (1 - share):.0f} s left" if share > 0 else ""
