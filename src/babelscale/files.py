"""Files and folders that appear whole or not at all: written beside their place, then moved there."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from babelscale.errors import InputError

Model = TypeVar("Model", bound=BaseModel)


@contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends well and vanishes otherwise."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o666 & ~_mask())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file in UTF-8; a reader sees the old file or the new one."""
    with new_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
    return Path(path)


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write a file of bytes; a reader sees the old file or the new one."""
    with new_file(path) as partial:
        partial.write_bytes(data)
    return Path(path)


def read_model(path: str | Path, model: type[Model]) -> Model:
    """A JSON file, checked against a model.

    Raises:
        InputError: the file cannot be read, or one of its fields is not as the model says; both are named.
    """
    try:
        return model.model_validate_json(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", hint="is the folder complete?") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "the whole file"
        raise InputError(
            f"{path}: {field}: {first['msg']}", hint="restore the file as babelscale wrote it, from a copy"
        ) from None


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder` that takes its name when the block ends well and vanishes otherwise.

    Raises:
        InputError: `folder` exists and is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} exists already", hint="remove it, or name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
    try:
        yield partial
        partial.chmod(0o777 & ~_mask())
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _mask() -> int:
    """The process's umask; temporary files are made for their owner alone."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
