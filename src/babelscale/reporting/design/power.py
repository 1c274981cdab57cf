"""Statistical power of a design before it is trained: tables drawn from an assumed law are fitted as real ones are."""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from babelscale import laws
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.fitting import Fit, fit
from babelscale.fitting.simulation import runs_of, simulate
from babelscale.laws import ScalingLaw
from babelscale.reporting.design.default_parameters import default_parameters
from babelscale.runs import Runs
from babelscale.study import cost
from babelscale.study.design import Design, load
from babelscale.study.spec import RunSpec, expand

Progress = Callable[[str, int, int], None]

AHEAD = 4.0
"""The prediction is made at this multiple of the design's largest compute."""
_MOST_TABLES = 0.5  # a parameter that more than this share of the tables leaves open is called not identified


@dataclass(frozen=True)
class ExpectedParameter:
    """What the design is expected to measure of one parameter: medians over the tables, in natural units.

    `low` and `high` are None where no table gives an interval (the parameter is fixed). `open_share` is the share of
    tables whose fit does not identify the parameter, and `reason` is the fit's sentence on it.
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
        return self.open_share <= _MOST_TABLES

    @property
    def half_width(self) -> float | None:
        """Half the interval's width as a share of the assumed value; None without an interval or at a value of 0."""
        if self.low is None or self.high is None or not self.assumed:
            return None
        return (self.high - self.low) / 2 / abs(self.assumed)


@dataclass(frozen=True)
class Power:
    """How well a design's runs are expected to identify a law.

    `curve` and `new_run` are the widths of the 90 % intervals of a prediction at `ahead` (N, D by language and C) in
    shares of the loss (medians over the tables): of the law's own curve, and of a newly trained run. They are None
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
        lines = [head, f"  {'parameter':<14}{'assumed':>12}   expected 90 % interval"]
        for p in self.parameters:
            between = "fixed" if p.low is None or p.high is None else f"{p.low:.4g} to {p.high:.4g}"
            missed = f"   not identified in {100 * p.open_share:.0f} % of tables" if p.open_share else ""
            lines.append(f"  {p.name:<14}{p.assumed:>12.4g}   {between}{missed}")
        if self.curve is not None and self.new_run is not None:
            lines.append(
                f"  loss at {self.ahead['compute']:.3g} FLOPs ({AHEAD:g}x the largest run's, 6ND; extrapolated): the "
                f"curve is known to ±{50 * self.curve:.2g} %, a new run to ±{50 * self.new_run:.2g} %"
            )
        reasons = [p.reason for p in self.parameters if p.reason and not p.identified]
        return "\n".join([*lines, *(f"  {text}" for text in dict.fromkeys([*reasons, *self.notes, *self.assumptions]))])


def power(  # noqa: PLR0913 - each is a setting of its own with a default
    design: Design | Allocation | Runs | str | Path,
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
    """The interval widths that a design is expected to give, and the parameters that it cannot identify.

    Args:
        design: a study's design (built-in name, TOML file or Design), allocations, or a table of runs.
        law: a law or its name; by default adaptive-transfer if the target is trained beside other languages, otherwise
            chinchilla.
        target: the language; optional where the design trains one language only, or the law names it.
        parameters: values of the assumed law that replace the default ones (see `default_parameters`).
        unique_tokens: U by language, for a study's design; estimated by default (see `study.cost.unique_tokens`).
        tables: number of simulated tables. noise: standard deviation of log loss.
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
    values, sources = default_parameters(form, allocation.at(form.defined(allocation)), parameters)
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
    by_parameter, general = _notes(form, fits)
    return Power(
        law=form.name,
        target=target,
        runs=int(form.defined(allocation).sum()),
        tables=tables,
        fitted=len(fits),
        noise=noise,
        parameters=tuple(_expected(name, values[name], fits, by_parameter[name]) for name in form.parameter_names),
        ahead={
            "params": float(ahead.params),
            "tokens": {code: float(D) for code, D in ahead.tokens.items()},
            "compute": float(6 * ahead.params * ahead.total_tokens),
        },
        curve=_median([curve for curve, _ in widths]),
        new_run=_median([new_run for _, new_run in widths]),
        notes=tuple(dict.fromkeys([*failures, *general])),
        assumptions=(*assumptions, *sources),
    )


def specs_of(design: Design, unique_tokens: Mapping[str, float]) -> list[RunSpec]:
    """Every run of a design once, in the design's order."""
    groups = expand(design, {code: min(unique_tokens[code], 1e18) for code in design.languages}, "", "")
    return list({spec.name: spec for specs in groups.values() for spec in specs}.values())


