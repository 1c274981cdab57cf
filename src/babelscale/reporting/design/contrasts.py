"""answers: what a contrast among a design's runs can tell at a given noise, before any of them is trained.

Runs are matched by what they are (shape, mixture, length, vocabulary, start), never by the names of groups. A contrast
of losses is known to

    q sd sqrt(v),      v = sum of 1/n over the means that it compares,

with sd the scatter of log loss from seed to seed and q Student's 95 % quantile at the degrees of freedom that the
design's repeats give (normal, where the noise is assumed).
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from scipy.special import gammaincinv, stdtrit

from babelscale.intervals import Z90
from babelscale.runs import METRICS, Runs
from babelscale.study.spec import RunSpec

if TYPE_CHECKING:
    pass

LOSS_MATTERS = 0.01
"""Share of a loss: a model a tenth larger gains about this much where size is a quarter of the loss and alpha 0.35."""
NOISE_MATTERS = 0.25
"""Relative error of the noise: intervals made with it are then a quarter too wide or too narrow at most."""
ASSUMED_NOISE = 0.005
"""Standard deviation of log loss from seed to seed, where no runs tell it."""

Key = TypeVar("Key")


@dataclass(frozen=True)
class Noise:
    """Scatter of log loss from seed to seed: standard deviation, degrees of freedom behind it (0: none), its source."""

    sd: float
    degrees: int
    source: str

    @property
    def quantile(self) -> float:
        return float(stdtrit(self.degrees, 0.95)) if self.degrees else Z90

    def half_width(self, variance: float) -> float:
        """Half the 90 % interval of a contrast whose variance is `variance` times that of one log loss."""
        return self.quantile * self.sd * math.sqrt(variance)


@dataclass(frozen=True)
class DesignAnswer:
    """Whether a design can tell something.

    Args:
        question, subject: what is asked, and of which runs.
        basis: the runs that the answer rests on, in words.
        width: half the expected 90 % interval, or None where there is none.
        threshold: the largest width at which the question counts as answered.
        unit: of both: "loss" and "noise" (shares), "BTS", "log R_D*", "exponent", "tables" (share of wrong answers).
        obstacle: why it cannot be told whatever the width; None where nothing stands in the way.
        add: the runs that would answer it.
    """

    question: str
    subject: str
    basis: str
    width: float | None
    threshold: float
    unit: str
    obstacle: str | None = None
    add: str | None = None

    @property
    def can_tell(self) -> bool:
        return self.obstacle is None and self.width is not None and self.width <= self.threshold

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"can_tell": self.can_tell}

    def __str__(self) -> str:
        known = "" if self.width is None else f": {_size(self.width, self.unit)}"
        limit = f"limit {_size(self.threshold, self.unit)}"
        if self.can_tell:
            return f"{self.subject}: {self.basis}{known} - identified ({limit})"
        why = "; ".join(part for part in (self.obstacle or limit, self.add and f"add {self.add}") if part)
        return f"{self.subject}: {self.basis}{known} - not identified ({why})"


def _size(value: float, unit: str) -> str:
    """A width in words of its unit."""
    match unit:
        case "loss" | "noise":
            return f"±{100 * value:.2g} % of {'the loss' if unit == 'loss' else 'itself'}"
        case "log R_D*":
            return f"R_D* known within a factor of {math.exp(value):.2g}"
        case "tables":
            return f"wrong in {100 * value:.0f} % of the tables"
    return f"±{value:.2g}{' BTS' if unit == 'BTS' else ''}"


def alike(spec: RunSpec) -> str:
    """What a run's expected loss depends on: its identity without seeds and without when it is evaluated."""
    held: dict[str, Any] = spec.identity() | {"seed": None}
    held["recipe"].pop("evaluations", None)
    if isinstance(spec.base, RunSpec):
        held["base"] = alike(spec.base)
    return json.dumps(held, sort_keys=True)


def _seeds(spec: RunSpec) -> tuple[int, ...]:
    return (spec.seed, *(_seeds(spec.base) if isinstance(spec.base, RunSpec) else ()))


def distinct(specs: Iterable[RunSpec]) -> list[RunSpec]:
    """Runs that end in different losses: of those that differ in their evaluations alone, the one with the most."""
    found: dict[tuple[str, tuple[int, ...]], RunSpec] = {}
    for spec in specs:
        key = alike(spec), _seeds(spec)
        if key not in found or spec.recipe.evaluations > found[key].recipe.evaluations:
            found[key] = spec
    return list(found.values())


