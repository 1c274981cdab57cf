"""power: what a design could tell, before it is trained: tables drawn from an assumed law are fitted as real ones."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from babelscale import laws
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.fitting import Fit, fit
from babelscale.fitting.simulation import runs_of, simulate
from babelscale.laws import ScalingLaw
from babelscale.reporting.design.default_parameters import default_parameters
from babelscale.runs import Runs

if TYPE_CHECKING:
    from babelscale.study.design import Design
    from babelscale.study.spec import RunSpec

Progress = Callable[[str, int, int], None]

AHEAD = 4.0
"""A prediction is asked at this multiple of the design's largest compute."""
_OFTEN = 0.5  # a parameter that more of the tables leave open is called not identified


@dataclass(frozen=True)
class ExpectedParameter:
    """What a design would tell of one parameter: medians over the tables, natural units.

    `low` and `high` are None where no table gave an interval (the parameter is held). `open_share` is the share of
    tables whose fit says that the parameter is not identified, `reason` such a sentence.
    """

    name: str
    assumed: float
    low: float | None
    high: float | None
    open_share: float
    reason: str | None

    @property
    def identified(self) -> bool:
        """Whether most of the tables identify it."""
        return self.open_share <= _OFTEN

    @property
    def half_width(self) -> float | None:
        """Half the interval's width, as a share of the assumed value; None without an interval or at a value of 0."""
        if self.low is None or self.high is None or not self.assumed:
            return None
        return (self.high - self.low) / 2 / abs(self.assumed)


@dataclass(frozen=True)
class Power:
    """What a design's runs would tell of a law, from simulated tables.

    `curve` and `new_run` are the widths of the 90 % intervals of a prediction at `ahead` (as N, D by language and C),
    in shares of the loss (medians over the tables): of the law's own curve, and of a newly trained run. They are None
    where no table could be fitted.
    """

    law: str
    target: str
    runs: int
    tables: int
    fitted: int
    noise: float
    parameters: tuple[ExpectedParameter, ...]
    ahead: Mapping[str, Any]
    curve: float | None
    new_run: float | None
    notes: tuple[str, ...]
    assumptions: tuple[str, ...]

    @property
    def not_identified(self) -> tuple[str, ...]:
        """Parameters that most of the tables leave open; all of them where no table could be fitted."""
        return tuple(p.name for p in self.parameters if not p.identified)

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        parameters = [asdict(p) | {"half_width": p.half_width} for p in self.parameters]
        return asdict(self) | {"parameters": parameters, "not_identified": list(self.not_identified)}

    def __str__(self) -> str:
        noise = f"{100 * self.noise:.3g} % noise"
        head = f"{self.runs} runs on {self.target}, {self.law} law, {noise}, {self.tables} tables"
        lines = [head, f"  {'parameter':<14}{'assumed':>12}   90 % interval expected"]
        for p in self.parameters:
            between = "held" if p.low is None or p.high is None else f"{p.low:.4g} to {p.high:.4g}"
            said = f"   not identified in {100 * p.open_share:.0f} % of tables" if p.open_share else ""
            lines.append(f"  {p.name:<14}{p.assumed:>12.4g}   {between}{said}")
        if self.curve is not None and self.new_run is not None:
            lines.append(
                f"  loss at {self.ahead['compute']:.3g} FLOPs ({AHEAD:g}x the largest run's, 6ND; "
                f"extrapolated): the curve is known to ±{50 * self.curve:.2g} %, a new run to "
                f"±{50 * self.new_run:.2g} %"
            )
        said = [p.reason for p in self.parameters if p.reason and not p.identified]
        return "\n".join([*lines, *(f"  {text}" for text in dict.fromkeys([*said, *self.notes, *self.assumptions]))])


