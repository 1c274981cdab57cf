"""The ATLAS study's printed figures, typed: model scales, R2, multilinguality, pretrain or finetune."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from babelscale.errors import InputError
from babelscale.published.source import number, rows

Interval = tuple[float, float]

# Muennighoff et al. (2023), table of fitted constants: R*_D = 15.39; lambda of the ATLAS law is its inverse.
SATURATION_EPOCHS = 15.387756


@dataclass(frozen=True)
class ModelScale:
    """One of the twenty published sizes. `params` counts every parameter once, the tied embedding included."""

    scale: int
    heads: int
    layers: int
    d_model: int
    d_ff: int
    d_head: int
    params: int


@functools.cache
def model_scales() -> tuple[ModelScale, ...]:
    """The study's table of model shapes, smallest first."""
    return tuple(ModelScale(**{name: int(cell) for name, cell in row.items()}) for row in rows("model_scales"))


@dataclass(frozen=True)
class R2:
    """One row of Table 1: R2 of a law on randomly held-out points and on held-out N, D, C and mixtures M.

    `mixtures` is None in the monolingual block, where there are none to hold out.
    """

    block: str
    law: str
    random: float
    params: float
    tokens: float
    compute: float
    mixtures: float | None


@functools.cache
def r2_table() -> tuple[R2, ...]:
    """Table 1 of the study."""
    return tuple(
        R2(
            row["block"],
            row["law"],
            float(row["R2"]),
            float(row["R2_N"]),
            float(row["R2_D"]),
            float(row["R2_C"]),
            number(row["R2_M"]),
        )
        for row in rows("table_1_r2")
    )


@dataclass(frozen=True)
class Multipliers:
    """What to multiply by to keep the loss when K languages become rK."""

    ratio: float
    params: float
    tokens_per_language: float
    tokens: float
    compute: float


@dataclass(frozen=True)
class PrintedMultilinguality:
    """L(K, N, D_t) = L_inf + A K^phi / N^alpha + B K^psi / D_t^beta (the study, section on multilinguality).

    phi, psi and the two exponents of the multipliers are printed; alpha = phi / params_exponent and
    beta = psi / (tokens_exponent - 1) follow from them. L_inf, A and B are not printed.
    """

    phi: float = 0.11
    psi: float = -0.04
    params_exponent: float = 0.243
    tokens_exponent: float = 0.728

    # Half a unit of the last printed digit.
    phi_rounding: float = 0.005
    exponent_rounding: float = 0.0005
    r2_at_least: float = 0.87

    @property
    def alpha(self) -> float:
        return self.phi / self.params_exponent

    @property
    def beta(self) -> float:
        return self.psi / (self.tokens_exponent - 1)

    def multipliers(self, ratio: float) -> Multipliers:
        """N, D and C multipliers at equal loss for `ratio` times as many languages, evenly sampled.

        N grows by r^(phi/alpha), D_t by r^(psi/beta), D_tot by r^(1 + psi/beta), C by the product of N and D_tot.

        Raises:
            InputError: the ratio is not positive.
        """
        if not 0 < ratio < float("inf"):
            raise InputError(f"ratio of languages {ratio} must be positive and finite")
        params, tokens = power(ratio, self.params_exponent), power(ratio, self.tokens_exponent)
        return Multipliers(ratio, params, tokens / ratio, tokens, params * tokens)


def power(base: float, exponent: float) -> float:
    """base^exponent of a positive base; infinite where a float cannot hold it, as draws of a flat law can ask."""
    try:
        return float(base) ** float(exponent)
    except OverflowError:
        return math.inf


def multilinguality() -> PrintedMultilinguality:
    """The study's printed multilinguality exponents."""
    return PrintedMultilinguality()


# Printed multipliers by ratio of languages: (N, D_tot).
PRINTED_MULTIPLIERS: Mapping[int, tuple[float, float]] = MappingProxyType(
    {2: (1.18, 1.66), 4: (1.40, 2.74), 8: (1.66, 4.54), 16: (1.96, 7.52)}
)


@dataclass(frozen=True)
class PrintedCrossover:
    """C = coefficient x N^exponent: new compute at which pretraining overtakes continuing from UniMax.

    The study prints the law three ways; this one agrees with its crossovers at 2B parameters. The compute that the
    multilingual checkpoint itself cost (1T tokens) is not charged.

    Attributes:
        tokens_at_2b: crossover in tokens by language at 2B parameters.
    """

    tokens_at_2b: Mapping[str, float]
    coefficient: float = 1_113_708
    exponent: float = 1.65
    exponent_rounding: float = 0.005

    def compute(self, params: float) -> float:
        """Crossover compute in FLOPs for a model of `params` parameters."""
        return self.coefficient * params**self.exponent

    def tokens(self, params: float) -> float:
        """Crossover tokens, D = C / 6N."""
        return self.compute(params) / (6 * params)

    def ratio(self, language: str) -> float:
        """A language's crossover at 2B parameters over the law's.

        Raises:
            InputError: the study prints no crossover of the language.
        """
        if language not in self.tokens_at_2b:
            raise InputError(
                f"the study prints no crossover of {language!r}", hint=f"it has {', '.join(sorted(self.tokens_at_2b))}"
            )
        return self.tokens_at_2b[language] / self.tokens(2e9)

    @property
    def spread(self) -> Interval:
        """Lowest and highest ratio over the eight languages printed."""
        ratios = [self.ratio(code) for code in self.tokens_at_2b]
        return min(ratios), max(ratios)


@functools.cache
def crossover() -> PrintedCrossover:
    """The study's crossover law, with its crossovers at 2B parameters."""
    return PrintedCrossover(MappingProxyType({row["language"]: float(row["tokens"]) for row in rows("crossover_2b")}))
