"""Saved states: whole or not at all, verified on load, the same bits on any number of devices."""

import functools
import json
import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from babelscale.errors import StudyError
from babelscale.training.checkpoint import Checkpoints, DamagedCheckpoint

OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam(), optax.add_decayed_weights(0.1))


def made(seed: int, width: int = 16):
    keys = jax.random.split(jax.random.key(seed))
    parameters = {"embedding": jax.random.normal(keys[0], (32, width)), "norm": jax.random.normal(keys[1], (width,))}
    return {"parameters": parameters, "optimiser": OPTIMISER.init(parameters)}


def same(one, other) -> bool:
    assert jax.tree.structure(one) == jax.tree.structure(other)
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True))


def saved(folder: Path, *steps: int, keep: int | None = 2) -> Path:
    checkpoints = Checkpoints(folder, keep=keep)
    for step in steps:
        checkpoints.save(step, made(step))
    checkpoints.close()
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def largest(folder: Path) -> Path:
    """The file that holds most of a state's numbers."""
    return max(folder.rglob("d/*"), key=lambda path: path.stat().st_size)


def test_a_state_comes_back_to_the_bit_and_two_are_kept(tmp_path: Path):
    folder = saved(tmp_path / "state", 10, 20, 30)
    assert names(folder) == ["20", "30"]
    checkpoints = Checkpoints(folder)
    assert checkpoints.latest() == 30
    assert same(checkpoints.restore(made(0)), made(30))
    assert same(checkpoints.restore(made(0), 20), made(20))
    step, state = checkpoints.restore_latest(made(0))
    assert step == 30
    assert same(state, made(30))


def test_all_are_kept_where_asked(tmp_path: Path):
    assert names(saved(tmp_path, 1, 2, 3, 4, keep=None)) == ["1", "2", "3", "4"]
    with pytest.raises(ValueError, match="at least two"):
        Checkpoints(tmp_path, keep=1)


def test_a_folder_that_does_not_exist_is_not_made(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path / "state")
    assert checkpoints.latest() is None
    assert checkpoints.restore_latest(made(0)) is None
    with pytest.raises(StudyError, match="no saved state"):
        checkpoints.restore(made(0))
    checkpoints.close()
    assert names(tmp_path) == []


def test_the_state_saved_is_the_one_at_the_call(tmp_path: Path):
    # The loop hands its buffers on to the next step while the state is still being written.
    @functools.partial(jax.jit, donate_argnums=0)
    def following(state):
        return jax.tree.map(lambda x: x + 1, state)

    state = {"w": jax.random.normal(jax.random.key(0), (1000, 2000))}
    expected = np.array(state["w"])
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, state)
    for _ in range(5):
        state = following(state)
    assert np.array_equal(checkpoints.restore(state, 1)["w"], expected)
    checkpoints.close()


def test_entries_that_are_not_asked_for_are_not_read(tmp_path: Path):
    folder = saved(tmp_path, 10)
    parameters = made(0)["parameters"]
    assert same(Checkpoints(folder).restore({"parameters": parameters}), {"parameters": made(10)["parameters"]})


