"""Newton's step in the shares and n = log N, for all rows of a problem together.

    [ H   b   a ] [ dp ]     [ g   ]
    [ b'  c     ] [ dn ] = - [ g_n ]        a: what must stay, a'dp = 0
    [ a'        ] [ nu ]     [ 0   ]

If no language helps another, H is a diagonal and a step costs O(K); otherwise it costs O(K^3).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Box(NamedTuple):
    """The interval of n = log N, shape (R,) each; None in its place: n stays where it is."""

    low: Array
    high: Array

    @classmethod
    def of(cls, box: "tuple[float, float] | Box", rows: int) -> "Box":
        """The same interval of N for every row."""
        if isinstance(box, Box):
            return box
        with np.errstate(divide="ignore"):
            return cls(np.full(rows, np.log(box[0])), np.full(rows, np.log(box[1])))

    def at(self, rows: NDArray[np.intp] | slice) -> "Box":
        return Box(self.low[rows], self.high[rows])


class NewtonSystem(NamedTuple):
    """H (R, K) or (R, K, K), b (R, K), c (R,), g (R, K), g_n (R,) and a (R, K)."""

    H: Array
    border: Array
    corner: Array
    g: Array
    g_n: Array
    normal: Array

    @property
    def diagonal(self) -> bool:
        return self.H.ndim == 2

    def at(self, rows: NDArray[np.intp] | Mask) -> "NewtonSystem":
        return NewtonSystem(*(each[rows] for each in self))

    def with_fixed_size(self) -> "NewtonSystem":
        """The same with dn = 0."""
        return self._replace(
            border=np.zeros_like(self.border), corner=np.ones_like(self.corner), g_n=np.zeros_like(self.g_n)
        )

    def step(self, fixed: Mask | None = None, values: Array | None = None) -> tuple[Array, Array]:
        """dp (R, K) and dn (R,); where `fixed`, dp has the given values. NaN where the matrix is singular."""
        if fixed is None or values is None:
            fixed, values = np.zeros(self.g.shape, bool), np.zeros_like(self.g)
        return (self._step_diagonal if self.diagonal else self._step_dense)(fixed, values)

    def _step_diagonal(self, fixed: Mask, values: Array) -> tuple[Array, Array]:
        """dp = -(g + b dn + a nu) / H of the free shares; the last two rows then give dn and nu."""
        a, b, g = self.normal, self.border, self.g
        values = np.where(fixed, values, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            w = np.where(fixed, 0.0, 1 / self.H)
            aa, ab, bb = (w * a * a).sum(1), (w * a * b).sum(1), (w * b * b).sum(1)
            # ab dn + aa nu = first and (c - bb) dn - ab nu = second
            first = (a * values).sum(1) - (w * a * g).sum(1)
            second = (w * b * g).sum(1) - self.g_n - (b * values).sum(1)
            dn = (second * aa + ab * first) / ((self.corner - bb) * aa + ab**2)
            nu = (first - ab * dn) / aa
            return np.where(fixed, values, -w * (g + b * dn[:, None] + a * nu[:, None])), dn

    def _matrix(self, more: int) -> Array:
        """The Hessian by the shares and n, shape (R, K + 1, K + 1), with `more` empty rows and columns below."""
        R, K = self.g.shape
        A, k = np.zeros((R, K + 1 + more, K + 1 + more)), np.arange(K)
        if self.diagonal:
            A[:, k, k] = self.H
        else:
            A[:, :K, :K] = self.H
        A[:, :K, K] = A[:, K, :K] = self.border
        A[:, K, K] = self.corner
        return A

    def _step_dense(self, fixed: Mask, values: Array) -> tuple[Array, Array]:
        R, K = self.g.shape
        A, k = self._matrix(1), np.arange(K)
        A[:, K + 1, :K] = A[:, :K, K + 1] = self.normal
        right = np.concatenate([-self.g, -self.g_n[:, None], np.zeros((R, 1))], axis=1)
        if fixed.any():
            A[:, :K][fixed] = 0.0
            A[:, k, k] = np.where(fixed, 1.0, A[:, k, k])
            right[:, :K] = np.where(fixed, values, right[:, :K])
        try:
            step = np.linalg.solve(A, right[..., None])[..., 0]
        except np.linalg.LinAlgError:
            step = np.full(right.shape, np.nan)
        return np.asarray(step[:, :K], np.float64), np.asarray(step[:, K], np.float64)

    def step_downhill(self) -> tuple[Array, Array]:
        """The step with the absolute eigenvalues of the Hessian on the plane a'dp = 0, which always goes downhill."""
        H, g = self._matrix(0), np.concatenate([self.g, self.g_n[:, None]], axis=1)
        a = np.concatenate([self.normal, np.zeros((len(g), 1))], axis=1)
        a /= np.linalg.norm(a, axis=1, keepdims=True)
        project = np.eye(H.shape[1]) - a[:, :, None] * a[:, None, :]
        values, vectors = np.linalg.eigh(project @ H @ project)
        values = np.maximum(np.abs(values), 1e-10 * np.abs(values).max(1, keepdims=True) + 1e-300)
        flat = np.einsum("rij,rj->ri", project, -g)
        inner = np.einsum("rji,rj->ri", vectors, flat) / values
        step = np.einsum("rij,rj->ri", project, np.einsum("rij,rj->ri", vectors, inner))
        return np.asarray(step[:, :-1]), np.asarray(step[:, -1])