def repeats(specs: Iterable[RunSpec]) -> list[list[RunSpec]]:
    """Sets of runs that differ in their seeds alone, two or more each."""
    return [same for same in grouped(distinct(specs), alike).values() if len(same) > 1]


def grouped(specs: Iterable[RunSpec], key: Callable[[RunSpec], Key]) -> dict[Key, list[RunSpec]]:
    """Runs by a key, in their order."""
    found: dict[Key, list[RunSpec]] = {}
    for spec in specs:
        found.setdefault(key(spec), []).append(spec)
    return found


def plain(spec: RunSpec) -> bool:
    """Whether a run starts from scratch, reads the whole text under the shared vocabulary and keeps one mixture."""
    return spec.base is None and spec.own is None and spec.unique_tokens is None and spec.then is None


def only(spec: RunSpec) -> str | None:
    """The language of a monolingual run."""
    return spec.languages[0] if len(spec.languages) == 1 else None


def noise_of(
    specs: Sequence[RunSpec], given: float | None, runs: Runs | None = None, names: Mapping[str, RunSpec] | None = None
) -> Noise:
    """The noise to judge a design by: as given, else as finished runs have it, else assumed.

    Args:
        runs: finished runs of the study. names: their specifications, by name.
    """
    degrees = sum(len(same) - 1 for same in repeats(specs))
    if given is not None:
        return Noise(given, degrees, "as given")
    if runs is not None and names is not None and (found := measured_noise(runs, names)) is not None:
        # Intervals are those of the whole design once it is trained, and so are their degrees of freedom.
        return replace(found, degrees=max(degrees, found.degrees))
    return Noise(ASSUMED_NOISE, degrees, "assumed")


def measured_noise(runs: Runs, names: Mapping[str, RunSpec]) -> Noise | None:
    """The scatter of decayed log losses between finished runs that differ in their seeds alone; None where none do.

    Losses on languages that a run was trained on are pooled; the degrees of freedom count runs, as the losses of one
    run go up and down together.
    """
    import polars as pl

    total, losses, degrees = 0.0, 0, 0
    known = set(runs.names)
    ends = runs.losses.filter(split="validation", lr_state="decayed")
    values: pl.DataFrame = ends.select("run", "language", value=METRICS[runs.metric].log())
    for same in repeats(spec for name, spec in names.items() if name in known):
        codes = set(same[0].languages)
        part = values.filter(pl.col("run").is_in([spec.name for spec in same]) & pl.col("language").is_in(codes))
        spread = part.group_by("language").agg(pl.col("value").var(), pl.len().alias("n")).filter(pl.col("n") > 1)
        if spread.height:
            total += float((spread["value"] * (spread["n"] - 1)).sum())
            losses += int((spread["n"] - 1).sum())
            degrees += len(same) - 1
    if not losses:
        return None
    sd = math.sqrt(total / losses)
    low, high = (100 * sd * end for end in spread_of_sd(degrees))
    source = f"measured on {degrees} repeats among finished runs (90 %: {low:.2g} to {high:.2g} %)"
    return Noise(sd, degrees, source)


def spread_of_sd(degrees: int) -> tuple[float, float]:
    """Ends of the 90 % interval of a standard deviation, as multiples of its estimate (normal errors)."""
    low, high = (math.sqrt(degrees / float(2 * gammaincinv(degrees / 2, p))) for p in (0.95, 0.05))
    return low, high


def more_seeds(width: float, threshold: float) -> str | None:
    """How many times the seeds of the compared runs a narrower interval needs."""
    times = math.ceil((width / threshold) ** 2)
    return f"more seeds: {times} times as many runs on both sides" if times > 1 else None


def named(items: Iterable[str], what: str) -> str:
    """A short list, or how many there are."""
    listed = sorted(set(items))
    return " ".join(listed) if len(listed) <= 12 else f"{len(listed)} {what}"


def contrast(question: str, subject: str, basis: str, variance: float, noise: Noise, **more: Any) -> DesignAnswer:
    """An answer about a difference of losses."""
    width = noise.half_width(variance)
    return DesignAnswer(
        question, subject, basis, width, LOSS_MATTERS, "loss", **{"add": more_seeds(width, LOSS_MATTERS)} | more
    )
