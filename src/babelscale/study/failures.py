"""The reasons why runs failed, kept in the study's folder for later commands and other processes."""

import json
from collections.abc import Iterable
from pathlib import Path

from babelscale import files
from babelscale.study.engines import slurm

_NOTED = Path("working") / "failures.json"


def failures(folder: Path) -> dict[str, str]:
    """Why runs failed last, by name: as noted while they were trained, or as the logs of their tasks on SLURM tell."""
    return slurm.failures(folder) | _noted(folder)


def note(folder: Path, name: str, reason: str) -> None:
    """Note that a run failed. Only the process that holds the study's folder does so."""
    _write(folder, _noted(folder) | {name: reason})


def forget(folder: Path, names: Iterable[str]) -> None:
    """Runs are tried again: what was noted of them no longer holds."""
    noted = _noted(folder)
    kept = {name: reason for name, reason in noted.items() if name not in set(names)}
    if kept != noted:
        _write(folder, kept)


def _noted(folder: Path) -> dict[str, str]:
    try:
        return json.loads((folder / _NOTED).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _write(folder: Path, noted: dict[str, str]) -> None:
    if noted:
        files.write_text(folder / _NOTED, json.dumps(noted, indent=1, ensure_ascii=False) + "\n")
    else:
        (folder / _NOTED).unlink(missing_ok=True)
