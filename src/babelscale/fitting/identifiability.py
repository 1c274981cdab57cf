"""What a table of runs does not identify, in plain sentences, and which runs would identify it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.fitting.objective import Array, FitProblem
from babelscale.formatting import plural
from babelscale.intervals import Z90
from babelscale.laws import IdentifiabilityConstraint, Parameter, ScalingLaw

_SINGULAR = 1e-9  # smallest eigenvalue of the normalised information below which a direction is lost
_UNRESPONSIVE = 1e-10  # a loss that responds less to a parameter than this share of the others does not respond
_WIDTH = 2 * Z90  # of a 90 % interval, in standard errors
_WIDE = 30.0  # a positive parameter known to less than this factor
_EXPONENT = 0.348  # of Chinchilla (Besiroglu et al. 2024), where nothing identifies one


@dataclass(frozen=True)
class AppliedConstraints:
    """Parameters fixed at a value or tied to another, and the sentences that say why."""

    fixed: Mapping[str, float]
    ties: Mapping[str, str]
    notes: tuple[str, ...]


def constrain(law: ScalingLaw, allocation: Allocation, fixed_by_caller: Mapping[str, float]) -> AppliedConstraints:
    """What to fix before a fit, in addition to `fixed_by_caller`.

    Raises:
        InputError: the runs have only one size or one amount of data, and the caller does not fix the exponent.
    """
    fixed = dict(fixed_by_caller)
    ties = dict(law.ties)
    for name, other in law.ties.items():
        if name in fixed:
            fixed.setdefault(other, fixed[name])
    notes = []
    for found in (*law.constraints(allocation), *_exponents(law, allocation, fixed, ties)):
        if found.parameter in fixed or found.parameter in ties:
            continue
        notes.append(found.sentence)
        if found.tie is None:
            fixed[found.parameter] = found.value
        else:
            ties[found.parameter] = found.tie
    ties = {name: other for name, other in ties.items() if name not in fixed}
    return AppliedConstraints(fixed, ties, tuple(notes))


def _exponents(
    law: ScalingLaw, allocation: Allocation, fixed: Mapping[str, float], ties: Mapping[str, str]
) -> list[IdentifiabilityConstraint]:
    if law.exponents is None or not set(law.exponents) <= set(law.parameter_names):
        return []
    of_size, of_data = law.exponents
    sizes, amounts = levels(allocation.params), levels(law.D(allocation))
    for name, count, what, more in (
        (of_size, sizes, "size", "runs of another size"),
        (of_data, amounts, "amount of data", "runs of other token counts"),
    ):
        if count < 2 and name not in fixed:
            raise InputError(
                f"law {law.name!r}: every usable run has the same {what}, so {name} cannot be fitted",
                hint=f"add {more}, or fix it: fixed={{'{name}': value, ...}}",
            )
    free = [name for name in law.exponents if name not in fixed and name not in ties]
    found = []
    if len(free) == 2 and min(sizes, amounts) == 2:
        few = "sizes" if sizes == 2 else "token counts"
        found.append(
            IdentifiabilityConstraint(
                of_data,
                f"{of_size} and {of_data} are tied, because two {few} cannot separate an exponent from E; "
                f"runs with a third of the {few} would identify both.",
                tie=of_size,
            )
        )
    if of_size in free and sizes == 2 and amounts == 2:
        found.append(
            IdentifiabilityConstraint(
                of_size,
                f"the exponent is fixed at {_EXPONENT} (Chinchilla), because two sizes with two token counts cannot "
                "separate it from E; runs of a third size or token count would identify it.",
                value=_EXPONENT,
            )
        )
    return found


def check_counts(problem: FitProblem, runs: int) -> list[str]:
    """Whether there are enough observations.

    Raises:
        InputError: fewer observations than free parameters.
    """
    n, p = len(problem.log_loss), problem.size
    target = "" if problem.law.target is None else f" on {problem.law.target!r}"
    if n < p:
        raise InputError(
            f"law {problem.law.name!r} has {p} free parameters and the runs give {n} losses{target}",
            hint="train more runs, use fewer sources, tie the exponents (tied=True), or fix parameters: fixed={...}",
        )
    if runs < 2 * p:
        return [f"there are only {runs} runs for {p} free parameters; the intervals can be too narrow."]
    return []


def notes_before(law: ScalingLaw, allocation: Allocation) -> list[str]:
    """Notes that follow from the design alone."""
    N, D = np.log(allocation.params), np.log(law.D(allocation))
    if levels(allocation.params) < 3 or abs(np.corrcoef(N, D)[0, 1]) < 0.99:
        return []
    return [
        "size and tokens rise together in every run (nearly fixed tokens per parameter), so the terms of N and D "
        "cannot be separated well; runs of one size with several token counts would separate them."
    ]


def notes_after(problem: FitProblem, z: Array, intervals: Mapping[str, tuple[float, float]]) -> list[str]:
    """Notes that follow from the optimum and its draws."""
    linear = {parameter.name: parameter for parameter in problem.law.linear}
    notes = [
        f"{name} is 0, the lowest value allowed: {linear[name].at_zero}."
        for k, name in enumerate(problem.coefficients)
        if z[k] <= 0
    ]
    low, high = problem.bounds
    flat_parameters = flat(problem, z)
    for parameter in problem.free_shape:
        k = problem.column[parameter.name]
        edges = ((low[k], parameter.low, "lowest"), (high[k], parameter.high, "highest"))
        hit = [(bound, word) for edge, bound, word in edges if abs(z[k] - edge) <= 1e-9 * max(1.0, abs(edge))]
        for bound, word in hit:
            notes.append(
                f"{parameter.name} is at {bound:g}, the {word} value allowed, so these runs do not identify it "
                f"({parameter.meaning}); {parameter.identified_by} would."
            )
        if parameter.name in flat_parameters and not hit:
            notes.append(
                f"{parameter.name} is not identified, because the other parameters compensate for any value in its "
                f"range; {parameter.identified_by} would identify it."
            )
        elif parameter.name in intervals and not hit:
            notes += _wide(parameter, intervals[parameter.name])
    lost = lost_direction(problem, z)
    if lost:
        notes.append(
            f"only a combination of {', '.join(lost)} is determined by these runs; "
            "each of them alone could be another number with the same fit."
        )
    return notes


def _wide(parameter: Parameter, interval: tuple[float, float]) -> list[str]:
    low, high = interval
    room = parameter.high - parameter.low
    if (parameter.log and high > _WIDE * low) or (not parameter.log and high - low > 0.8 * room):
        return [
            f"{parameter.name} is hardly identified (90 %: {low:.3g} to {high:.3g}); {parameter.identified_by} would "
            "identify it."
        ]
    return []


def lost_direction(problem: FitProblem, z: Array) -> list[str]:
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


def flat(problem: FitProblem, z: Array) -> dict[str, int]:
    """The shape parameters that the losses do not restrict to a part of their range, and their columns of z.

    To first order: 90 % of sd (J J^T)^-1/2 is wider than the range. A resampled optimum stays where it started along
    such a parameter, so its draws and their interval cannot show it.
    """
    if not problem.free_shape:
        return {}
    J = problem.jacobian(z)
    residual = problem.residual(z)
    variance = residual @ residual / max(len(residual) - problem.size, 1)
    size = np.linalg.norm(J, axis=1)
    responsive = size > _UNRESPONSIVE * size.max(initial=0.0)
    unit = J / np.where(responsive, size, 1.0)[:, None]
    absent = (z[: len(problem.coefficients)] <= 0).any()
    low, high = problem.bounds
    found = {}
    for parameter in problem.free_shape:
        k = problem.column[parameter.name]
        if absent and not size[k]:
            continue  # the shape of a term whose coefficient is zero, which has its own sentence
        others = unit[responsive & (np.arange(len(J)) != k)]
        independent = J[k] - np.linalg.lstsq(others.T, J[k], rcond=1e-12)[0] @ others
        if not responsive[k] or _WIDTH**2 * variance > (high[k] - low[k]) ** 2 * (independent @ independent):
            found[parameter.name] = k
    return found


def levels(values: NDArray[np.float64]) -> int:
    """How many different values there are, those within one per cent counted once."""
    return len(np.unique(np.round(100 * np.log(values))))


def notes_on_support(law: ScalingLaw, allocation: Allocation, run: NDArray[np.str_], fixed: Sequence[str]) -> list[str]:
    """Notes on parameters that very few runs determine."""
    notes = []
    for support in law.supports(allocation):
        count = len(set(run[support.rows]))
        if support.parameter not in fixed and 0 < count < support.enough:
            notes.append(support.sentence.format(runs=plural(count, "run")))
    return notes