def power(
    design: "Design | Allocation | Runs | str | Path",
    law: str | ScalingLaw | None = None,
    target: str | None = None,
    *,
    parameters: Mapping[str, float] | None = None,
    unique_tokens: Mapping[str, float] | None = None,
    tables: int = 20,
    noise: float = 0.005,
    resamples: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
) -> Power:
    """The interval widths that a design would give, and what it cannot identify.

    Args:
        design: a study's design (built-in name, TOML file or Design), allocations, or a table of runs.
        law: a law or its name; where left out, adaptive-transfer if the target is trained beside others, else
            chinchilla.
        target: the language; may be left out where the design trains one only, or the law names it.
        parameters: numbers of the assumed law that replace the default ones (see `default_parameters`).
        unique_tokens: U by language, for a study's design; where left out, estimated (see
            `study.cost.unique_tokens`).
        tables: how many to simulate. noise: standard deviation of log loss.
        resamples: refits behind each interval.
        progress: called with (label, done, total).

    Raises:
        InputError: no such design, law, language or parameter. A design that cannot fit the law is a result, not an
            error: `fitted` is 0 and the notes say what is missing.
    """
    if tables < 1 or resamples < 2:
        raise InputError(f"{tables} tables of {resamples} resamples", hint="give at least 1 table and 2 resamples")
    allocation, assumptions = _allocation(design, unique_tokens)
    bare = runs_of(allocation)
    allocation = bare.final_allocations()
    form = _law(law, target, bare)
    target = _target(form, target, bare)
    values, told = default_parameters(form, allocation.at(form.defined(allocation)), parameters)
    ahead = _ahead(form, allocation)
    fits, failures = [], []
    for done in range(tables):
        if progress:
            progress(f"power of {form.name} on {target}", done, tables)
        runs = simulate(form, values, allocation, noise=noise, seed=seed + done)
        try:
            fits.append(fit(form, runs, resamples=resamples, seed=seed + done))
        except InputError as error:
            failures.append(f"{error.message}{f' ({error.hint})' if error.hint else ''}.")
    if progress:
        progress(f"power of {form.name} on {target}", tables, tables)
    widths = [_widths(found, ahead) for found in fits]
    spoken, general = _notes(form, fits)
    return Power(
        law=form.name,
        target=target,
        runs=int(form.defined(allocation).sum()),
        tables=tables,
        fitted=len(fits),
        noise=noise,
        parameters=tuple(_expected(name, values[name], fits, spoken.get(name, [])) for name in form.parameter_names),
        ahead={
            "params": float(ahead.params),
            "tokens": {code: float(D) for code, D in ahead.tokens.items()},
            "compute": float(6 * ahead.params * ahead.total_tokens),
        },
        curve=_median([curve for curve, _ in widths]),
        new_run=_median([new_run for _, new_run in widths]),
        notes=tuple(dict.fromkeys([*failures, *general])),
        assumptions=(*assumptions, *told),
    )


def _allocation(
    design: "Design | Allocation | Runs | str | Path", unique_tokens: Mapping[str, float] | None
) -> tuple[Allocation, list[str]]:
    """The allocations a design would train from scratch, shape (n,), and what had to be supposed."""
    if isinstance(design, Allocation):
        return design, []
    if isinstance(design, Runs):
        return design.one_stage().final_allocations(), []
    from babelscale.study.design import Design, load

    if not isinstance(design, Design):
        design = load(design)
    sizes, told = _unique(design, unique_tokens)
    allocation, left_out = allocation_of(specs_of(design, sizes), sizes)
    return allocation, [*told, *left_out]


def specs_of(design: "Design", unique_tokens: Mapping[str, float]) -> "list[RunSpec]":
    """Every run of a design once, in the design's order."""
    from babelscale.study.spec import expand

    groups = expand(design, {code: min(unique_tokens[code], 1e18) for code in design.languages}, "", "")
    return list({spec.name: spec for specs in groups.values() for spec in specs}.values())


def allocation_of(specs: "Sequence[RunSpec]", unique_tokens: Mapping[str, float]) -> tuple[Allocation, list[str]]:
    """The allocations of the runs that a law is fitted to, shape (n,), and sentences on the runs that are left out.

    Args:
        unique_tokens: U by language of the whole text; runs that read its first tokens only have less.

    Raises:
        InputError: no run starts from scratch.
    """
    scratch = [spec for spec in specs if spec.base is None and spec.then is None]
    if not scratch:
        raise InputError("the design has no run of one stage from scratch", hint="laws can only be fitted to such runs")
    used = [spec for spec in scratch if spec.own is None] or scratch
    told = []
    if staged := sum(spec.then is not None for spec in specs):
        told.append(f"{staged} two-stage runs are left out.")
    if len(used) < len(scratch):
        told.append(f"{len(scratch) - len(used)} runs with their own tokenizer are left out.")
    codes = sorted({code for spec in used for code in spec.mixture.languages})
    tokens = {code: np.array([spec.tokens * spec.mixture.shares.get(code, 0.0) for spec in used]) for code in codes}
    available = [spec.available(unique_tokens) for spec in used]
    unique = {code: np.array([U.get(code, unique_tokens[code]) for U in available]) for code in codes}
    return Allocation(np.array([spec.shape.params for spec in used], np.float64), tokens, unique), told


