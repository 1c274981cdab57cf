"""Walk: what a study's runs gave; and its place on disk, written whole and read while nothing it rests on changes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from babelscale import files
from babelscale.fitting import Comparison, Fit
from babelscale.planning import Plan
from babelscale.runs import Runs
from babelscale.transfer import TransferMatrix


@dataclass(frozen=True)
class Walk:
    """What a study's runs gave.

    `limits` says in plain sentences what could not be done and why; `reused` whether the results were on disk already.
    """

    name: str
    runs: Runs
    design: Mapping[str, Any] = field(default_factory=dict)
    matrix: TransferMatrix | None = None
    fits: tuple[Fit, ...] = ()
    comparison: Comparison | None = None
    plan: Plan | None = None
    limits: tuple[str, ...] = ()
    reused: bool = False

    @property
    def title(self) -> str:
        return str(self.design.get("title") or self.design.get("name") or self.name)

    @property
    def pricing(self) -> tuple[Fit, ...]:
        """The fits of laws that price the number of languages, by target."""
        return tuple(found for found in self.fits if found.law.prices_languages)

    @property
    def best_fits(self) -> tuple[Fit, ...]:
        """For each target the richest law that could be fitted: adaptive transfer, otherwise Chinchilla.

        Fits stand in the order of their laws, poorer ones first.
        """
        return tuple({found.target: found for found in self.fits if not found.law.prices_languages}.values())


def read(folder: Path, settings: Mapping[str, Any], start: Walk) -> Walk | None:
    """The results on disk, if they are whole and were made from the same runs, settings and version."""
    try:
        walk = json.loads((folder / "walk.json").read_text(encoding="utf-8"))
        if walk["settings"] != settings:
            return None
        matrix = TransferMatrix.load(folder / "transfer.json") if walk["transfer"] else None
        fits = tuple(Fit.load(folder / "fits" / name) for name in walk["fits"])
        comparison = _comparison(folder / "comparison.json") if walk["comparison"] else None
        made = _plan(folder / "plan.json") if walk["plan"] else None
    except (OSError, ValueError, KeyError, TypeError):
        # Not there, half there or of another version: the walk is made again, so nothing is lost.
        return None
    return replace(
        start, matrix=matrix, fits=fits, comparison=comparison, plan=made, limits=tuple(walk["limits"]), reused=True
    )


def save(walk: Walk, folder: Path, settings: Mapping[str, Any]) -> None:
    """Write every result, walk.json last: it vouches for the others."""
    (folder / "fits").mkdir(parents=True, exist_ok=True)
    (folder / "walk.json").unlink(missing_ok=True)
    names = [f"{found.law.name}-{found.target or 'all'}.json" for found in walk.fits]
    for old in (folder / "fits").glob("*.json"):
        if old.name not in names:
            old.unlink()
    for name, found in zip(names, walk.fits, strict=True):
        found.save(folder / "fits" / name)
    there = {"transfer": walk.matrix, "comparison": walk.comparison, "plan": walk.plan}
    for name, found in there.items():
        if found is None:
            (folder / f"{name}.json").unlink(missing_ok=True)
        else:
            files.write_text(folder / f"{name}.json", json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n")
    record = {
        "settings": settings,
        "fits": names,
        "limits": list(walk.limits),
        **{name: found is not None for name, found in there.items()},
    }
    files.write_text(folder / "walk.json", json.dumps(record, indent=1, ensure_ascii=False) + "\n")


def _comparison(path: Path) -> Comparison:
    return Comparison.from_dict(json.loads(path.read_text(encoding="utf-8")))


def _plan(path: Path) -> Plan:
    """A plan as `Plan.save` wrote it."""
    return Plan.from_dict(json.loads(path.read_text(encoding="utf-8")))
