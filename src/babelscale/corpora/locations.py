"""Where text lies: a local path, or any location fsspec knows (`hf://...`, `s3://...`, `memory://...`).

A local file is known by its content. A remote one is known by its name, its size and the checksum its store keeps, so
that nothing has to be fetched to tell two corpora apart; a store without checksums tells them apart by name and size.
"""

import functools
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from pydantic import BaseModel

from babelscale.errors import InputError

# What stores call the checksum of a file: Hugging Face (large files and others), S3 and Azure, Google, WebHDFS.
_MARKS = ("lfs", "blob_id", "ETag", "etag", "md5Hash", "content_md5", "checksum", "sha256")


class TextFile(BaseModel, frozen=True):
    """One file; `bytes` is its size as it lies, `mark` the checksum a remote store keeps (empty where none)."""

    place: str
    bytes: int
    mark: str = ""

    @property
    def name(self) -> str:
        return _name(self.place)

    @property
    def is_remote(self) -> bool:
        return is_remote(self.place)

    @property
    def is_of_this_process(self) -> bool:
        """Whether only this process sees the file."""
        return self.place.startswith("memory:")

    def open(self) -> BinaryIO:
        """The file's bytes.

        Raises:
            InputError: it cannot be opened.
        """
        try:
            if not self.is_remote:
                return Path(self.place).open("rb")
            system, path = _system(self.place)
            return cast(BinaryIO, system.open(path, "rb"))
        except OSError as error:
            raise unreadable(self, error) from None

    @property
    def identity(self) -> str:
        """What changes when the text does: SHA-256 of a local file; name, size and checksum of a remote one."""
        if self.is_remote:
            return f"{self.name} {self.bytes} {self.mark}"
        return _content(self.place, self.bytes, Path(self.place).stat().st_mtime_ns)


class FolderEntry(BaseModel, frozen=True):
    """What stands in a folder under `name`: a folder (`file` is None) or a file."""

    name: str
    place: str
    file: TextFile | None


def is_remote(place: str | Path) -> bool:
    """Whether a location is fsspec's to open."""
    return "://" in str(place)


def settled(place: str | Path) -> str:
    """A location as everybody writes it: no `file://`, no slash at the end."""
    text = str(place)
    for scheme in ("file://", "local://"):
        text = text.removeprefix(scheme)
    return text if text.endswith("://") else text.rstrip("/") or "/"


def inside(place: str, name: str) -> str:
    """The location of `name` in a folder; the outer part of a chained location (`zip://a::s3://b.zip`) stays."""
    head, chain, outer = place.partition("::")
    return f"{head}{'' if head.endswith('/') else '/'}{name}{chain}{outer}"


def entries(place: str, what: str, hint: str) -> list[FolderEntry]:
    """What stands in a folder, by name; names that begin with a dot are left out.

    Args:
        what: leads every message ("corpus texts").
        hint: what to do where there is no such folder.

    Raises:
        InputError: no such folder, not a folder, or a location of an unknown or uninstalled kind.
    """
    found = _remote(place, what, hint) if is_remote(place) else _local(place, what, hint)
    return sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda entry: entry.name)


def unreadable(file: TextFile, error: OSError) -> InputError:
    """An error of reading, in words."""
    return InputError(
        f"{file.place}: cannot be read ({error.strerror or error})",
        hint="check that it exists and that you may read it",
    )


def _local(place: str, what: str, hint: str) -> list[FolderEntry]:
    folder = Path(place)
    if not folder.exists():
        raise InputError(f"{what}: no such folder", hint=hint)
    if not folder.is_dir():
        raise InputError(f"{what}: not a folder", hint="put the file into a folder, named after its language")
    return [
        FolderEntry(name=path.name, place=str(path), file=None)
        if path.is_dir()
        else FolderEntry(name=path.name, place=str(path), file=TextFile(place=str(path), bytes=path.stat().st_size))
        for path in folder.iterdir()
    ]


def _remote(place: str, what: str, hint: str) -> list[FolderEntry]:
    system, path = _system(place)
    try:
        listed = system.ls(path, detail=True)
    except FileNotFoundError:
        raise InputError(f"{what}: no such folder", hint=hint) from None
    except OSError as error:
        raise InputError(f"{what}: cannot be listed ({error})", hint="check the network and your rights") from None
    if [str(info["name"]).rstrip("/") for info in listed] == [path.rstrip("/")] and listed[0]["type"] == "file":
        raise InputError(f"{what}: not a folder", hint="put the file into a folder, named after its language")
    found = []
    for info in listed:
        name = _name(info["name"])
        at = inside(place, name)
        file = None
        if info["type"] != "directory":
            file = TextFile(place=at, bytes=int(info.get("size") or 0), mark=_mark(info))
        found.append(FolderEntry(name=name, place=at, file=file))
    return found


def _system(place: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    protocol = place.partition("://")[0]
    try:
        return url_to_fs(place)
    except ImportError as error:
        package = known_implementations.get(protocol, {}).get("class", "").split(".")[0]
        package = "aiohttp" if package == "fsspec" else package
        raise InputError(
            f"{place}: its kind of location needs another package ({error})",
            hint=f"install it beside babelscale: pip install {package or protocol}",
        ) from None
    except ValueError as error:
        raise InputError(
            f"{place}: not a location ({error})",
            hint="give a local path, or a location of fsspec such as hf://, s3:// or gs://",
        ) from None


def _mark(info: Mapping[str, Any]) -> str:
    for key in _MARKS:
        value = info.get(key)
        if isinstance(value, Mapping):
            value = value.get("sha256") or value.get("oid")
        if value:
            return str(value).strip('"')
    return ""


def _name(place: str) -> str:
    return os.path.basename(place.partition("::")[0].rstrip("/"))  # noqa: PTH119 - a location, not always a path


@functools.cache
def _content(place: str, size: int, changed: int) -> str:
    """SHA-256 (hex) of a local file; size and time are there so that a changed file is read again."""
    del size, changed
    with Path(place).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
