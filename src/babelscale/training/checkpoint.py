"""Saved training states: Orbax behind a few verbs. Written in the background, whole or not at all, verified on load.

A state of step 30 is written as `30.partial`; a manifest with the length and checksum of every file is read back from
what was written; then the folder is renamed to `30`. Only that last rename makes it count, and only after it an older
state is deleted. So a kill at any moment leaves whole states, and leftovers that are ignored and later cleaned away.
"""

import errno
import json
import os
import re
import shutil
import warnings
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from pydantic import TypeAdapter

from babelscale.errors import BabelscaleWarning, StudyError

State = Any  # a pytree of arrays
_MANIFEST = "manifest.json"
_LEFTOVER = re.compile(r"\d+\.(partial|damaged)")
_CHUNK = 1 << 22
# What Orbax and TensorStore raise for a disk or a folder that does not do as asked; anything else is a mistake of ours.
_FAILURES = (OSError, ValueError, RuntimeError)
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DamagedCheckpoint(BabelscaleWarning):
    """A saved state is not as it was written; the one before it is used."""


class _Facts(NamedTuple):
    """A file of a saved state as it was written."""

    bytes: int
    crc32: int


_Manifest = TypeAdapter(dict[str, _Facts])


class Checkpoints:
    """The saved states of one run in one folder, by step.

    Where JAX runs in several processes, all of them call every method; the first one writes the manifests and deletes.

    Args:
        folder: made when the first state is saved; shared by all processes.
        keep: how many to keep, the newest; None keeps all.
    """

    def __init__(self, folder: Path, keep: int | None = 2) -> None:
        if keep is not None and keep < 2:
            raise ValueError(
                f"keep is {keep}; at least two states must be kept, so that one is left if the other is damaged"
            )
        self.folder = folder
        self._keep = keep
        # Folders made in the background would leave threads waiting for minutes where one cannot be made.
        options = ocp.AsyncOptions(create_directories_asynchronously=False)
        self._checkpointer = ocp.AsyncCheckpointer(ocp.PyTreeCheckpointHandler(), async_options=options)
        self._thread: ThreadPoolExecutor | None = None
        self._writing: tuple[int, Future[None]] | None = None
        self._verified: set[int] = set()

    def latest(self) -> int | None:
        """The newest step whose files are as they were saved; None where nothing is saved.

        Damaged states above it are set aside (renamed to `STEP.damaged`), with a `DamagedCheckpoint` warning each.

        Raises:
            StudyError: every saved state is damaged.
        """
        self._settle()
        damaged: dict[int, str] = {}
        found = _of_first_process(self._newest_whole(damaged) if jax.process_index() == 0 else 0)
        if found >= 0:
            for step, damage in damaged.items():
                self._set_aside(step)
                warnings.warn(
                    f"{self.folder}: the saved state of step {step} is damaged ({damage}); "
                    f"that of step {found} is used instead",
                    DamagedCheckpoint,
                    stacklevel=2,
                )
            return found
        if found == _ALL_DAMAGED:
            step, damage = next(iter(damaged.items()), ("?", "see the first process"))
            raise StudyError(
                f"{self.folder}: the state of step {step} cannot be restored ({damage}), nor any before it",
                hint="remove that folder of saved states, and the run is trained again from its start",
            )
        return None

    def save(self, step: int, state: State) -> None:
        """Copy a state to the host and write it in the background; the save before is waited for.

        Raises:
            StudyError: this save or the one before failed; what was saved earlier is intact.
        """
        self._settle()
        partial = self.folder / f"{step}.partial"
        try:
            if jax.process_index() == 0:
                # Not its parents: where the run's folder is gone, another process has taken it over.
                self.folder.mkdir(exist_ok=True)
                self._clean("partial")
            self._checkpointer.save(partial.absolute(), args=ocp.args.PyTreeSave(state))
        except _FAILURES as error:
            raise self._unwritten(step, error) from error
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing = step, self._thread.submit(self._finish, step, partial)

    def restore(self, like: State, step: int | None = None) -> State:
        """The state of a step, by default the newest one that is whole.

        Args:
            like: arrays, or `jax.ShapeDtypeStruct`s with shardings, whose shapes, types and devices the state takes,
                whatever devices it was saved from. Whole entries of the outermost dictionary may be left out, and are
                then not read.

        Raises:
            StudyError: nothing is saved, what is saved has another shape or type, or it is damaged.
        """
        step = self.latest() if step is None else step
        self._settle()
        where = f"{self.folder}: the state of step {step}"
        if step is None or not (self.folder / str(step)).is_dir():
            held = ", ".join(map(str, self._steps())) or "none"
            wanted = "no saved state" if step is None else f"no saved state of step {step} (saved are: {held})"
            raise StudyError(f"{self.folder}: {wanted}", hint="run the study again to train what is missing")
        damage = None if step in self._verified or jax.process_index() != 0 else self._damage(step)
        if _of_first_process(damage is not None):
            raise StudyError(
                f"{where} cannot be restored ({damage or 'it is damaged'})",
                hint="remove that saved state to train the run again",
            )
        path = (self.folder / str(step)).absolute()
        try:
            metadata = self._checkpointer.metadata(path).item_metadata
            if metadata is None:
                raise ValueError("Orbax finds no arrays in it")
            _compare(metadata.tree, like, where)
            wanted = jax.tree.map(_described, like)
            arguments = ocp.checkpoint_utils.construct_restore_args(wanted)
            request = ocp.args.PyTreeRestore(item=wanted, restore_args=arguments, partial_restore=True)
            return self._checkpointer.restore(path, args=request)
        except (*_FAILURES, KeyError) as error:
            raise StudyError(
                f"{where} cannot be restored ({_first_line(error)})",
                hint="remove that saved state to train the run again",
            ) from error

    def restore_latest(self, like: State) -> tuple[int, State] | None:
        """The newest whole state and its step; None where nothing is saved. Raises as `latest` and `restore` do."""
        step = self.latest()
        return None if step is None else (step, self.restore(like, step))

    def close(self) -> None:
        """Wait for the last save.

        Raises:
            StudyError: it failed.
        """
        try:
            self._settle()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
            self._checkpointer.close()

    def _finish(self, step: int, partial: Path) -> None:
        """In the background: once all is written, make it count, and then let go of what is older."""
        self._checkpointer.wait_until_finished()
        if jax.process_index() != 0:
            return
        manifest = {str(path.relative_to(partial)): _read_back(path)._asdict() for path in _files(partial)}
        with (partial / _MANIFEST).open("w", encoding="utf-8") as file:
            json.dump(manifest, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        place = self.folder / str(step)
        if place.exists():
            self._set_aside(step)
        partial.rename(place)
        for old in self._steps()[: -self._keep] if self._keep else []:
            # Under a name that does not count first: a kill must not leave half of it to be taken for damage.
            (self.folder / str(old)).rename(self.folder / f"{old}.partial")
        self._clean("partial", "damaged")

    def _settle(self) -> None:
        """Wait for the save under way; if it failed in one process, all of them say so."""
        if self._writing is None:
            return
        (step, future), self._writing = self._writing, None
        error = future.exception()
        failed = [error is not None]
        if jax.process_count() > 1:
            failed = np.atleast_1d(multihost_utils.process_allgather(np.array(failed[0]))).tolist()
        if not any(failed):
            self._verified.discard(step)
            return
        if jax.process_index() == 0:
            self._clean("partial")
        if error is not None and not isinstance(error, _FAILURES):
            raise error
        raise self._unwritten(step, error or RuntimeError("another process failed")) from error

    def _steps(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdecimal())

    def _newest_whole(self, damaged: dict[int, str]) -> int:
        """The newest step that is whole, or one of the two constants; fills `damaged` with those above it."""
        for step in reversed(self._steps()):
            damage = None if step in self._verified else self._damage(step)
            if damage is None:
                self._verified.add(step)
                return step
            damaged[step] = damage
        return _ALL_DAMAGED if damaged else _NOTHING

    def _damage(self, step: int) -> str | None:
        """What is wrong with the files of a step; None if they are as they were written."""
        folder = self.folder / str(step)
        try:
            manifest = _Manifest.validate_json((folder / _MANIFEST).read_bytes())
        except FileNotFoundError:
            return f"{_MANIFEST} is missing"
        except ValueError:
            return f"{_MANIFEST} is not a manifest"
        for name, facts in manifest.items():
            try:
                size = (folder / name).stat().st_size
                if size != facts.bytes:
                    return f"{name} has {size:,} bytes, not {facts.bytes:,}"
                if _read_back(folder / name) != facts:
                    return f"the checksum of {name} is not the one it was saved with"
            except OSError as error:
                return f"{name}: {error.strerror}"
        return None

    def _set_aside(self, step: int) -> None:
        aside = self.folder / f"{step}.damaged"
        try:
            shutil.rmtree(aside, ignore_errors=True)
            (self.folder / str(step)).rename(aside)
        except OSError:
            # Another reader was faster, or the folder may only be read: it is passed over again next time.
            return

    def _clean(self, *kinds: str) -> None:
        """Remove leftovers: what a killed or failed save left, and what was set aside."""
        for path in list(self.folder.iterdir()):
            if (found := _LEFTOVER.match(path.name)) and found[1] in kinds:
                shutil.rmtree(path, ignore_errors=True)

    def _unwritten(self, step: int, error: BaseException) -> StudyError:
        where = f"{self.folder}: the state of step {step} could not be written"
        reasons = [os.strerror(number) for number in _NO_ROOM]
        if getattr(error, "errno", None) in _NO_ROOM or any(reason in str(error) for reason in reasons):
            found = next((reason for reason in reasons if reason in str(error)), str(error))
            return StudyError(
                f"{where}: the disk is full ({found})",
                hint="make room and run the same command again; it continues from the state that was saved before",
            )
        return StudyError(
            f"{where} ({_first_line(error)})",
            hint="check that the folder can be written to, and run the same command again; it continues from "
            "the state that was saved before",
        )


# What `_newest_whole` says where there is no step to name; an integer is what processes can tell each other.
_NOTHING, _ALL_DAMAGED = -1, -2


def _of_first_process(value: int) -> int:
    """The first process's value, in every process."""
    if jax.process_count() == 1:
        return int(value)
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _read_back(path: Path) -> _Facts:
    length, checksum = 0, 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            length += len(chunk)
            checksum = zlib.crc32(chunk, checksum)
    return _Facts(length, checksum)


def _described(leaf: Any) -> jax.ShapeDtypeStruct:
    sharding = getattr(leaf, "sharding", None) or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _compare(saved: State, like: State, where: str) -> None:
    """Refuse a state of other shapes before any of it is read."""
    plain = _plain(like)
    held = _leaves({key: saved[key] for key in plain if key in saved} if isinstance(plain, dict) else saved)
    wanted = _leaves(plain)
    for name in sorted(held.keys() | wanted.keys()):
        if held.get(name) != wanted.get(name):
            raise StudyError(
                f"{where} has {name} of shape {held.get(name, 'none')}, this run needs {wanted.get(name, 'none')}",
                hint="it belongs to another model; give another base or remove it",
            )


def _leaves(tree: State) -> dict[str, str]:
    """Shape and type by path."""
    return {
        jax.tree_util.keystr(path): f"{tuple(leaf.shape)} {np.dtype(leaf.dtype)}"
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def _plain(tree: State) -> State:
    """Named tuples as Orbax stores them: dictionaries by field, empty ones as None."""
    names = getattr(tree, "_fields", None)
    if names is not None:
        return {name: _plain(value) for name, value in zip(names, tree, strict=True)} or None
    if isinstance(tree, dict):
        return {name: _plain(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_plain(value) for value in tree]
    return tree


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
