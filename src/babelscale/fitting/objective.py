"""The exact objective and its derivatives, for many problems at once.

    F(z) = sum_i w_i huber_delta(log L(z, x_i) - log y_i),     huber_delta(r) = r^2/2            where |r| <= delta
                                                                             = delta (|r| - delta/2)  elsewhere

F is a sum and not a mean, because a mean shrinks with the number of rows and makes optimisers stop early.
The coordinates z are the coefficients of the centred terms followed by the free shape parameters. Centring term j on
its mean over the rows, c_j exp(t_j) = c'_j exp(t_j - mean t_j), removes the near-collinearity of A and alpha for every
law and unit.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from babelscale.allocation import Allocation
from babelscale.laws import Parameter, ScalingLaw, Term

Array = NDArray[np.float64]
_ROWS, _AT_ONCE = 1 << 12, 1 << 14  # rows, and problems times rows, at once: thirty such arrays stay in the cache
_LARGEST = 1e100  # a term over the loss, beyond which a point counts as outside the domain
_COMPLEX_STEP, _REAL_STEP = 1e-30, 1e-5  # for derivatives of terms that were written without them


@dataclass(frozen=True)
class FitProblem:
    """One design (law, allocations, losses) under which problems differ by their weights only.

    `fixed` holds parameters at a value, `ties` makes one parameter equal another; the rest are free.
    """

    law: ScalingLaw
    allocation: Allocation
    log_loss: Array
    fixed: Mapping[str, float] = field(default_factory=dict)
    ties: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def x(self) -> Any:
        return self.law.prepare(self.allocation)

    @cached_property
    def coefficients(self) -> list[str]:
        """Names of the free linear parameters, the first columns of z."""
        return [p.name for p in self.law.linear if p.name not in self.fixed]

    @cached_property
    def free_shape(self) -> list[Parameter]:
        """The free shape parameters, the columns of z behind the coefficients."""
        return [p for p in self.law.shape if p.name not in self.fixed and p.name not in self.ties]

    @cached_property
    def size(self) -> int:
        return len(self.coefficients) + len(self.free_shape)

    @cached_property
    def column(self) -> dict[str, int]:
        """Shape parameter -> its column of z, tied ones to the column they follow."""
        start = len(self.coefficients)
        at = {p.name: start + k for k, p in enumerate(self.free_shape)}
        for name in self.ties:
            end = self._end(name)
            if end in at:
                at[name] = at[end]
        return at

    def _end(self, name: str) -> str:
        while name in self.ties:
            name = self.ties[name]
        return name

    @cached_property
    def bounds(self) -> tuple[Array, Array]:
        """Of z: zero to infinity for coefficients, those of the law for the rest."""
        low = [0.0] * len(self.coefficients) + [np.log(p.low) if p.log else p.low for p in self.free_shape]
        high = [np.inf] * len(self.coefficients) + [np.log(p.high) if p.log else p.high for p in self.free_shape]
        return np.array(low), np.array(high)

    def shape_values(self, z: Array) -> dict[str, Array]:
        """Shape parameters by name, shape (problems, 1), from z of shape (problems, size)."""
        values: dict[str, Array] = {}
        start = len(self.coefficients)
        for k, p in enumerate(self.free_shape):
            column = z[:, start + k, None]
            # exp(log(100)) is a rounding error above 100, and bounds must hold exactly.
            values[p.name] = np.clip(np.exp(column), p.low, p.high) if p.log else column
        for p in self.law.shape:
            if p.name in self.fixed:
                values[p.name] = np.full((len(z), 1), float(self.fixed[p.name]))
        for name in self.ties:
            values[name] = values[self._end(name)]
        return values

    def coefficient(self, z: Array, name: str) -> Array:
        """A coefficient of centred terms, shape (problems, 1)."""
        if name in self.fixed:
            return np.full((len(z), 1), float(self.fixed[name]))
        return z[:, self.coefficients.index(name), None]

    def natural_parameters(self, z: Array) -> dict[str, Array]:
        """Every parameter of the law in natural units, shape (problems,)."""
        values = self.shape_values(z)
        found = {name: np.empty(len(z)) for name in (p.name for p in self.law.linear)}
        for at in self.blocks(len(z)):
            means = self.means(z[at])
            for name, column in found.items():
                with np.errstate(over="ignore"):  # infinite where a term is too small for any finite coefficient
                    centre = np.exp(-means[name].value) if name in means else 1.0
                column[at] = (self.coefficient(z[at], name) * centre)[:, 0]
        return found | {p.name: np.broadcast_to(values[p.name][:, 0], (len(z),)) for p in self.law.shape}

    def with_coefficients(self, z: Array, values: Mapping[str, float]) -> Array:
        """z with the coefficients named in `values` (natural units) in place, at the shape parameters of z."""
        unit = z.copy()
        unit[:, : len(self.coefficients)] = 1.0
        scale = self.natural_parameters(unit)  # what a centred coefficient of one is in natural units
        z = z.copy()
        for k, name in enumerate(self.coefficients):
            if name in values:
                z[:, k] = values[name] / scale[name]
        return z

    def terms(self, z: Array, means: "Mapping[str, Derivatives] | None" = None) -> dict[str, "EvaluatedTerm"]:
        """The centred terms at z, by the name of their coefficient; `means` replaces those over the problem's rows."""
        raw = self._terms(z)
        means = self._means_of(raw) if means is None else means
        return {name: self._part(z, name, term, means.get(name)) for name, term in raw.items()}

    def means(self, z: Array) -> "dict[str, Derivatives]":
        """Means over all rows of the logarithms of the terms with free coefficients, and of their derivatives."""
        if len(self.row_blocks) == 1:
            return self._means_of(self._terms(z))
        total: dict[str, Derivatives] = {}
        for _, block in self.row_blocks:
            share = len(block.log_loss) / len(self.log_loss)
            for name, mean in block.means(z).items():
                total.setdefault(name, Derivatives(np.zeros((1, 1)))).add(mean, share)
        return total

    def _means_of(self, raw: "Mapping[str, Derivatives]") -> "dict[str, Derivatives]":
        return {name: term.mean for name, term in raw.items() if name not in self.fixed}

    @cached_property
    def row_blocks(self) -> "list[tuple[slice, FitProblem]]":
        """Blocks of rows that are small enough for the processor's cache."""
        rows = len(self.log_loss)
        if rows <= _ROWS:
            return [(slice(None), self)]
        spans = [slice(start, start + _ROWS) for start in range(0, rows, _ROWS)]
        return [(at, replace(self, allocation=self.allocation.at(at), log_loss=self.log_loss[at])) for at in spans]

    def _terms(self, z: Array) -> "dict[str, Derivatives]":
        """The logarithms of the terms, not centred, with their derivatives by the columns of z."""
        values = self.shape_values(z)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            terms = _differentiated(self.law, values, self.x)
            return {name: self._by_column(term, values) for name, term in terms.items()}

    def _by_column(self, term: Term, values: Mapping[str, Array]) -> "Derivatives":
        log = {p.name for p in self.free_shape if p.log}
        found = Derivatives(term.value)

        def add(k: int, m: int, value: Array) -> None:
            key = (min(k, m), max(k, m))
            found.second[key] = found.second[key] + value if key in found.second else value

        for a, slope in (term.gradient or {}).items():
            if a not in self.column:
                continue
            k = self.column[a]
            slope = slope * values[a] if a in log else slope
            found.first[k] = found.first[k] + slope if k in found.first else slope
            if a in log:
                add(k, k, slope)
        for (a, b), bend in term.hessian.items():
            if a not in self.column or b not in self.column:
                continue
            k, m = self.column[a], self.column[b]
            bend = bend * values[a] if a in log else bend
            bend = bend * values[b] if b in log else bend
            add(k, m, 2 * bend if k == m and a != b else bend)
        return found

    def _part(self, z: Array, name: str, term: "Derivatives", mean: "Derivatives | None") -> "EvaluatedTerm":
        """A term centred on its mean; not centred where its coefficient is fixed and there is no mean."""
        centred = term if mean is None else term.less(mean)
        with np.errstate(over="ignore", invalid="ignore"):
            basis = np.exp(centred.value) + np.zeros((len(z), 1))
        return EvaluatedTerm(
            column=None if mean is None else self.coefficients.index(name),
            coefficient=self.coefficient(z, name),
            basis=basis,
            first=centred.first,
            second=centred.second,
        )

    def blocks(self, count: int) -> Iterator[slice]:
        """Slices of `count` problems, each small enough for the memory that is meant for it; at least one problem."""
        size = max(1, _AT_ONCE // min(_ROWS, max(1, len(self.log_loss))))
        return (slice(start, start + size) for start in range(0, max(count, 1), size))

    def residual(self, z: Array) -> Array:
        """log L - log y at one point: z (size,), result (n,); -log y where the law has no loss."""
        return np.log(self._losses(z[None])[1][0]) - self.log_loss

    def jacobian(self, z: Array) -> Array:
        """d log L / dz at one point: z (size,), result (size, n)."""
        parts = list(self.terms(z[None]).values())
        return _jacobian(self.size, parts, sum((part.coefficient * part.basis for part in parts), np.zeros(1)))[0]

    def evaluate(self, z: Array, weights: Array, delta: float) -> "Evaluation":
        """F, gradient and Hessian at z (problems, size) under weights (problems, n) or (n,).

        F is infinite, and the derivatives zero, where the law has no loss. delta = inf is least squares; delta = 0
        stands for the limit of F / delta, least absolute deviation: sum w |r|, its Hessian without the kinks.
        """
        weights = np.broadcast_to(weights, (len(z), len(self.log_loss)))
        return Evaluation.joined([self._evaluate(z[at], weights[at], delta) for at in self.blocks(len(z))])

    def _evaluate(self, z: Array, weights: Array, delta: float) -> "Evaluation":
        means = self.means(z) if len(self.row_blocks) > 1 else None
        return Evaluation.total([part._sum_over_rows(z, weights[:, at], delta, means) for at, part in self.row_blocks])

    def _sum_over_rows(
        self, z: Array, weights: Array, delta: float, means: "Mapping[str, Derivatives] | None"
    ) -> "Evaluation":
        parts, loss, good = self._losses(z, means)
        residual = np.log(loss) - self.log_loss
        clipped = np.clip(residual, -delta, delta)
        pull = clipped if delta > 0 else np.sign(residual)
        value = np.einsum("bi,bi->b", weights * pull, residual - clipped / 2)
        inside = np.abs(residual) <= delta
        with np.errstate(divide="ignore", invalid="ignore"):
            reweighted = np.where(inside, weights, weights * pull / residual)
        derivatives = _assemble(self.size, parts, loss, weights * pull, weights * inside, reweighted)
        return Evaluation(np.where(good, value, np.inf), *derivatives)

    def lagrangian(self, z: Array, slope: Array) -> tuple[Array, Array, Array]:
        """Residuals (b, n), their gradients (b, p, n), and the Hessian of sum slope_i r_i (b, p, p)."""
        parts, loss, _ = self._losses(z)
        none = np.zeros_like(slope)
        H = _assemble(self.size, parts, loss, slope, none, none)[1]
        return np.log(loss) - self.log_loss, _jacobian(self.size, parts, loss), H

    def _losses(
        self, z: Array, means: "Mapping[str, Derivatives] | None" = None
    ) -> tuple[list["EvaluatedTerm"], Array, NDArray[np.bool_]]:
        """The parts, the losses (1 where there are none), and which problems are inside the law's domain."""
        parts = list(self.terms(z, means).values())
        loss = np.zeros((len(z), len(self.log_loss)))
        with np.errstate(invalid="ignore", over="ignore"):
            for part in parts:
                loss = loss + part.coefficient * part.basis
            good = np.all(np.isfinite(loss) & (loss > 0), axis=1)
            for part in parts:  # derivatives by a coefficient of 0 overflow where its term is out of all proportion
                good &= np.all(part.basis <= _LARGEST * loss, axis=1)
        if not good.all():
            for part in parts:
                part.blank(good)
            loss = np.where(good[:, None], loss, 1.0)
        return parts, loss, good


@dataclass
class Derivatives:
    """The logarithm of a term, and its first and second derivatives by column of z; or the means of these."""

    value: Array
    first: dict[int, Array] = field(default_factory=dict)
    second: dict[tuple[int, int], Array] = field(default_factory=dict)

    @property
    def mean(self) -> "Derivatives":
        with np.errstate(invalid="ignore", over="ignore"):
            first = {k: _mean(value) for k, value in self.first.items()}
            return Derivatives(_mean(self.value), first, {km: _mean(value) for km, value in self.second.items()})

    def less(self, mean: "Derivatives") -> "Derivatives":
        """Centred. A block of rows can lack a derivative that other blocks have; it is zero there."""
        with np.errstate(invalid="ignore", over="ignore"):
            first = {k: self.first.get(k, 0.0) - value for k, value in mean.first.items()}
            second = {km: self.second.get(km, 0.0) - value for km, value in mean.second.items()}
            return Derivatives(self.value - mean.value, first, second)

    def add(self, other: "Derivatives", share: float) -> None:
        """Add a share of another."""
        self.value = self.value + share * other.value
        for k, value in other.first.items():
            self.first[k] = self.first.get(k, 0.0) + share * value
        for km, value in other.second.items():
            self.second[km] = self.second.get(km, 0.0) + share * value


@dataclass
class EvaluatedTerm:
    """One centred term: exp of it, and the derivatives of its logarithm by column of z."""

    column: int | None
    coefficient: Array
    basis: Array
    first: dict[int, Array]
    second: dict[tuple[int, int], Array]

    def blank(self, good: NDArray[np.bool_]) -> None:
        """Set to zero what is not finite in problems outside the law's domain."""
        mask = good[:, None]
        self.basis = np.where(mask, self.basis, 0.0)
        self.first = {k: np.where(mask, value, 0.0) for k, value in self.first.items()}
        self.second = {km: np.where(mask, value, 0.0) for km, value in self.second.items()}


class Evaluation(NamedTuple):
    """F (b,), gradient (b, p), hessian (b, p, p), scale (b, p): diagonal of sum w grad r^2."""

    value: Array
    gradient: Array
    hessian: Array
    scale: Array

    @classmethod
    def total(cls, parts: "list[Evaluation]") -> "Evaluation":
        """The sum over blocks of rows; outside the domain if one of the blocks is."""
        if len(parts) == 1:
            return parts[0]
        whole = cls(*(np.add.reduce(arrays) for arrays in zip(*parts, strict=True)))
        for derivative in whole[1:]:
            derivative[~np.isfinite(whole.value)] = 0.0
        return whole

    @classmethod
    def joined(cls, parts: "list[Evaluation]") -> "Evaluation":
        """Evaluations of several groups of problems as one."""
        return parts[0] if len(parts) == 1 else cls(*map(np.concatenate, zip(*parts, strict=True)))

    def at(self, keep: NDArray[Any]) -> "Evaluation":
        return Evaluation(*(array[keep] for array in self))

    def put(self, where: NDArray[Any], other: "Evaluation") -> None:
        for array, new in zip(self, other, strict=True):
            array[where] = new


def _assemble(
    size: int, parts: list[EvaluatedTerm], loss: Array, slope: Array, curve: Array, reweighted: Array
) -> tuple[Array, Array, Array]:
    """Gradient, Hessian and scale of F.

    With r = log L - log y: grad r = grad L / L and hess r = hess L / L - grad r grad r^T, so
    hess F = sum (curve - slope) grad r grad r^T + slope hess L / L.
    """
    J = _jacobian(size, parts, loss)
    H = np.zeros((len(loss), size, size))
    for part in parts:
        relative = part.basis / loss
        grown = part.coefficient * relative
        for k, g in part.first.items():
            if part.column is not None:
                both = _sum(slope * relative, g)
                H[:, part.column, k] += both
                H[:, k, part.column] += both
        pull = slope * grown
        for k, m in itertools.combinations_with_replacement(sorted(part.first), 2):
            bend = part.first[k] * part.first[m]
            if (k, m) in part.second:
                bend = bend + part.second[k, m]
            both = _sum(pull, bend)
            H[:, k, m] += both
            if k != m:
                H[:, m, k] += both
    H += (J * (curve - slope)[:, None, :]) @ J.transpose(0, 2, 1)
    return np.einsum("bpi,bi->bp", J, slope), H, np.einsum("bpi,bi->bp", J * J, reweighted)


def _jacobian(size: int, parts: list[EvaluatedTerm], loss: Array) -> Array:
    J = np.zeros((len(loss), size, loss.shape[1]))
    for part in parts:
        relative = part.basis / loss
        if part.column is not None:
            J[:, part.column] = relative
        for k, g in part.first.items():
            J[:, k] += part.coefficient * relative * g
    return J


def _sum(a: Array, b: Array) -> Array:
    return np.add.reduce(a * b, axis=-1)


def _mean(values: Array) -> Array:
    return np.add.reduce(values, axis=-1, keepdims=True) / values.shape[-1]


def _differentiated(law: ScalingLaw, values: Mapping[str, Array], x: Any) -> dict[str, Term]:
    """The law's terms, each with its derivatives by the shape parameters."""
    terms = dict(law.terms(values, x))
    bare = [name for name, term in terms.items() if term.gradient is None]
    if not bare:
        return terms
    names = [parameter.name for parameter in law.shape]
    first = _gradients(law, values, x)
    second: dict[str, dict[tuple[str, str], Array]] = {name: {} for name in bare}
    for i, b in enumerate(names):
        step = _REAL_STEP * np.maximum(np.abs(values[b]), 0.1)
        up = _gradients(law, {**values, b: values[b] + step}, x)
        down = _gradients(law, {**values, b: values[b] - step}, x)
        for term in bare:
            for a in names[: i + 1]:
                second[term][a, b] = (up[term][a] - down[term][a]) / (2 * step)
    return {
        name: replace(term, gradient=first[name], hessian=second[name]) if name in bare else term
        for name, term in terms.items()
    }


def _gradients(law: ScalingLaw, values: Mapping[str, Array], x: Any) -> dict[str, dict[str, Array]]:
    """d term / d parameter for every term and shape parameter, by one complex step each."""
    found: dict[str, dict[str, Array]] = {}
    for parameter in law.shape:
        a = parameter.name
        stepped = law.terms({**values, a: values[a] + 1j * _COMPLEX_STEP}, x)
        for name, term in stepped.items():
            found.setdefault(name, {})[a] = np.imag(term.value) / _COMPLEX_STEP
    return found
