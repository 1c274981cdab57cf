"""What a table of runs cannot say, in plain sentences, and what runs would say it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.fitting.objective import Array, Problem
from babelscale.laws import Restriction, ScalingLaw

_SINGULAR = 1e-9  # smallest eigenvalue of the normalised information below which a direction is lost
_DEAF = 1e-10  # a loss that responds less to a parameter, beside the others, does not respond at all
_FEW = 4  # fewer runs than these carry no parameter
_WIDTH = 3.29  # standard errors of a 90 % interval
_WIDE = 30.0  # a positive parameter known to less than this factor
_EXPONENT = 0.348  # of Chinchilla (Besiroglu et al. 2024), where nothing identifies one


@dataclass(frozen=True)
class Restrictions:
    """Parameters held at a value or tied to another, and the sentences that say why."""

    fixed: Mapping[str, float]
    ties: Mapping[str, str]
    notes: tuple[str, ...]


def restrict(law: ScalingLaw, allocation: Allocation, given: Mapping[str, float]) -> Restrictions:
    """What to hold fixed before a fit, beside what the caller has `given`.

    Raises:
        InputError: the runs have one size or one amount of data only, and the exponent is not given.
    """
    fixed = dict(given)
    ties = dict(law.ties)
    for name, other in law.ties.items():
        if name in fixed:
            fixed.setdefault(other, fixed[name])
    notes = []
    for found in (*law.restrictions(allocation), *_exponents(law, allocation, fixed, ties)):
        if found.parameter in fixed or found.parameter in ties:
            continue
        notes.append(found.sentence)
        if found.tie is None:
            fixed[found.parameter] = found.value
        else:
            ties[found.parameter] = found.tie
    ties = {name: other for name, other in ties.items() if name not in fixed}
    return Restrictions(fixed, ties, tuple(notes))


def _exponents(
    law: ScalingLaw, allocation: Allocation, fixed: Mapping[str, float], ties: Mapping[str, str]
) -> list[Restriction]:
    if not {"alpha", "beta"} <= set(law.parameter_names):
        return []
    sizes, amounts = levels(allocation.params), levels(law.D(allocation))
    for name, count, what, more in (
        ("alpha", sizes, "size", "runs of another size"),
        ("beta", amounts, "amount of data", "runs of other token counts"),
    ):
        if count < 2 and name not in fixed:
            raise InputError(
                f"law {law.name!r}: every usable run has the same {what}, so {name} cannot be fitted",
                hint=f"add {more}, or fix it: fixed={{'{name}': value, ...}}",
            )
    free = [name for name in ("alpha", "beta") if name not in fixed and name not in ties]
    found = []
    if len(free) == 2 and min(sizes, amounts) == 2:
        few = "sizes" if sizes == 2 else "token counts"
        found.append(
            Restriction(
                "beta",
                f"alpha and beta are tied, because two {few} cannot separate an exponent from E; "
                f"runs with a third of the {few} would identify both.",
                tie="alpha",
            )
        )
    if "alpha" in free and sizes == 2 and amounts == 2:
        found.append(
            Restriction(
                "alpha",
                f"the exponent is held at {_EXPONENT} (Chinchilla), because two sizes with two token counts cannot "
                "separate it from E; runs of a third size or token count would identify it.",
                value=_EXPONENT,
            )
        )
    return found


def check_counts(problem: Problem, runs: int) -> list[str]:
    """Whether there are enough observations.

    Raises:
        InputError: fewer observations than free parameters.
    """
    n, p = len(problem.log_loss), problem.size
    target = "" if problem.law.target is None else f" on {problem.law.target!r}"
    if n < p:
        raise InputError(
            f"law {problem.law.name!r} has {p} free parameters and the runs give {n} losses{target}",
            hint="train more runs, take fewer sources, tie the exponents (tied=True), or fix parameters: fixed={...}",
        )
    if runs < 2 * p:
        return [f"only {runs} runs carry {p} free parameters; the intervals can be too narrow."]
    return []


def notes_before(law: ScalingLaw, allocation: Allocation) -> list[str]:
    """What the design alone shows."""
    N, D = np.log(allocation.params), np.log(law.D(allocation))
    if levels(allocation.params) < 3 or abs(np.corrcoef(N, D)[0, 1]) < 0.99:
        return []
    return [
        "size and tokens rise together in every run (nearly fixed tokens per parameter), so the terms of N and D "
        "cannot be told apart well; runs of one size with several token counts would tell them apart."
    ]


def notes_after(problem: Problem, z: Array, intervals: Mapping[str, tuple[float, float]]) -> list[str]:
    """What the optimum and its draws show."""
    notes = [_zero(name) for k, name in enumerate(problem.coefficients) if z[k] <= 0]
    low, high = problem.bounds
    unheard = flat(problem, z)
    for parameter in problem.free_shape:
        k = problem.column[parameter.name]
        edges = ((low[k], parameter.low, "lowest"), (high[k], parameter.high, "highest"))
        hit = [(bound, word) for edge, bound, word in edges if abs(z[k] - edge) <= 1e-9 * max(1.0, abs(edge))]
        for bound, word in hit:
            notes.append(
                f"{parameter.name} is at {bound:g}, the {word} it may be, so these runs do not identify it "
                f"({parameter.meaning}); {_more(parameter.name)} would."
            )
        if parameter.name in unheard and not hit:
            notes.append(
                f"{parameter.name} is not identified, because wherever it lies in its range the other parameters make "
                f"up for it; {_more(parameter.name)} would identify it."
            )
        elif parameter.name in intervals and not hit:
            notes += _wide(parameter.name, intervals[parameter.name], parameter.log, parameter.high - parameter.low)
    lost = lost_direction(problem, z)
    if lost:
        notes.append(
            f"only a combination of {', '.join(lost)} is determined by these runs; "
            "each of them alone could be another number with the same fit."
        )
    return notes


def _zero(name: str) -> str:
    reason = {
        "E": "the runs do not reach losses near a floor, so do not extrapolate far; larger runs would identify it",
        "A": "these runs show no gain from size, and alpha means nothing; runs of more different sizes would show one",
        "B": "these runs show no gain from data, and what stands beside beta means nothing; "
        "runs of more different token counts would show one",
    }.get(name, "its term is absent")
    return f"{name} is 0, the lowest it may be: {reason}."


def _wide(name: str, interval: tuple[float, float], log: bool, room: float) -> list[str]:
    low, high = interval
    if (log and high > _WIDE * low) or (not log and high - low > 0.8 * room):
        return [f"{name} is hardly identified (90 %: {low:.3g} to {high:.3g}); {_more(name)} would identify it."]
    return []


def _more(name: str) -> str:
    """What runs speak about a shape parameter."""
    if name in ("lambda", "R_D"):
        return "runs that repeat their data more"
    if name.startswith("tau_"):
        return f"runs with more different amounts of {'other languages' if name == 'tau_other' else name[4:]}"
    return {
        "alpha": "runs of more different sizes",
        "beta": "runs of more different token counts",
        "R_N": "larger models on the same data",
        "gamma": "runs with more different shares",
        "phi": "runs with more different numbers of languages",
        "psi": "runs with more different numbers of languages",
    }.get(name, "more runs that vary what it acts on")


def lost_direction(problem: Problem, z: Array) -> list[str]:
    """The parameters of a combination to which no observation responds, if there is one."""
    names = [*problem.coefficients, *(p.name for p in problem.free_shape)]
    if not names:
        return []
    J = problem.jacobian(z)
    size = np.linalg.norm(J, axis=1, keepdims=True)
    if (size <= 0).any():
        return []  # a parameter without effect: its coefficient is zero, which has its own sentence
    J = J / size
    values, vectors = np.linalg.eigh(J @ J.T)
    if values[0] > _SINGULAR:
        return []
    share = np.abs(vectors[:, 0])
    return [name for name, part in zip(names, share, strict=True) if part > 0.1 * share.max()]


def flat(problem: Problem, z: Array) -> dict[str, int]:
    """The shape parameters that the losses leave anywhere in their range, and their columns of z.

    To first order: 90 % of sd (J J^T)^-1/2 is wider than the range. A resampled optimum stays where it started along
    such a parameter, so neither its draws nor their interval can be trusted to tell.
    """
    if not problem.free_shape:
        return {}
    J = problem.jacobian(z)
    residual = problem.residual(z)
    variance = residual @ residual / max(len(residual) - problem.size, 1)
    size = np.linalg.norm(J, axis=1)
    heard = size > _DEAF * size.max(initial=0.0)
    unit = J / np.where(heard, size, 1.0)[:, None]
    absent = (z[: len(problem.coefficients)] <= 0).any()
    low, high = problem.bounds
    found = {}
    for parameter in problem.free_shape:
        k = problem.column[parameter.name]
        if absent and not size[k]:
            continue  # the shape of a term whose coefficient is zero, which has its own sentence
        others = unit[heard & (np.arange(len(J)) != k)]
        own = J[k] - np.linalg.lstsq(others.T, J[k], rcond=1e-12)[0] @ others
        if not heard[k] or _WIDTH**2 * variance > (high[k] - low[k]) ** 2 * (own @ own):
            found[parameter.name] = k
    return found


def levels(values: NDArray[np.float64]) -> int:
    """How many different values there are, those within one per cent counted once."""
    return len(np.unique(np.round(100 * np.log(values))))


def notes_on_sources(law: ScalingLaw, allocation: Allocation, run: NDArray[np.str_], held: Sequence[str]) -> list[str]:
    """Transfer and repetition parameters that rest on very few runs."""
    notes = _notes_on_repeats(law, allocation, run, held)
    for code in getattr(law, "sources", ()):
        name = f"tau_{code}"
        runs = len(set(run[allocation.D(code) > 0]))
        if name not in held and 0 < runs < 3:
            notes.append(
                f"{name} rests on {runs} {'run' if runs == 1 else 'runs'}; more runs with {code} would confirm it."
            )
    return notes


def _notes_on_repeats(law: ScalingLaw, allocation: Allocation, run: NDArray[np.str_], held: Sequence[str]) -> list[str]:
    """Few runs that repeat can agree by chance on a number that is far off, and on a narrow interval around it."""
    name = next((n for n in ("lambda", "R_D") if n in law.parameter_names and n not in held), None)
    if name is None:
        return []
    own = name == "R_D" and law.target is not None
    codes = [law.target or ""] if own else allocation.languages
    repeats = np.any([allocation.D(code) > allocation.U(code) for code in codes], axis=0)
    runs = len(set(run[repeats]))
    if not 0 < runs < _FEW:
        return []
    who = "run that repeats its" if runs == 1 else "runs that repeat their"
    return [f"{name} is hardly identified: it rests on {runs} {who} data; more such runs would identify it."]
