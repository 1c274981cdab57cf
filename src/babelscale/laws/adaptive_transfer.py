"""ATLAS, the adaptive transfer law: other languages' tokens count as a fraction of the target's own.

Longpre et al. (2025), arXiv 2510.22037, section 3. Its fitting recipe, lambda and tau were not published.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.laws.base import ALPHA, BETA, Array, IdentifiabilityConstraint, Parameter, ScalingLaw, Support, Term
from babelscale.laws.repeats import REPEATS, repeating
from babelscale.laws.saturation import LAMBDA, decay, split
from babelscale.laws.separable import Group, SeparableForm, plain

if TYPE_CHECKING:
    from babelscale.runs import Runs

OTHER = "other"
# A logarithm with its first and second derivatives by name.
Derivatives = tuple[Array, Mapping[str, Array], Mapping[tuple[str, str], Array]]
_FEW = 3  # runs with a source, fewer of which are noted


@dataclass(frozen=True)
class LanguageStreams:
    """Tokens by stream (target, sources, other), each shape (streams, n); see `saturation.split`."""

    log_N: NDArray[np.float64]
    fresh: NDArray[np.float64]
    unique: NDArray[np.float64]
    repeats: NDArray[np.float64]


@dataclass(frozen=True)
class AdaptiveTransfer(ScalingLaw):
    """L(N, D_eff) = E + A / N^alpha + B / D_eff^beta, with

        D_eff   = S(D_t; U_t) + sum_{i in K_t} tau_i S(D_i; U_i) + tau_other S(D_other; U_other)
        D_other = D_tot - D_t - sum_{i in K_t} D_i

    and S the saturation S_lambda of `laws.saturation`, one lambda for every stream. U_other is the sum of the unique
    tokens of the languages in D_other. Three forms: `sources=(), other=False` sees D_t only; `sources=()` adds D_other;
    with sources each has a tau of its own. `tied` sets beta = alpha, as the authors' group does in its fits.

    Parameters: E, A, B, alpha, beta, lambda (how fast repeated tokens lose value), tau_<code> (value of a token of a
    source in target tokens; negative where it interferes), tau_other.
    """

    target: str
    sources: tuple[str, ...] = ()
    other: bool = True
    tied: bool = True
    name: ClassVar[str] = "adaptive-transfer"
    equation: ClassVar[str] = (
        "L = E + A / N^alpha + B / D_eff^beta,  D_eff = S(D_t) + sum_i tau_i S(D_i) + tau_other S(D_other)"
    )
    latex: ClassVar[str] = (
        r"L = E + \frac{A}{N^{\alpha}} + \frac{B}{D_{eff}^{\beta}}, \quad "
        r"D_{eff} = S(D_t) + \sum_i \tau_i S(D_i) + \tau_{other} S(D_{other})"
    )
    repetition: ClassVar[bool] = True

    @classmethod
    def for_runs(cls, target: str, runs: "Runs") -> Self:
        """As the study does: the three languages most often trained beside the target are sources."""
        sources = runs.cosampled(target, most=3)
        return cls(target, sources, other=len(set(runs.languages) - {target}) > len(sources))

    def __post_init__(self) -> None:
        object.__setattr__(self, "sources", tuple(self.sources))
        if self.target in self.sources or len(set(self.sources)) < len(self.sources):
            raise InputError(
                f"sources of {self.target!r} are {', '.join(self.sources)}",
                hint="each source is named once, and the target is not its own source",
            )

    @property
    def languages(self) -> tuple[str, ...]:
        return (self.target, *self.sources)

    @property
    def tau_names(self) -> tuple[str, ...]:
        return tuple(f"tau_{code}" for code in (*self.sources, *([OTHER] if self.other else [])))

    @property
    def shape(self) -> tuple[Parameter, ...]:
        # 1/lambda from a hundredth of an epoch to a thousand; tau = BTS/(2 - BTS) with BTS <= 1.2 stays below 1.5.
        return (
            ALPHA,
            BETA,
            Parameter(
                "lambda",
                "how fast repeated tokens lose value; 1/lambda epochs are worth one",
                1e-3,
                100.0,
                (0.03, 0.3),
                log=True,
                default=LAMBDA,
                identified_by=REPEATS,
            ),
            *(_tau(name[4:]) for name in self.tau_names),
        )

    @property
    def ties(self) -> Mapping[str, str]:
        return {"beta": "alpha"} if self.tied else {}

    def streams(self, allocation: Allocation) -> tuple[list[Array], list[Array]]:
        """D and U of the target, of each source and of the rest, shape of the allocation each."""
        named = (self.target, *self.sources)
        D = [allocation.D(code) for code in named]
        U = [allocation.U(code) for code in named]
        if self.other:
            rest = [code for code in allocation.languages if code not in named]
            zero = np.zeros(allocation.shape)
            seen = [allocation.D(code) > 0 for code in rest]
            D.append(sum((allocation.D(code) for code in rest), zero))
            unique = sum((np.where(on, allocation.U(code), 0.0) for code, on in zip(rest, seen, strict=True)), zero)
            U.append(np.where(unique > 0, unique, np.inf))
        return D, U

    def prepare(self, allocation: Allocation) -> LanguageStreams:
        D, U = self.streams(allocation)
        return LanguageStreams(np.log(allocation.params), *split(np.stack(D), np.stack(U)))

    def D_eff(self, parameters: Mapping[str, ArrayLike], allocation: Allocation) -> Array:
        """Effective tokens, in tokens of the target. Not positive where the law has no loss."""
        return self.effective({k: np.asarray(v) for k, v in parameters.items()}, self.prepare(allocation))[0]

    def effective(
        self, p: Mapping[str, Array], x: LanguageStreams
    ) -> tuple[Array, dict[str, Array], dict[tuple, Array]]:
        """D_eff and its derivatives by lambda and tau."""
        total: Array = np.zeros(())
        by_lambda: Array = np.zeros(())
        twice: Array = np.zeros(())
        gradient: dict[str, Array] = {}
        hessian: dict[tuple[str, str], Array] = {}
        for k, name in enumerate(("", *self.tau_names)):
            tau = p[name] if name else np.ones(())
            worth: Array = x.fresh[k]
            if x.repeats[k].any():
                phi, first, second = decay(p["lambda"] * x.repeats[k])
                extra = x.unique[k] * x.repeats[k]
                worth = worth + extra * phi
                slope = extra * x.repeats[k] * first
                by_lambda = by_lambda + tau * slope
                twice = twice + tau * extra * x.repeats[k] ** 2 * second
                if name:
                    hessian["lambda", name] = slope
            if name:
                gradient[name] = worth
            total = total + tau * worth
        gradient["lambda"] = by_lambda
        hessian["lambda", "lambda"] = twice
        return total, gradient, hessian

    def log_effective(self, p: Mapping[str, Array], x: LanguageStreams) -> Derivatives:
        """log D_eff, NaN where D_eff is not positive, and its first and second derivatives by lambda and tau."""
        total, gradient, hessian = self.effective(p, x)
        with np.errstate(divide="ignore", invalid="ignore"):
            total = np.where(np.real(total) > 0, total, np.nan)
            first = {name: value / total for name, value in gradient.items()}
            second = {}
            for a, b in itertools.combinations_with_replacement(first, 2):
                second[a, b] = hessian.get((a, b), hessian.get((b, a), 0.0)) / total - first[a] * first[b]
            return np.log(total), first, second

    def terms(self, shape: Mapping[str, Array], x: LanguageStreams) -> Mapping[str, Term]:
        log_D, first, second = self.log_effective(shape, x)
        alpha, beta = shape["alpha"], shape["beta"]
        gradient = {"beta": -log_D} | {name: -beta * slope for name, slope in first.items()}
        hessian = {("beta", name): -slope for name, slope in first.items()}
        hessian |= {pair: -beta * bend for pair, bend in second.items()}
        return {
            "E": Term(x.log_N * 0, {}),
            "A": Term(-alpha * x.log_N, {"alpha": -x.log_N}),
            "B": Term(-beta * log_D, gradient, hessian),
        }

    def constraints(self, allocation: Allocation) -> tuple[IdentifiabilityConstraint, ...]:
        D, U = self.streams(allocation)
        found: list[IdentifiabilityConstraint] = []
        if not any((d > u).any() for d, u in zip(D, U, strict=True)):
            at = f"{LAMBDA:.3g} (1/R_D* of Muennighoff et al. 2023)"
            found.append(
                IdentifiabilityConstraint.fix(
                    "lambda", "no run repeats its data", "Runs of several epochs on little unique data", LAMBDA, at=at
                )
            )
        identified: list[tuple[str, Array]] = []
        for name, d in zip(self.tau_names, D[1:], strict=True):
            constraint = self._constraint_of_tau(name, d, D[0], identified)
            if constraint is None:
                identified.append((name, d))
            else:
                found.append(constraint)
        return tuple(found)

    def _constraint_of_tau(
        self, name: str, d: Array, of_target: Array, identified: list[tuple[str, Array]]
    ) -> IdentifiabilityConstraint | None:
        who = "any other language" if name == f"tau_{OTHER}" else name[4:]
        if not (d > 0).any():
            reason, remedy = f"no run trains {self.target} together with {who}", "A run that mixes the two"
            return IdentifiabilityConstraint.fix(name, reason, remedy)
        if _proportional(d, of_target):
            reason = f"{who} always has the same ratio to {self.target}"
            return IdentifiabilityConstraint.fix(name, reason, f"A run with another ratio, or of {self.target} alone,")
        for earlier, other in identified:
            if _proportional(d, other):
                sentence = (
                    f"{name} and {earlier} cannot be separated, because their tokens always have the same ratio; they "
                    "share one value. A run with only one of the two would separate them."
                )
                return IdentifiabilityConstraint(name, sentence, tie=earlier)
        return None

    def supports(self, allocation: Allocation) -> tuple[Support, ...]:
        found = [repeating("lambda", allocation.languages, allocation)]
        for code in self.sources:
            sentence = f"tau_{code} depends on {{runs}} with {code}; more would confirm it."
            found.append(Support(f"tau_{code}", allocation.D(code) > 0, _FEW, sentence))
        return tuple(found)

    def in_domain(self, parameters: Mapping[str, ArrayLike], allocation: Allocation) -> NDArray[np.bool_]:
        return self.defined(allocation) & (self.D_eff(parameters, allocation) > 0)

    def separable(
        self, parameters: Mapping[str, Array], languages: Sequence[str], unique_tokens: Mapping[str, float]
    ) -> SeparableForm | None:
        everything, own = frozenset(languages), frozenset([self.target])
        form = plain(parameters, own)
        worth: dict[Group, Array] = dict(form.worth)
        worth |= {frozenset([code]): parameters[f"tau_{code}"] for code in self.sources if code in everything}
        rest = everything - own - set(self.sources)
        if self.other and rest:
            worth[rest] = parameters["tau_other"]
        return form._replace(lam=parameters["lambda"], worth=worth)

    @property
    def domain(self) -> str:
        return (
            f"it needs D_eff > 0, and here the target {self.target!r} has too few tokens for what "
            "negative transfer takes away"
        )


def _tau(code: str) -> Parameter:
    other = code == OTHER
    return Parameter(
        f"tau_{code}",
        f"value of a token of {code} in target tokens",
        -2.0,
        1.5,
        (0.0, 0.2),
        grid_group="tau",
        default=0.05 if other else 0.1,
        identified_by=f"runs with more different amounts of {'other languages' if other else code}",
    )


def _proportional(a: Array, b: Array) -> bool:
    """Whether a = ratio * b to one part in a thousand (token counts are rounded to sequences)."""
    ratio = (a @ b) / (b @ b)
    return bool(np.allclose(a, ratio * b, rtol=1e-3, atol=0))