def allocation_of(specs: Sequence[RunSpec], unique_tokens: Mapping[str, float]) -> tuple[Allocation, list[str]]:
    """The allocations of the runs that a law is fitted to, shape (n,), and sentences on the runs that are left out.

    Args:
        unique_tokens: U by language of the whole text; runs that read only its first tokens have less.

    Raises:
        InputError: no run starts from scratch.
    """
    scratch = [spec for spec in specs if spec.base is None and spec.then is None]
    if not scratch:
        raise InputError("the design has no run of one stage from scratch", hint="laws can only be fitted to such runs")
    used = [spec for spec in scratch if spec.own is None] or scratch
    left_out = []
    if staged := sum(spec.then is not None for spec in specs):
        left_out.append(f"{staged} two-stage runs are left out.")
    if len(used) < len(scratch):
        left_out.append(f"{len(scratch) - len(used)} runs with their own tokenizer are left out.")
    codes = sorted({code for spec in used for code in spec.mixture.languages})
    tokens = {code: np.array([spec.tokens * spec.mixture.shares.get(code, 0.0) for spec in used]) for code in codes}
    available = [spec.available(unique_tokens) for spec in used]
    unique = {code: np.array([U.get(code, unique_tokens[code]) for U in available]) for code in codes}
    return Allocation(np.array([spec.shape.params for spec in used], np.float64), tokens, unique), left_out


def _allocation(
    design: Design | Allocation | Runs | str | Path, unique_tokens: Mapping[str, float] | None
) -> tuple[Allocation, list[str]]:
    """The allocations that a design trains from scratch, shape (n,), and sentences on what was assumed."""
    if isinstance(design, Allocation):
        return design, []
    if isinstance(design, Runs):
        return design.one_stage().final_allocations(), []
    design = load(design)
    known = dict(unique_tokens or {})
    if unknown := [code for code in known if code not in design.languages]:
        raise InputError(
            f"unique tokens of {unknown[0]!r}, but design {design.name!r} does not train on this language",
            hint=f"its languages are {', '.join(design.languages)}",
        )
    sizes, estimated = cost.unique_tokens(design)
    sizes = sizes | known
    allocation, left_out = allocation_of(specs_of(design, sizes), sizes)
    return allocation, [*(estimated if len(known) < len(design.languages) else []), *left_out]


def _law(law: str | ScalingLaw | None, target: str | None, bare: Runs) -> ScalingLaw:
    if isinstance(law, ScalingLaw):
        return law
    if target is None:
        if len(bare.languages) != 1:
            raise InputError("no target language is given", hint=f"the design trains {', '.join(bare.languages)}")
        target = bare.languages[0]
    if target not in bare.languages:
        raise InputError(f"the design does not train on {target!r}", hint=f"it trains on {', '.join(bare.languages)}")
    return laws.by_name(law or ("adaptive-transfer" if bare.cosampled(target, most=1) else "chinchilla"), target, bare)


def _target(law: ScalingLaw, target: str | None, bare: Runs) -> str:
    found = law.target or target or bare.languages[0]
    if target not in (None, found) or found not in bare.languages:
        raise InputError(
            f"law {law.name!r} of {found!r}, and the target is {target!r}",
            hint=f"name one language of the design: {', '.join(bare.languages)}",
        )
    return found


def _ahead(law: ScalingLaw, allocation: Allocation) -> Allocation:
    """The largest run on the target with twice its parameters and twice its tokens: 4 times its compute."""
    usable = allocation.at(law.defined(allocation))
    top = usable.at(int(np.argmax(usable.params * usable.total_tokens)))
    step = math.sqrt(AHEAD)
    tokens = {code: step * D for code, D in top.tokens.items()}
    return Allocation(step * top.params, tokens, dict(top.unique_tokens), dict(top.covariates))


def _widths(found: Fit, ahead: Allocation) -> tuple[float, float]:
    """Widths of the curve's and a new run's interval, in shares of the loss."""
    predicted = found.predict(ahead)
    curve, new_run = predicted.confidence_high - predicted.confidence_low, predicted.high - predicted.low
    return float(curve / predicted.loss), float(new_run / predicted.loss)


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None


def _notes(law: ScalingLaw, fits: list[Fit]) -> tuple[dict[str, list[str]], list[str]]:
    """The fits' notes by the parameter they are on, one a table, and the other notes that most fits share."""
    by_parameter: dict[str, list[str]] = {name: [] for name in law.parameter_names}
    general: Counter[str] = Counter()
    for note in (note for found in fits for note in found.notes):
        # A note on parameters begins with their names; notes on the search itself say nothing about the design.
        first, joint, second = [*note.replace("R_D*", "R_D").replace("R_N*", "R_N").split(" "), "", ""][:3]
        about = [word for word in (first, second if joint == "and" else "") if word in by_parameter]
        if about and "depends on" not in note:
            for name in about:
                by_parameter[name].append(note)
        elif "starts agree" not in note and "losses left out" not in note:
            general[note] += 1
    return by_parameter, [note for note, times in general.items() if times > _MOST_TABLES * len(fits)]


def _expected(name: str, assumed: float, fits: list[Fit], notes: list[str]) -> ExpectedParameter:
    known = [found.intervals[name] for found in fits if name in found.intervals]
    share = min(len(notes) / len(fits), 1.0) if fits else 1.0
    low, high = _median([pair[0] for pair in known]), _median([pair[1] for pair in known])
    return ExpectedParameter(name, assumed, low, high, share, notes[0] if notes else None)