def _unique(design: "Design", given: Mapping[str, float] | None) -> tuple[dict[str, float], list[str]]:
    from babelscale.study import cost

    given = given or {}
    if unknown := [code for code in given if code not in design.languages]:
        raise InputError(
            f"unique tokens of {unknown[0]!r}, but design {design.name!r} does not train on this language",
            hint=f"its languages are {', '.join(design.languages)}",
        )
    sizes, told = cost.unique_tokens(design)
    return sizes | dict(given), told if len(given) < len(design.languages) else []


def _law(law: str | ScalingLaw | None, target: str | None, bare: Runs) -> ScalingLaw:
    if isinstance(law, ScalingLaw):
        return law
    if target is None:
        if len(bare.languages) != 1:
            raise InputError("no target language is given", hint=f"the design trains {', '.join(bare.languages)}")
        target = bare.languages[0]
    if target not in bare.languages:
        raise InputError(f"the design does not train on {target!r}", hint=f"it trains on {', '.join(bare.languages)}")
    usual = "adaptive-transfer" if bare.cosampled(target, most=1) else "chinchilla"
    return laws.by_name(law or usual, target, bare)


def _target(law: ScalingLaw, target: str | None, bare: Runs) -> str:
    found = law.target or target or bare.languages[0]
    if target not in (None, found) or found not in bare.languages:
        raise InputError(
            f"law {law.name!r} of {found!r}, and the target is {target!r}",
            hint=f"give one language of the design: {', '.join(bare.languages)}",
        )
    return found


def _ahead(law: ScalingLaw, allocation: Allocation) -> Allocation:
    """The largest run on the target with twice its parameters and twice its tokens of everything: 4x its compute."""
    usable = allocation.at(law.defined(allocation))
    top = usable.at(int(np.argmax(usable.params * usable.total_tokens)))
    step = math.sqrt(AHEAD)
    tokens = {code: step * D for code, D in top.tokens.items()}
    return Allocation(step * top.params, tokens, dict(top.unique_tokens), dict(top.covariates))


def _widths(found: Fit, ahead: Allocation) -> tuple[float, float]:
    """Widths of the curve's and a new run's interval, in shares of the loss."""
    said = found.predict(ahead)
    curve, new_run = said.confidence_high - said.confidence_low, said.high - said.low
    return float(curve / said.loss), float(new_run / said.loss)


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None


def _notes(law: ScalingLaw, fits: list[Fit]) -> tuple[dict[str, list[str]], list[str]]:
    """What the fits say of each parameter, one sentence a table, and what else most of them say."""
    spoken: dict[str, list[str]] = {}
    general: dict[str, int] = {}
    for found in fits:
        for note in found.notes:
            # A sentence on one parameter begins with its name; the search's own report is none on the design.
            words = note.replace("R_D*", "R_D").replace("R_N*", "R_N").split(" ")
            about = [w for w in (words[0], words[2] if words[1:2] == ["and"] else "") if w in law.parameter_names]
            if about and "depends on" not in note:
                for name in about:
                    spoken.setdefault(name, []).append(note)
            elif "starts agree" not in note and "losses left out" not in note:
                general[note] = general.get(note, 0) + 1
    return spoken, [note for note, times in general.items() if times > _OFTEN * len(fits)]


def _expected(name: str, assumed: float, fits: list[Fit], said: list[str]) -> ExpectedParameter:
    known = [found.intervals[name] for found in fits if name in found.intervals]
    share = min(len(said) / len(fits), 1.0) if fits else 1.0
    low, high = _median([pair[0] for pair in known]), _median([pair[1] for pair in known])
    return ExpectedParameter(name, assumed, low, high, share, said[0] if said else None)
