"""Mixture: the share of training tokens that each language gets.

Shares are positive and sum to one. The constructors are the mixtures of the ATLAS study (section 5 of its setup) and
the usual baselines; UniMax follows Chung et al. (2023, arXiv 2304.09151), algorithm 1.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from babelscale.errors import InputError


@dataclass(frozen=True)
class Mixture:
    """Shares by language, in the canonical (alphabetical) order of the codes.

    Args:
        shares: language code -> share; every share positive, the sum one to 1e-9.
        name: short readable name, part of a run's name and not of its identity.

    Raises:
        InputError: a share is not positive and finite, or the shares do not sum to one.
    """

    shares: Mapping[str, float]
    name: str = ""

    def __post_init__(self) -> None:
        if not self.shares:
            raise InputError("a mixture needs at least one language")
        for code, share in self.shares.items():
            if not (math.isfinite(share) and share > 0):
                raise InputError(f"mixture {self.name!r}: share of {code!r} is {share}", hint="shares are positive")
        total = math.fsum(self.shares.values())
        if abs(total - 1) > 1e-9:
            raise InputError(
                f"mixture {self.name!r}: shares sum to {total!r}, not to 1", hint="use Mixture.of(weights)"
            )
        ordered = MappingProxyType({code: float(self.shares[code]) for code in sorted(self.shares)})
        object.__setattr__(self, "shares", ordered)
        if not self.name:
            object.__setattr__(self, "name", "+".join(ordered))

    @classmethod
    def of(cls, weights: Mapping[str, float], name: str = "") -> "Mixture":
        """Normalise positive weights to shares."""
        total = math.fsum(weights.values())
        if not (math.isfinite(total) and total > 0):
            raise InputError(f"mixture {name!r}: weights sum to {total}", hint="give each language a positive weight")
        return cls({code: weight / total for code, weight in weights.items() if weight != 0}, name)

    @property
    def languages(self) -> tuple[str, ...]:
        return tuple(self.shares)

    def tokens(self, total: float) -> dict[str, float]:
        """Expected tokens by language of `total` tokens."""
        return {code: share * total for code, share in self.shares.items()}


def monolingual(language: str) -> Mixture:
    return Mixture({language: 1.0}, language)


def bilingual(first: str, second: str, share: float = 0.5) -> Mixture:
    """`share` of the first language, the rest of the second."""
    if first == second:
        raise InputError(f"a bilingual mixture needs two languages, got {first!r} twice")
    return Mixture({first: share, second: 1 - share}, f"{first}+{second}")


def uniform(languages: Iterable[str], name: str = "") -> Mixture:
    codes = tuple(dict.fromkeys(languages))
    return Mixture.of(dict.fromkeys(codes, 1.0), name or f"uniform{len(codes)}")


def proportional(sizes: Mapping[str, float], name: str = "proportional") -> Mixture:
    """Shares proportional to the unique tokens (or bytes) of each language."""
    return Mixture.of(sizes, name)


def temperature(sizes: Mapping[str, float], T: float, name: str = "") -> Mixture:
    """Shares proportional to size^(1/T): T = 1 is proportional, T -> infinity uniform."""
    if not T > 0:
        raise InputError(f"temperature must be positive, got {T}")
    return Mixture.of({code: size ** (1 / T) for code, size in sizes.items()}, name or f"temperature{T:g}")


def unimax(
    sizes: Mapping[str, float],
    budget: float,
    max_epochs: float,
    pinned: Mapping[str, float] | None = None,
    name: str = "unimax",
) -> Mixture:
    """UniMax: as even as possible under a cap on epochs.

    Languages are visited by ascending size c_l; each gets min(remaining budget / remaining languages,
    c_l x max_epochs) tokens. `pinned` languages get a fixed share first (the ATLAS study pins English at 5 %).

    Args:
        sizes: unique tokens c_l by language.
        budget: total training tokens.
        max_epochs: how often a language may be repeated.
        pinned: language -> fixed share of the whole.
    """
    fixed = dict(pinned or {})
    if missing := sorted(set(fixed) - set(sizes)):
        raise InputError(f"unimax: pinned languages without a size: {', '.join(missing)}")
    if not (budget > 0 and max_epochs > 0):
        raise InputError(f"unimax: budget and max_epochs must be positive, got {budget} and {max_epochs}")
    left = 1 - math.fsum(fixed.values())
    if left < -1e-12 or (left > 1e-12 and len(fixed) == len(sizes)):
        raise InputError("unimax: pinned shares must leave room for the other languages and sum to at most 1")
    remaining = budget * left
    allotted: dict[str, float] = {}
    free = sorted((code for code in sizes if code not in fixed), key=lambda code: (sizes[code], code))
    for position, code in enumerate(free):
        allotted[code] = min(remaining / (len(free) - position), sizes[code] * max_epochs)
        remaining -= allotted[code]
    used = math.fsum(allotted.values())
    # Caps can bind for every language; the shares are then those of what can be used.
    shares = {code: tokens / used * left for code, tokens in allotted.items()} if used else {}
    return Mixture.of(shares | fixed, name)


def unimax_budget(sizes: Mapping[str, float], max_epochs: float, pinned: Mapping[str, float] | None = None) -> float:
    """The most tokens of which `unimax` can keep every language within `max_epochs`; arguments as there."""
    fixed = dict(pinned or {})
    left = 1 - math.fsum(fixed.values())
    free = math.fsum(size * max_epochs for code, size in sizes.items() if code not in fixed)
    limits = [sizes[code] * max_epochs / share for code, share in fixed.items() if share > 0]
    return min([*limits, free / left] if left > 0 else limits, default=math.inf)