def cut_short(step: Path) -> str:
    file = largest(step)
    os.truncate(file, file.stat().st_size // 2)
    return rf".*{file.name} has [\d,]+ bytes, not"


def flipped(step: Path) -> str:
    file = largest(step)
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    file.write_bytes(content)
    return f"the checksum of .*{file.name}"


def missing(step: Path) -> str:
    file = largest(step)
    file.unlink()
    return f".*{file.name}: No such file"


def without_manifest(step: Path) -> str:
    (step / "manifest.json").unlink()
    return "manifest.json is missing"


def manifest_cut_short(step: Path) -> str:
    os.truncate(step / "manifest.json", 40)
    return "manifest.json is not a manifest"


@pytest.mark.parametrize("damage", [cut_short, flipped, missing, without_manifest, manifest_cut_short])
def test_a_damaged_newest_state_is_named_and_the_one_before_it_used(tmp_path: Path, damage):
    folder = saved(tmp_path, 10, 20)
    told = damage(folder / "20")
    checkpoints = Checkpoints(folder)
    with pytest.warns(DamagedCheckpoint, match=rf"step 20 is damaged \({told}.*step 10 is used instead"):
        step, state = checkpoints.restore_latest(made(0))
    assert step == 10
    assert same(state, made(10))
    # It is not tried again, and goes once a new state is whole.
    assert names(folder) == ["10", "20.damaged"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Checkpoints(folder).latest() == 10
    checkpoints.save(20, made(20))
    checkpoints.close()
    assert names(folder) == ["10", "20"]
    assert same(Checkpoints(folder).restore(made(0)), made(20))


def test_where_all_are_damaged_the_error_says_to_remove_the_folder(tmp_path: Path):
    folder = saved(tmp_path, 10, 20)
    told = flipped(folder / "20")
    cut_short(folder / "10")
    for _ in range(2):  # and goes on saying so
        with pytest.raises(StudyError, match=rf"step 20 cannot be restored \({told}.*\n.*remove that folder"):
            Checkpoints(folder).restore_latest(made(0))


def test_a_damaged_state_asked_for_by_its_step_is_an_error(tmp_path: Path):
    folder = saved(tmp_path, 10, 20)
    told = flipped(folder / "20")
    with pytest.raises(StudyError, match=f"step 20 cannot be restored .*{told}"):
        Checkpoints(folder).restore(made(0), 20)
    with pytest.raises(StudyError, match=r"no saved state of step 15 \(saved are: 10, 20\)"):
        Checkpoints(folder).restore(made(0), 15)


def test_another_shape_or_type_is_refused_and_is_no_damage(tmp_path: Path):
    folder = saved(tmp_path, 10, 20)
    with pytest.raises(StudyError, match=r"\['embedding'\] of shape \(32, 16\) float32, this run needs \(32, 24\)"):
        Checkpoints(folder).restore(made(0, width=24))
    halves = jax.tree.map(lambda x: x.astype(jnp.bfloat16), made(0)["parameters"])
    with pytest.raises(StudyError, match=r"this run needs .* bfloat16"):
        Checkpoints(folder).restore({"parameters": halves})
    more = {"parameters": made(0)["parameters"] | {"norm_final": jnp.ones(3)}}
    with pytest.raises(StudyError, match=r"'norm_final'\] of shape none, this run needs \(3,\)"):
        Checkpoints(folder).restore(more)
    fewer = {"parameters": {"norm": made(0)["parameters"]["norm"]}}
    with pytest.raises(StudyError, match=r"'embedding'\] of shape \(32, 16\) float32, this run needs none"):
        Checkpoints(folder).restore(fewer)
    assert names(folder) == ["10", "20"]


def test_what_a_kill_leaves_is_ignored_and_cleaned(tmp_path: Path):
    folder = saved(tmp_path, 10, 20)
    for leftover in ("30.partial", "30.partial.orbax-checkpoint-tmp-17"):
        (folder / leftover / "d").mkdir(parents=True)
    (folder / "branches").mkdir()
    assert Checkpoints(folder).latest() == 20
    saved(folder, 30)
    assert names(folder) == ["20", "30", "branches"]


FULL = """
import json, resource, sys
from pathlib import Path
import jax, jax.numpy as jnp
from babelscale.errors import StudyError
from babelscale.training.checkpoint import Checkpoints
folder = Path(sys.argv[1])
state = {"w": jax.random.normal(jax.random.key(0), (300, 1000))}
checkpoints = Checkpoints(folder)
checkpoints.save(1, state)
checkpoints.save(2, state)
checkpoints.latest()
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
told = []
for attempt in (lambda: checkpoints.save(4, state), checkpoints.close):
    try:
        checkpoints.save(3, state)
        attempt()
    except StudyError as error:
        told.append(str(error))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
left = sorted(path.name for path in folder.iterdir())
checkpoints = Checkpoints(folder)
step, found = checkpoints.restore_latest(state)
whole = step == 2 and bool((found["w"] == state["w"]).all())
checkpoints.save(3, found)
checkpoints.close()
after = sorted(path.name for path in folder.iterdir())
print(json.dumps({"told": told, "left": left, "whole": whole, "after": after}))
"""


def child(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""} | environment,
    )


def answer(process: subprocess.Popen[str]):
    out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def test_a_full_disk_is_called_so_and_loses_nothing(tmp_path: Path):
    # A limit on the size of files stands for the full disk: both fail in the middle of a write.
    answered = answer(child(FULL, str(tmp_path)))
    assert len(answered["told"]) == 2
    for told in answered["told"]:
        assert f"{tmp_path}: the state of step 3 could not be written: the disk is full" in told
        assert "hint: make room" in told
    assert answered["left"] == ["1", "2"]
    assert answered["whole"]
    assert answered["after"] == ["2", "3"]


def test_no_space_left_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(self: Path, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(StudyError, match="the disk is full"):
        Checkpoints(tmp_path / "state").save(1, made(1))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StudyError, match=r"file/state: the state of step 1 could not be written .*\n.*written to"):
        Checkpoints(tmp_path / "file" / "state").save(1, made(1))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path):
    folder = saved(tmp_path / "state", 1, 2)
    folder.chmod(0o500)
    try:
        checkpoints = Checkpoints(folder)
        with pytest.raises(StudyError, match="could not be written"):
            checkpoints.save(3, made(3))
        assert checkpoints.latest() == 2
    finally:
        folder.chmod(0o700)


