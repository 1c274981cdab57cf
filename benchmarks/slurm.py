"""A study through a real SLURM of one node, brought up in a temporary folder: stopped in the middle, and gone on with.

The array is cancelled half-way and submitted again, and one run fails and is mended. Every run must be there exactly
once, with the record and the log, to the byte, of the same study trained by the local engine. Exit status 1 otherwise.

Needs slurmctld, slurmd and munged (Debian: slurm-wlm, munge) and root; touches no cluster this machine may belong to.

Usage: .venv/bin/python benchmarks/slurm.py [--tokens 2e5] [--folder DIR]
"""

import argparse
import contextlib
import json
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

DESIGN = """
name = "arrayed"
languages = ["sv", "da", "sw"]

[corpus]
bytes_per_language = 60_000

[tokenizer]
vocabulary = 400

[recipe]
batch_size = 4
sequence_length = 32
learning_rate = 1e-2
evaluations = 2
evaluation_tokens = 256
checkpoint_every = 200

[sizes]
xs = {{ layers = 1, heads = 1, d_model = 8, d_ff = 16, d_head = 8 }}

[[groups]]
name = "mono"
mixture = "monolingual"
sizes = ["xs"]
tokens = [{tokens}]

[[groups]]
name = "all"
mixture = "uniform"
sizes = ["xs"]
tokens = [{tokens}]

[[groups]]
name = "continued"
mixture = "monolingual"
languages = ["sv", "da"]
sizes = ["xs"]
tokens = [4e3]
continue_from = "all"
"""
DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
# Plain processes: no cgroups, no accounting, two runs at a time whatever the machine has.
CONFIGURATION = """
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmUser={user}
SlurmdUser={user}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=60
MinJobAge=600
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def lacking() -> str | None:
    """Why a cluster cannot be brought up here; None where it can."""
    if missing := [name for name in DAEMONS if shutil.which(name) is None]:
        return f"no {', '.join(missing)} on this machine"
    return None if os.geteuid() == 0 else "a SLURM node needs root"


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """A SLURM of one node with two CPUs; yields the environment that its commands need."""
    folder.mkdir()
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o400)
    host = socket.gethostname().partition(".")[0]
    configuration = folder / "slurm.conf"
    user = pwd.getpwuid(os.geteuid()).pw_name
    controller, node = free_ports(2)
    configuration.write_text(
        CONFIGURATION.format(folder=folder, host=host, user=user, controller=controller, node=node), encoding="utf-8"
    )
    environment = os.environ | {"SLURM_CONF": str(configuration)}
    places = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
    # By force, as it wants folders that everybody may enter.
    munged = ["munged", "--foreground", "--force", *(f"--{name}={folder}/munge.{end}" for name, end in places.items())]
    with contextlib.ExitStack() as stack:
        for command in (munged, ["slurmctld", "-D"], ["slurmd", "-D", "-N", host]):
            with (folder / f"{command[0]}.out").open("wb") as said:
                daemon = subprocess.Popen(command, env=environment, stdout=said, stderr=said, start_new_session=True)
            stack.callback(end, daemon)
            if command is munged:
                wait_for((folder / "munge.socket").exists, 20, f"munged did not start; see {folder}")
        idle = ["sinfo", "--noheader", "--format=%T"]
        wait_for(lambda: said_by(idle, environment) == "idle", 60, f"the node did not come up; see {folder}")
        yield environment


def end(daemon: subprocess.Popen) -> None:
    daemon.terminate()
    try:
        daemon.wait(timeout=20)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def said_by(command: list[str], environment: dict[str, str]) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout.strip()


def wait_for(true: Callable[[], object], seconds: float, otherwise: str) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
        time.sleep(0.2)


def queue(environment: dict[str, str]) -> list[str]:
    """Tasks that wait or run."""
    return said_by(["squeue", "--noheader", "--array", "--format=%i %T"], environment).splitlines()


def submit(design: Path, study: Path, environment: dict[str, str]) -> str:
    """Give the command, as a person would."""
    command = [sys.executable, "-m", "babelscale", "study", "run", str(design), "--out", str(study)]
    done = subprocess.run(
        [*command, "--engine", "slurm", "--submit"], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return done.stdout


def differences(peace, arrayed) -> list[str]:
    """Runs that are missing, there though nobody asked, or not the same to the byte."""
    wanted, there = set(peace.specs), {path.name for path in (arrayed.folder / "finished").iterdir()}
    wrong = [f"missing or extra {name}" for name in sorted(wanted ^ there)]
    for name in sorted(wanted & there):
        for part in ("record.json", "log.jsonl"):
            if (peace.finished(name) / part).read_bytes() != (arrayed.finished(name) / part).read_bytes():
                wrong.append(f"{name}/{part} differs")
    for table in (peace.folder / "runs").iterdir():
        if table.read_bytes() != (arrayed.folder / "runs" / table.name).read_bytes():
            wrong.append(f"{table.name} differs")
    return wrong + [f"left over: {path}" for path in (arrayed.folder / "working").iterdir() if path.name in wanted]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=float, default=2e5, help="of each run")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if reason := lacking():
        print(reason)
        return 2
    from babelscale.study import Study

    with tempfile.TemporaryDirectory(prefix="slurm.", dir=options.folder) as name:
        folder = Path(name)
        design = folder / "arrayed.toml"
        design.write_text(DESIGN.format(tokens=options.tokens), encoding="utf-8")
        peace = Study.create(design, folder / "peace")
        peace.prepare()
        peace.train()
        arrayed = Study(peace.design, folder / "arrayed")
        arrayed.folder.mkdir()
        for part in ("corpus", "tokenizer", "design.json"):
            (arrayed.folder / part).symlink_to(peace.folder / part)
        with cluster(folder / "slurm") as environment:
            print(said_by(["sinfo", "--version"], environment), flush=True)
            wrong = through(design, arrayed, environment)
        wrong += differences(peace, arrayed)
        print("\n".join(wrong) or "every run once, the same to the byte")
    print("FAILS" if wrong else "holds")
    return 1 if wrong else 0


def through(design: Path, study, environment: dict[str, str]) -> list[str]:
    """The array cancelled in the middle, a run that fails, and the command given until nothing is missing."""
    wrong: list[str] = []
    began = time.monotonic()
    submit(design, study.folder, environment)
    working, finished = study.folder / "working", study.folder / "finished"
    wait_for(lambda: list(working.glob("*/*/log.jsonl")), 120, "no run began")
    try:
        submit(design, study.folder, environment)
        wrong.append("a second array was handed in while the first was in the queue")
    except RuntimeError as error:
        if "still in SLURM's queue" not in str(error):
            wrong.append(str(error))
    print(f"{time.monotonic() - began:5.1f} s  begun; cancelled: {', '.join(queue(environment))}", flush=True)
    said_by(["scancel", "--user", str(os.geteuid())], environment)
    wait_for(lambda: not queue(environment), 120, "the cancelled tasks go on")
    saved = sorted(path.parents[2].name for path in working.glob("*/*/state/*") if path.name.isdecimal())
    print(f"{time.monotonic() - began:5.1f} s  {len(study.missing)} missing, saved: {', '.join(saved)}", flush=True)
    # A run that cannot be published: its place is taken by a folder without a record.
    failing = next(name for name, spec in study.specs.items() if spec.base is None and not study.is_finished(name))
    (finished / failing).mkdir(parents=True)
    (finished / failing / "in-the-way").touch()
    submit(design, study.folder, environment)
    wait_for(lambda: not queue(environment), 300, "the array does not end")
    status = json.loads(
        said_by([sys.executable, "-m", "babelscale", "study", "status", str(study.folder), "--json"], environment)
    )
    print(f"{time.monotonic() - began:5.1f} s  {len(study.missing)} missing; failed: {status['failed']}", flush=True)
    if not any("cannot be published" in reason for reason in status["failed"].values()):
        wrong.append(f"{failing} failed and its reason is not told")
    shutil.rmtree(finished / failing)
    submit(design, study.folder, environment)
    wait_for(lambda: not queue(environment), 300, "the array does not end")
    print(f"{time.monotonic() - began:5.1f} s  {len(study.missing)} missing", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main())
