"""SLURM: a plain array script a person can read, over the single-run command `babelscale study train`."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from babelscale import files
from babelscale.errors import StudyError
from babelscale.study.engines.common import ENVIRONMENT, Schedule, compiled
from babelscale.study.spec import RunSpec

# SLURM's own default for MaxArraySize is 1001, and indices start at 0.
_LONGEST_ARRAY = 1000
_JOBS = "jobs.txt"
# The first line of a task's log; and lines that tell why one ended: ours, Python's, SLURM's (out of memory or time).
_RUN = re.compile(r"^run (\S+)$", re.MULTILINE)
_REASON = re.compile(r"^(?:error: |(?=\w*(?:Error|Exception): )|slurmstepd: error: )(.+)$", re.MULTILINE)

_ARRAY = """\
#!/bin/bash
# One run of the study for each task of the array; the first argument is the list of runs.
# Starting a task again, or twice, does no harm: a finished run is left alone, an interrupted one goes on.
# Options for your cluster (partition, account, time, gres) go on sbatch's command line or here.
#SBATCH --job-name={name}
#SBATCH --output={folder}/slurm/%A_%a.log
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --requeue
# Two minutes before its time is up a run is told to save its state; started again, it goes on from there.
#SBATCH --signal=B:TERM@120
run=$(sed -n "${{SLURM_ARRAY_TASK_ID}}p" "$1")
echo "run $run"
if [ -z "${{SLURM_JOB_GPUS:-}}" ]; then
{environment}
fi
export {cache}
exec {python} -m babelscale study train {folder} "$run"
"""


def write_array(specs: Iterable[RunSpec], folder: Path, *, trunks: Mapping[str, RunSpec] | None = None) -> list[str]:
    """Write slurm/array.sh, lists of runs (slurm/wave-1-1.txt, ...) and slurm/submit.sh; returns the commands.

    A wave holds the runs that depend on nothing but earlier waves; the costliest come first. Each wave waits for the
    one before to end, however it ended: a run whose base failed says so, and the others are trained.

    Raises:
        StudyError: tasks of an earlier array, which read these lists, are still in the queue.
    """
    folder = folder.absolute()
    place = folder / "slurm"
    if jobs := _queued(place):
        raise StudyError(
            f"{folder}: {', '.join(jobs)} of this study is still in SLURM's queue",
            hint=f"wait for it, or end it first with `scancel {' '.join(jobs)}`: its runs are saved and can be resumed",
        )
    environment = "\n".join(f"  export {name}={shlex.quote(value)}" for name, value in ENVIRONMENT.items())
    cache = " ".join(f"{name}={shlex.quote(value)}" for name, value in compiled(folder).items())
    script = _ARRAY.format(
        name=shlex.quote(folder.name),
        folder=shlex.quote(str(folder)),
        environment=environment,
        cache=cache,
        python=shlex.quote(sys.executable),
    )
    for old in (*place.glob("wave-*.txt"), place / _JOBS):
        old.unlink(missing_ok=True)
    files.write_text(place / "array.sh", script)
    commands: list[str] = []
    for number, wave in enumerate(_waves(Schedule(specs, folder, trunks)), start=1):
        waits = f" --dependency=afterany:$wave{number - 1}" if number > 1 else ""
        jobs = []
        for part, first in enumerate(range(0, len(wave), _LONGEST_ARRAY), start=1):
            names = wave[first : first + _LONGEST_ARRAY]
            listed = files.write_text(place / f"wave-{number}-{part}.txt", "".join(f"{name}\n" for name in names))
            paths = f"{shlex.quote(str(place / 'array.sh'))} {shlex.quote(str(listed))}"
            commands.append(f'job{number}_{part}=$(sbatch --parsable --array=1-{len(names)}{waits} "$@" {paths})')
            commands.append(f"echo ${{job{number}_{part}%%;*}} >> {shlex.quote(str(place / _JOBS))}")
            jobs.append(f"${{job{number}_{part}%%;*}}")
        commands.append(f"wave{number}={':'.join(jobs)}")
    head = ["#!/bin/bash", "# Submits the waves; further options of sbatch may be given.", "set -e"]
    files.write_text(place / "submit.sh", "".join(f"{line}\n" for line in head + commands))
    return commands


def submit(folder: Path) -> None:
    """Run slurm/submit.sh.

    Raises:
        StudyError: there is no sbatch here, or it refused.
    """
    script = folder.absolute() / "slurm" / "submit.sh"
    if shutil.which("sbatch") is None:
        raise StudyError("there is no sbatch on this machine", hint=f"run `bash {script}` where there is")
    done = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise StudyError(f"sbatch refused: {done.stderr.strip()}", hint=f"correct the error and run `bash {script}`")


def failures(folder: Path) -> dict[str, str]:
    """Why runs failed, by name, as the newest log of each one tells; one that was stopped and saved did not fail."""
    found: dict[str, str] = {}
    for log in sorted((folder / "slurm").glob("*.log"), key=lambda path: path.stat().st_mtime):
        text = log.read_text(encoding="utf-8", errors="replace")
        if run := _RUN.search(text):
            reasons = [] if "\nstopped by SIG" in text else _REASON.findall(text)
            if reasons:
                found[run[1]] = reasons[0]
            else:
                found.pop(run[1], None)
    return found


def _queued(place: Path) -> list[str]:
    """Arrays handed in earlier that have tasks which wait or run."""
    jobs = (place / _JOBS).read_text(encoding="utf-8").split() if (place / _JOBS).exists() else []
    if not jobs or shutil.which("squeue") is None:
        return []
    # It complains of jobs it has forgotten, and still lists the others.
    command = ["squeue", "--noheader", "--format=%F", "--jobs", ",".join(jobs)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return [job for job in jobs if job in listed]


def _waves(schedule: Schedule) -> list[list[str]]:
    waves: list[list[str]] = []
    while len(schedule):
        wave: list[str] = []
        while names := schedule.take():
            wave += names
        for name in wave:
            schedule.finish(name)
        waves.append(wave)
    return waves
