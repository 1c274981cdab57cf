"""What a design can measure, judged from simulated tables: repetition, the number of languages, differences of laws."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from babelscale import laws
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.fitting import compare, fit, simulate
from babelscale.fitting.simulation import runs_of
from babelscale.intervals import interval
from babelscale.laws import DataConstrained, Multilinguality, effective_tokens
from babelscale.laws.saturation import LAMBDA
from babelscale.reporting.design.contrasts import DesignAnswer, Noise, distinct, grouped, named, only, plain
from babelscale.reporting.design.default_parameters import default_parameters
from babelscale.reporting.design.power import ExpectedParameter, Progress, allocation_of, power
from babelscale.runs import Axis, Runs
from babelscale.study.spec import RunSpec

Array = NDArray[np.float64]

REPEATS_MATTER = math.log(1.5)
"""Of log R_D*: after ten epochs, R_D* of 15.4 and of 15.4 / 1.5 differ by a tenth in effective tokens."""
EXPONENT_OF_N = 0.3
"""A dependence R_D* ~ N^k that matters: over a factor of 20 in N it changes R_D* by a factor of 2.5."""
EXPONENT_MATTERS = 0.05
"""Of phi and psi: the ATLAS study prints 0.11 and -0.04, and doubling K at 0.05 changes a term of the loss by 3.5 %."""
MISSED = 0.2
"""Share of simulated tables in which a wrong answer is still accepted (a power of 80 %)."""
MORE_TABLES = 3
"""Tables of the repetition question for each table of the laws: its fits are small."""
TRUTHS = ("chinchilla", "data-constrained", "adaptive-transfer")
AXES: tuple[Axis, ...] = ("random", "params", "tokens", "compute", "mixture")


def repetition(
    specs: Sequence[RunSpec],
    unique_tokens: Mapping[str, float],
    noise: Noise,
    tables: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[DesignAnswer]:
    """R_D* at each size alone, and whether a dependence R_D* ~ N^k would be detected.

    Tables of the monolingual runs from scratch are drawn from the data-constrained law. Each size is fitted alone, its
    term of N as a part of the irreducible loss.
    """
    alone = [s for s in distinct(specs) if only(s) and s.base is None and s.own is None]
    cells: list[_Cell] = []
    for code, runs in grouped(alone, lambda s: only(s) or "").items():
        allocation = allocation_of(runs, unique_tokens)[0]
        values = default_parameters(DataConstrained(code), allocation)[0]
        for size, part in grouped(runs, lambda s: s.size).items():
            cell = _Cell(code, size, allocation_of(part, unique_tokens)[0], values)
            if (cell.at.epochs(code) > 1).any():
                cells.append(cell)
    fitted = [cell for cell in cells if cell.enough]
    answers = []
    if few := [cell for cell in cells if not cell.enough]:
        most = max(float(cell.at.epochs(cell.language).max()) for cell in few)
        codes, sizes = (named((getattr(cell, n) for cell in few), f"{n}s") for n in ("language", "size"))
        subject, basis = f"{codes}; size {sizes}", f"up to {most:.3g} epochs, too few lengths to fit one size"
        add = "runs of one size on little text, of six lengths or more up to 40 epochs"
        answers.append(DesignAnswer(_AT_ONE_SIZE, subject, basis, None, REPEATS_MATTER, "log R_D*", add=add))
    drawn = {k: _draws(fitted, k, noise.sd, MORE_TABLES * tables, seed, progress) for k in (0.0, *_PLANTED)}
    for cell, found in zip(fitted, drawn[0.0], strict=True):
        epochs = cell.at.epochs(cell.language)
        low, high = interval(found)
        spread = (high - low) / 2
        basis = f"{len(epochs)} runs of up to {epochs.max():.3g} epochs"
        subject = f"{cell.language}, size {cell.size}"
        answers.append(DesignAnswer(_AT_ONE_SIZE, subject, basis, spread, REPEATS_MATTER, "log R_D*"))
    return answers + _dependence(fitted, drawn)


_AT_ONE_SIZE = "R_D* (the worth of repeated text) at one size"
_PLANTED = (EXPONENT_OF_N, -EXPONENT_OF_N)


class _Cell:
    """The runs of one language and size, and the assumed law."""

    def __init__(self, language: str, size: str, at: Allocation, values: Mapping[str, float]) -> None:
        self.language, self.size, self.at, self.values = language, size, at, dict(values)
        self.params = float(at.params[0])

    @property
    def enough(self) -> bool:
        """Whether there are more amounts of text and tokens than the floor, B, beta and R_D* that are fitted."""
        amounts = zip(self.at.D(self.language), self.at.U(self.language), strict=True)
        return len(set(amounts)) > 4

    def draw(self, factor: float, noise: float, seed: int) -> float:
        """log R_D* as fitted to one table whose R_D* is `factor` times the assumed one."""
        law, values = DataConstrained(self.language), self.values
        truth = values | {"R_D": values["R_D"] * factor}
        runs = simulate(law, truth, self.at, noise=noise, seed=seed)
        found = fit(law, runs, resamples=0, fixed={"alpha": values["alpha"], "A": 0.0})
        return math.log(found.parameters["R_D"])


def _draws(
    cells: Sequence[_Cell], k: float, noise: float, tables: int, seed: int, progress: Progress | None
) -> list[Array]:
    """log R_D* of every cell, shape (tables,) each, where R_D* ~ N^k."""
    middle = math.exp(float(np.mean([math.log(cell.params) for cell in cells]))) if cells else 1.0
    found = []
    for done, cell in enumerate(cells):
        if progress:
            progress(f"repetition, R_D* ~ N^{k:g}", done, len(cells))
        factor = (cell.params / middle) ** k
        found.append(np.array([cell.draw(factor, noise, seed + table) for table in range(tables)]))
    if progress and cells:
        progress(f"repetition, R_D* ~ N^{k:g}", len(cells), len(cells))
    return found


def _dependence(cells: Sequence[_Cell], drawn: Mapping[float, Sequence[Array]]) -> list[DesignAnswer]:
    """k from log R_D* by log N, with one level for each language, weighted by the scatter at each size."""
    question = "dependence of R_D* on the size (R_D* ~ N^k)"
    codes = sorted({cell.language for cell in cells})
    several = [code for code in codes if len({cell.size for cell in cells if cell.language == code}) > 1]
    add = "repeated runs of at least two sizes that differ by an order of magnitude"
    if not several:
        basis = "no language is repeated at two sizes"
        return [DesignAnswer(question, "all languages", basis, None, MISSED, "tables", add=add)]
    used = [i for i, cell in enumerate(cells) if cell.language in several]
    x = np.array([math.log(cells[i].params) for i in used])
    levels = np.array([[cells[i].language == code for code in several] for i in used], np.float64)
    weight = 1 / np.maximum([float(np.std(drawn[0.0][i])) for i in used], 1e-6)
    X = np.column_stack([x, levels]) * weight[:, None]

    def slopes(k: float) -> Array:
        y = np.stack([drawn[k][i] for i in used]) * weight[:, None]
        return np.linalg.lstsq(X, y)[0][0]

    null = slopes(0.0)
    half = float(np.quantile(np.abs(null - np.median(null)), 0.9))
    missed = {k: float(np.mean(np.abs(slopes(k) - np.median(null)) <= half)) for k in _PLANTED}
    sizes, factor = len({cells[i].size for i in used}), math.exp(float(np.ptp(x)))
    shares = ", ".join(f"k = {k:+g} is missed in {100 * share:.0f} %" for k, share in missed.items())
    basis = f"{sizes} sizes over {factor:.3g}x of N, k known to ±{half:.2g}; of {len(null)} tables {shares}"
    worst, subject = max(missed.values()), named(several, "languages")
    return [DesignAnswer(question, subject, basis, worst, MISSED, "tables", add=add if worst > MISSED else None)]


def number_of_languages(
    specs: Sequence[RunSpec],
    unique_tokens: Mapping[str, float],
    targets: Sequence[str],
    noise: Noise,
    tables: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[DesignAnswer]:
    """phi and psi of the multilinguality law, from the even mixtures alone, for which it is derived."""
    question = "cost of more languages (phi, psi), even mixtures"
    even = [s for s in distinct(specs) if plain(s) and np.ptp(list(s.mixture.shares.values())) < 1e-9]
    by_size = grouped(even, lambda s: s.size)
    levels = {size: sorted({len(s.mixture.languages) for s in runs}) for size, runs in by_size.items()}
    widest = [size for size, counts in levels.items() if len(counts) > 2]
    counts = sorted({count for size in widest for count in levels[size]})
    if not widest:
        add = "even mixtures of three numbers of languages or more, at three sizes"
        basis = "no size has three of them"
        return [DesignAnswer(question, "all targets", basis, None, EXPONENT_MATTERS, "exponent", add=add)]
    found: dict[str, list[tuple[ExpectedParameter, float]]] = {"phi": [], "psi": []}
    for done, target in enumerate(targets):
        if progress:
            progress("multilinguality", done, len(targets))
        allocation = allocation_of([s for s in even if target in s.mixture.shares], unique_tokens)[0]
        known = power(allocation, Multilinguality(target), tables=tables, noise=noise.sd, seed=seed, resamples=40)
        bias = _bias_of_repeats(allocation, target, {p.name: p.assumed for p in known.parameters}, seed)
        for p in known.parameters:
            if p.name in found:
                found[p.name].append((p, bias[p.name]))
    if progress:
        progress("multilinguality", len(targets), len(targets))
    basis = f"K = {' '.join(map(str, counts))} at {len(widest)} sizes; the worst of {named(targets, 'targets')}"
    return [_worst_target(question, name, basis, each) for name, each in found.items()]


def _worst_target(
    question: str, name: str, basis: str, found: Sequence[tuple[ExpectedParameter, float]]
) -> DesignAnswer:
    """The answer on one exponent at the target where it is known least."""
    widths = [None if p.low is None or p.high is None else (p.high - p.low) / 2 for p, _ in found]
    width = None if None in widths else max(each for each in widths if each is not None)
    bias = max((each for _, each in found), key=abs)
    obstacle = next((p.reason or "it is not identified" for p, _ in found if not p.identified), None)
    if abs(bias) > EXPONENT_MATTERS:
        obstacle = "repeated text, which the law does not model, would look like a cost of languages"
    about = f"{basis}; repeated text changes it by {bias:+.2g}"
    return DesignAnswer(question, name, about, width, EXPONENT_MATTERS, "exponent", obstacle=obstacle)


def _bias_of_repeats(allocation: Allocation, target: str, values: Mapping[str, float], seed: int) -> dict[str, float]:
    """The shift of phi and psi where repeated tokens lose value (S_lambda at its usual value), which this law ignores.

    Runs of few languages repeat their text more, so that the effect looks like one of the number of languages.
    """
    law = Multilinguality(target)
    effective = {c: effective_tokens(allocation.D(c), allocation.U(c), LAMBDA) for c in allocation.languages}
    losses = simulate(law, values, Allocation(allocation.params, effective), noise=1e-6, seed=seed).losses
    bare = runs_of(allocation)
    found = fit(law, Runs.of(bare.table, bare.exposure, losses, "simulated "), resamples=0)
    return {name: found.parameters[name] - values[name] for name in ("phi", "psi")}


def laws_apart(
    allocation: Allocation, target: str, noise: Noise, tables: int = 5, seed: int = 0, progress: Progress | None = None
) -> list[DesignAnswer]:
    """How often the law that a table was drawn from predicts held-out runs best by R2, on every held-out axis."""
    question = "which law predicts held-out runs best (by R2)"
    bare = runs_of(allocation)
    wins: dict[tuple[str, str], list[bool]] = {}
    gaps: dict[tuple[str, str], list[float]] = {}
    for n, truth in enumerate(TRUTHS):
        law = laws.by_name(truth, target, bare)
        values = default_parameters(law, allocation.at(law.defined(allocation)))[0]
        for table in range(tables):
            if progress:
                progress(f"laws apart, truth {truth}", n * tables + table, len(TRUTHS) * tables)
            runs = simulate(law, values, allocation, noise=noise.sd, seed=seed + table)
            found = compare(TRUTHS, runs, targets=[target], axes=AXES, expanding=(), seed=seed + table).table
            for (axis,), part in found.drop_nulls("R2").group_by(["axis"], maintain_order=True):
                scores = dict(zip(part["law"], part["R2"], strict=True))
                others = [score for name, score in scores.items() if name != truth]
                if truth in scores and others:
                    gap = scores[truth] - max(others)
                    wins.setdefault((truth, str(axis)), []).append(gap > 0)
                    gaps.setdefault((truth, str(axis)), []).append(gap)
    if progress:
        progress("laws apart", len(TRUTHS) * tables, len(TRUTHS) * tables)
    if not wins:
        raise InputError(f"no held-out axis compares the laws on {target!r}", hint="the design needs runs of two sizes")
    answers = []
    for (truth, axis), won in wins.items():
        gap = np.median(gaps[truth, axis])
        basis = f"first in {sum(won)} of {len(won)} tables, R2 above the next law's by {gap:.2g} (median)"
        subject = f"{target}, truth {truth}, axis {axis}"
        answers.append(DesignAnswer(question, subject, basis, 1 - sum(won) / len(won), MISSED, "tables"))
    return answers
