"""`study run --engine ray` as a person gives it, on a cluster of two nodes made with `ray start` on this machine."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from babelscale.study import Study

pytest.importorskip("ray", reason="Ray is an extra of its own")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("grpc") is None, reason="Ray's client needs grpcio: ray[client]"),
]
RAY = Path(sys.executable).with_name("ray")
OURS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def listens(port: int) -> bool:
    with socket.socket() as one:
        one.settimeout(1)
        return one.connect_ex(("127.0.0.1", port)) == 0


def start(*options: str, environment: dict[str, str] | None = None) -> subprocess.Popen:
    command = [str(RAY), "start", "--block", "--num-cpus=1", "--node-ip-address=127.0.0.1", *options]
    return subprocess.Popen(
        command,
        env=os.environ | OURS | (environment or {}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def end(node: subprocess.Popen) -> None:
    node.terminate()
    try:
        node.wait(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(node.pid, signal.SIGKILL)
        node.wait()


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """Two nodes with a CPU each; yields where it is, under the names that `--address` may have."""
    gcs, client = free_port(), free_port()
    nodes = [start("--head", f"--port={gcs}", f"--ray-client-server-port={client}", "--include-dashboard=false")]
    try:
        wait_for(lambda: listens(gcs) and listens(client), 60)
        nodes.append(start(f"--address=127.0.0.1:{gcs}"))
        yield {"auto": f"127.0.0.1:{gcs}", "host": f"127.0.0.1:{gcs}", "client": f"ray://127.0.0.1:{client}"}
    finally:
        for node in reversed(nodes):
            end(node)


def wait_for(true, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture(scope="module")
def design(tiny_long: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("designs") / "long.toml"
    path.write_text(tiny_long)
    return path


@pytest.fixture(scope="module")
def peace(design: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    study = Study.create(design, tmp_path_factory.mktemp("peace") / "long")
    study.prepare()
    study.train()
    return study


@pytest.fixture
def study(peace: Study, tmp_path: Path) -> Study:
    folder = tmp_path / "long"
    folder.mkdir()
    for name in ("corpus", "tokenizer", "design.json"):
        (folder / name).symlink_to(peace.folder / name)
    return Study(peace.design, folder)


def command(design: Path, study: Study, address: str, environment: dict[str, str] | None = None) -> subprocess.Popen:
    given = ["study", "run", str(design), "--out", str(study.folder), "--no-report", "--engine", "ray"]
    return subprocess.Popen(
        [sys.executable, "-m", "babelscale", *given, "--address", address],
        env=os.environ | OURS | (environment or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_same(peace: Study, study: Study) -> None:
    assert {path.name for path in (study.folder / "finished").iterdir()} == set(peace.specs)
    assert not [path for path in (study.folder / "working").iterdir() if path.name in peace.specs]
    parts = [f"finished/{name}/{part}" for name in peace.specs for part in ("record.json", "log.jsonl")]
    for part in (*parts, *(f"runs/{path.name}" for path in (peace.folder / "runs").iterdir())):
        assert (peace.folder / part).read_bytes() == (study.folder / part).read_bytes(), part


@pytest.mark.parametrize("way", ["auto", "host", "client", "local"])
def test_every_way_into_a_cluster_leaves_the_same_bytes(
    way: str, cluster: dict[str, str], design: Path, peace: Study, study: Study
):
    environment = {"RAY_ADDRESS": cluster["auto"]} if way == "auto" else {}
    process = command(design, study, cluster.get(way, way) if way != "auto" else "auto", environment)
    said = process.communicate()
    assert process.returncode == 0, said
    assert_same(peace, study)


@pytest.mark.parametrize(("way", "number"), [("host", signal.SIGINT), ("client", signal.SIGTERM)])
def test_a_signal_saves_and_the_same_command_goes_on(
    way: str, number: signal.Signals, cluster: dict[str, str], design: Path, peace: Study, study: Study
):
    process = command(design, study, cluster[way])
    wait_for(lambda: list(study.folder.glob("working/*/*/log.jsonl")), 120)
    process.send_signal(number)
    said = process.communicate()[1]
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}" in said
    assert "Traceback" not in said
    # Two CPUs, so two runs were under way; those that waited for one did not begin.
    begun = list(study.folder.glob("working/*/*/log.jsonl"))
    assert 1 <= len(begun) <= 2
    for log in begun:
        assert [path.name for path in (log.parent / "state").iterdir() if path.name.isdecimal()]
    assert not list(study.folder.glob("working/stop-*"))
    process = command(design, study, cluster[way])
    assert process.wait() == 0, process.communicate()
    assert_same(peace, study)


def test_a_cluster_that_asks_for_a_token_says_so_and_takes_it(design: Path, peace: Study, study: Study):
    gcs, token = free_port(), {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "of-this-test-alone-and-long-enough"}
    head = start("--head", f"--port={gcs}", "--include-dashboard=false", environment=token)
    try:
        wait_for(lambda: listens(gcs), 60)
        process = command(design, study, f"127.0.0.1:{gcs}")
        said = process.communicate()[1]
        assert process.returncode == 1
        assert f"no Ray cluster at 127.0.0.1:{gcs}" in said
        assert "RAY_AUTH_MODE=token" in said
        process = command(design, study, f"127.0.0.1:{gcs}", token)
        assert process.wait() == 0, process.communicate()
        assert_same(peace, study)
    finally:
        end(head)