EIGHT = """
import json, sys
from pathlib import Path
import jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from babelscale.training.checkpoint import Checkpoints
mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
split, whole = NamedSharding(mesh, P("data")), NamedSharding(mesh, P())
folder, other = map(Path, sys.argv[1:])
like = {"w": jax.ShapeDtypeStruct((64, 8), np.float32, sharding=split),
        "n": jax.ShapeDtypeStruct((3,), np.float32, sharding=whole)}
state = Checkpoints(folder).restore(like)
assert state["w"].sharding == split and len(state["w"].addressable_shards) == 8
assert state["w"].addressable_shards[0].data.shape == (8, 8)
checkpoints = Checkpoints(other)
checkpoints.save(7, state)
checkpoints.close()
print(json.dumps([len(jax.devices()), np.asarray(state["w"]).tobytes().hex(), np.asarray(state["n"]).tobytes().hex()]))
"""


def test_a_state_goes_from_one_device_to_eight_and_back(tmp_path: Path):
    keys = jax.random.split(jax.random.key(3))
    state = {"w": jax.random.normal(keys[0], (64, 8)), "n": jax.random.normal(keys[1], (3,))}
    one, eight = tmp_path / "one", tmp_path / "eight"
    checkpoints = Checkpoints(one)
    checkpoints.save(5, state)
    checkpoints.close()
    flags = "--xla_force_host_platform_device_count=8"
    devices, *found = answer(child(EIGHT, str(one), str(eight), XLA_FLAGS=flags))
    assert devices == 8
    assert found == [np.asarray(state[name]).tobytes().hex() for name in ("w", "n")]
    back = Checkpoints(eight).restore(state)
    assert same(back, state)
    assert len(back["w"].sharding.device_set) == 1


TWO = """
import json, sys, warnings
from pathlib import Path
import jax, numpy as np
jax.config.update("jax_cpu_collectives_implementation", "gloo")
rank, port, folder = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
jax.distributed.initialize(f"127.0.0.1:{port}", 2, rank)
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from babelscale.errors import StudyError
from babelscale.training.checkpoint import Checkpoints
mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
split = NamedSharding(mesh, P("data"))
def made(step):
    values = np.arange(64, dtype=np.float32).reshape(8, 8) * step
    return {"w": jax.make_array_from_callback((8, 8), split, lambda index: values[index])}
def right(state, step):
    return all(np.array_equal(shard.data, (np.arange(64, dtype=np.float32).reshape(8, 8) * step)[shard.index])
               for shard in state["w"].addressable_shards)
checkpoints = Checkpoints(folder)
assert checkpoints.latest() is None
for step in (1, 2, 3):
    checkpoints.save(step, made(step))
step, state = checkpoints.restore_latest(made(0))
assert (step, right(state, 3)) == (3, True)
checkpoints.close()
def spoil(step):
    if rank == 0:
        file = max((path for path in (folder / str(step)).rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
        file.write_bytes(file.read_bytes()[:-3])
    multihost_utils.sync_global_devices("spoilt")
spoil(3)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    checkpoints = Checkpoints(folder)
    step, state = checkpoints.restore_latest(made(0))
warned = [str(warning.message) for warning in caught if "damaged" in str(warning.message)]
assert (step, right(state, 2)) == (2, True)
spoil(2)
try:
    Checkpoints(folder).latest()
except StudyError as error:
    told = str(error)
checkpoints.close()
print(json.dumps([jax.process_count(), len(warned), "cannot be restored" in told]))
"""


def test_two_processes_save_restore_and_fall_back_together(tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [child(TWO, str(rank), port, str(tmp_path)) for rank in range(2)]
    assert [answer(process) for process in processes] == [[2, 1, True], [2, 0, True]]
