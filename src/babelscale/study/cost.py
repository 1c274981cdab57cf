"""What a study would cost, before it runs; and how far it is, while it runs."""

from dataclasses import asdict, dataclass
from typing import Any

from babelscale.study.design import Design
from babelscale.study.engines import processors
from babelscale.study.spec import RunSpec, expand
from babelscale.study.study import Study

# FLOPs a second of one pinned CPU thread over a whole quickstart, evaluation and compiling included, as measured for
# models of 0.1M to 0.3M parameters (docs/performance.md).
THREAD_FLOPS = 33e9


@dataclass(frozen=True)
class GroupCost:
    """One group of a design."""

    name: str
    runs: int
    tokens: float
    flops: float
    why: str


@dataclass(frozen=True)
class Estimate:
    """Runs, tokens and FLOPs of a design; shared runs count once in the totals."""

    name: str
    groups: tuple[GroupCost, ...]
    runs: int
    tokens: float
    flops: float
    hours: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{'group':<16}{'runs':>6}{'tokens':>12}{'FLOPs':>12}  why"]
        lines += [f"{g.name:<16}{g.runs:>6}{g.tokens:>12.3g}{g.flops:>12.3g}  {g.why}" for g in self.groups]
        lines.append(
            f"{'in all':<16}{self.runs:>6}{self.tokens:>12.3g}{self.flops:>12.3g}  runs that groups share count once"
        )
        lines.append(
            f"about {self.hours * 60:.1f} minutes of training on {len(processors())} CPUs at "
            f"{THREAD_FLOPS / 1e9:.0f} GFLOP/s each, evaluation and compiling included"
        )
        return "\n".join(lines)


def estimate(design: Design) -> Estimate:
    """Cost of a design from its shapes alone; no text is read, so mixtures by size are taken as even."""
    groups = expand(design, dict.fromkeys(design.languages, 1.0), "", "")
    unique = {spec.hash: spec for specs in groups.values() for spec in specs}
    flops = sum(spec.flops for spec in unique.values())
    return Estimate(
        design.name,
        tuple(
            GroupCost(group.name, len(specs), _tokens(specs), float(sum(spec.flops for spec in specs)), group.why)
            for group, specs in zip(design.groups, groups.values(), strict=True)
        ),
        len(unique),
        _tokens(unique.values()),
        float(flops),
        flops / (THREAD_FLOPS * len(processors())) / 3600,
    )


def _tokens(specs: Any) -> float:
    return float(sum(spec.tokens for spec in specs))


@dataclass(frozen=True)
class Status:
    """How far a study is."""

    folder: str
    finished: tuple[str, ...]
    under_way: tuple[str, ...]
    missing: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        counted = f"{len(self.finished)} finished, {len(self.under_way)} begun, {len(self.missing)} missing"
        lines = [f"{self.folder}: {counted}"]
        lines += [f"  begun    {name}" for name in self.under_way]
        lines += [f"  missing  {name}" for name in self.missing]
        return "\n".join(lines)


def status(study: Study) -> Status:
    """Which runs are finished, begun and missing; a run that was begun goes on from its last saved state."""
    names: dict[str, RunSpec] = study.specs
    finished = [name for name in names if study.is_finished(name)]
    begun = [name for name in names if name not in finished and (study.folder / "working" / name).exists()]
    missing = [name for name in names if name not in finished and name not in begun]
    return Status(str(study.folder), tuple(finished), tuple(begun), tuple(missing))
