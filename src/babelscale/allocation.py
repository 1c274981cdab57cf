"""Allocation: the input of a scaling law. N, and per language D (tokens seen) and U (unique tokens)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from babelscale.errors import InputError


@dataclass(frozen=True)
class Allocation:
    """One allocation, or n of them at once.

    Args:
        params: N, every parameter counted once (tied embedding included). Scalar or shape (n,).
        tokens: D by language, tokens consumed. Scalars or shape (n,); all shapes broadcast together.
        unique_tokens: U by language, unique tokens available. A language left out never repeats (U infinite).
        covariates: further numbers by name that a law may read, such as the vocabulary; finite.

    Raises:
        InputError: N not positive and finite, a D negative or not finite, a U not positive, a covariate not finite.

    N and D may be complex, because imaginary parts hold derivatives (see `laws.sensitivity`).
    """

    params: NDArray[np.float64]
    tokens: Mapping[str, NDArray[np.float64]]
    unique_tokens: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    covariates: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __init__(
        self,
        params: ArrayLike,
        tokens: Mapping[str, ArrayLike],
        unique_tokens: Mapping[str, ArrayLike] | None = None,
        covariates: Mapping[str, ArrayLike] | None = None,
    ) -> None:
        extra = {name: np.asarray(value, np.float64) for name, value in (covariates or {}).items()}
        unique = {code: np.asarray(value, np.float64) for code, value in (unique_tokens or {}).items()}
        trained = {code: _numbers(value) for code, value in tokens.items()}
        N = _numbers(params)
        if not trained:
            raise InputError("an allocation needs tokens of at least one language")
        if not (np.isfinite(N).all() and (N > 0).all()):
            raise InputError("params must be positive and finite")
        for code, value in trained.items():
            if not (np.isfinite(value).all() and (value >= 0).all()):
                raise InputError(f"tokens of {code!r} must be finite and not negative")
        for code, value in unique.items():
            if not (value > 0).all():
                raise InputError(f"unique_tokens of {code!r} must be positive")
        for name, value in extra.items():
            if not np.isfinite(value).all():
                raise InputError(f"covariate {name!r} must be finite")
        every = (*trained.values(), *unique.values(), *extra.values())
        try:
            shape = np.broadcast_shapes(N.shape, *(v.shape for v in every))
        except ValueError as error:
            raise InputError(f"shapes of params, tokens, unique_tokens and covariates do not fit: {error}") from None
        object.__setattr__(self, "params", np.broadcast_to(N, shape))
        object.__setattr__(self, "tokens", {code: np.broadcast_to(v, shape) for code, v in trained.items()})
        object.__setattr__(
            self, "unique_tokens", {code: np.broadcast_to(unique.get(code, np.inf), shape) for code in trained}
        )
        object.__setattr__(self, "covariates", {name: np.broadcast_to(v, shape) for name, v in extra.items()})

    @property
    def shape(self) -> tuple[int, ...]:
        return self.params.shape

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(self.tokens)

    @property
    def total_tokens(self) -> NDArray[np.float64]:
        """D_tot, shape of the allocation."""
        return np.sum(list(self.tokens.values()), axis=0)

    def D(self, language: str) -> NDArray[np.float64]:
        """Tokens of a language, zero where it is absent."""
        return self.tokens.get(language, np.zeros(self.shape))

    def U(self, language: str) -> NDArray[np.float64]:
        """Unique tokens of a language, infinite where unknown."""
        return self.unique_tokens.get(language, np.full(self.shape, np.inf))

    def covariate(self, name: str) -> NDArray[np.float64]:
        """A covariate, shape of the allocation.

        Raises:
            InputError: the allocation has none of this name.
        """
        if name not in self.covariates:
            raise InputError(
                f"no covariate {name!r}, which the law reads",
                hint=f"give covariates={{{name!r}: ...}}, or a column covariates.{name} in the table of runs",
            )
        return self.covariates[name]

    def epochs(self, language: str) -> NDArray[np.float64]:
        return self.D(language) / self.U(language)

    def at(self, index: int | slice | NDArray[np.intp] | NDArray[np.bool_]) -> "Allocation":
        """Some of the allocations of a batch."""
        return Allocation(
            self.params[index],
            {code: value[index] for code, value in self.tokens.items()},
            {code: value[index] for code, value in self.unique_tokens.items()},
            {name: value[index] for name, value in self.covariates.items()},
        )


def _numbers(values: ArrayLike) -> NDArray[np.float64]:
    """float64, or complex128 where the numbers are complex."""
    values = np.asarray(values)
    return values if values.dtype.kind == "c" else values.astype(np.float64)  # pyright: ignore[reportReturnType]
