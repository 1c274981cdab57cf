"""A Ray cluster: one task a run, the study's folder shared by all nodes.

Ray's driver lives in a process of its own (`ray_driver`): where the cluster vanishes, Ray ends the driver's process
whatever it is doing, and this one has something to say and tables to write.
"""

import contextlib
import json
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from babelscale.errors import Stopped, StudyError
from babelscale.study.engines.common import Event, OnEvent, Schedule, signals_to, stopped
from babelscale.study.spec import RunSpec

_DRIVER = ("-m", "babelscale.study.engines.ray_driver")


def run_ray(
    specs: Iterable[RunSpec],
    folder: Path,
    *,
    address: str = "auto",
    trunks: Mapping[str, RunSpec] | None = None,
    on_event: OnEvent | None = None,
) -> None:
    """Train runs on a Ray cluster: a GPU each where the cluster has some, otherwise a CPU each.

    Every node sees the study's folder under the same path, and has the same babelscale installed.

    Args:
        address: "auto" for the cluster this machine belongs to, "ray://HOST:PORT" for one far away, "local" for one
            made of this machine alone.
        trunks: run -> the longer run it branches off, which is trained first.
        on_event: as in `run_local`.

    Raises:
        ModuleNotFoundError: Ray is not installed.
        StudyError: there is no such cluster, the connection was lost, or some runs failed; all others were trained.
        Stopped: SIGINT or SIGTERM arrived; the runs under way are saved.
    """
    # Asked for here, where the command line can say which extra brings it.
    import ray  # noqa: F401  # pyright: ignore[reportMissingImports]

    _check_address(address)
    schedule = Schedule(specs, folder, trunks)
    signals: list[int] = []
    (folder / "working").mkdir(parents=True, exist_ok=True)
    log = folder / "working" / "ray-driver.log"
    with log.open("ab") as errors:
        before = log.stat().st_size
        driver = subprocess.Popen(
            [sys.executable, *_DRIVER, str(folder), "--address", address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            # Ctrl-C reaches this process alone, which then asks the driver to stop.
            start_new_session=True,
        )

    def hear(number: int) -> None:
        # Whoever asks twice does not want to wait for what is being saved.
        driver.kill() if signals else driver.terminate()
        signals.append(number)

    assert driver.stdin is not None
    assert driver.stdout is not None
    with signals_to(hear):
        try:
            # The driver reads them all before it starts Ray. One that is dead already is told of below, by its status.
            with contextlib.suppress(BrokenPipeError):
                driver.stdin.write("".join(f"{name}\n" for name in schedule.names))
                driver.stdin.close()
            error = _follow(driver.stdout, schedule, on_event)
        except BaseException:
            driver.terminate()
            raise
        finally:
            # Where this side failed, the driver goes on to speak while the runs under way are saved.
            for _ in driver.stdout:
                pass
            status = driver.wait()
    if signals:
        raise stopped(signals[0])
    if error is not None:
        raise StudyError(error, hint=_hint(error, log.read_bytes()[before:]))
    if status != 0:
        raise StudyError(
            f"the connection to the Ray cluster at {address} was lost (the driver ended: status {status}; see {log})",
            hint="finished runs are kept; run the study again when the cluster is back",
        )
    schedule.close()


def _check_address(address: str) -> None:
    """Ray itself asks a host where nothing listens for a minute before it gives up."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise StudyError(
            f"no Ray cluster at {address} ({error.strerror or error})",
            hint="start one with `ray start --head`, or name its address",
        ) from None


def _hint(error: str, logged: bytes) -> str:
    """What to do where there is no way into a cluster; `logged` is what Ray wrote of it."""
    if "ray[client]" in error:
        return "ray:// needs Ray's client: pip install 'ray[client]'"
    if b"InvalidAuthToken" in logged:
        return (
            "the cluster requires a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH where it is not in "
            "~/.ray/auth_token"
        )
    return "start a cluster with `ray start --head`, or give its address with --address"


def _follow(lines: Iterable[str], schedule: Schedule, on_event: OnEvent | None) -> str | None:
    """Pass on what the driver says, until it ends; returns why it could not start."""
    for line in lines:
        if not line.startswith("{") or not line.endswith("\n"):
            continue
        event = json.loads(line)
        if "error" in event:
            return event["error"]
        schedule.note(event)
        if on_event is not None:
            on_event(event)
    return None


def train_on_node(folder: str, names: list[str], stop_file: str) -> list[Event]:
    """What a task does: train runs that can share a program; returns what there is to say of them in the end.

    JAX's environment is set before this process starts (the task's `runtime_env`).
    """
    from babelscale.study.study import Study
    from babelscale.study.worker import train_alike

    stop = _once_there(Path(stop_file))
    if stop():
        # A stop lets every task that still waits for a CPU come to one: none of them may begin.
        return [{"stopped": True}]
    study = Study.open(folder)
    said: list[Event] = []

    def say(event: Event) -> None:
        # The driver reads steps and losses from the runs' logs.
        if "step" not in event:
            said.append(event)

    try:
        train_alike(study, [study.specs[name] for name in names], say, stop)
    except Stopped:
        said.append({"stopped": True})
    return said


def _once_there(file: Path) -> Callable[[], bool]:
    """Whether a file is there, looked for once a second: a shared folder is asked seldom."""
    seen: dict[str, Any] = {"at": -math.inf, "there": False}

    def there() -> bool:
        if not seen["there"] and time.monotonic() - seen["at"] > 1:
            seen.update(at=time.monotonic(), there=os.path.exists(file))  # noqa: PTH110
        return seen["there"]

    return there
