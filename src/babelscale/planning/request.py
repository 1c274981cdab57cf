"""What a plan is asked for: the options of `bs.plan`, `babelscale plan`, the page Plan and `/api/plan`, each once."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from babelscale.errors import InputError
from babelscale.options import (
    Bound,
    ByName,
    Codes,
    NotNegative,
    Positive,
    RequestModel,
    Sizes,
    option,
    parse_codes,
    parse_number,
)

DRAWS = 200
# Bytes a parameter while training: weights, optimiser, gradients and half-width copies (docs/designs.md).
BYTES_PER_PARAM = 22.0
Objective = Literal["mean", "worst", "regret"]
Robust = Literal["mean", "cvar"]
Split = Literal["pairs", "hub"]
Bounds = tuple[float, float]
LANGUAGES, BUDGET, CHECKPOINT = "Languages", "Budget", "Checkpoint"
OBJECTIVE, BOUNDS, DETAILS = "Objective", "Bounds", "Details"
_EACH = "one number for every language, or numbers by language such as sw=4,yo=10"


class PlanOptions(RequestModel):
    """The options that one plan and a partition over several models share."""

    groups: ClassVar[tuple[str, ...]] = (LANGUAGES, BUDGET, OBJECTIVE, BOUNDS, DETAILS)

    languages: Codes | None = option(
        None,
        "Codes of the languages to train on, helpers included (default: the targets of the fits and the sources of "
        "their laws); with published figures these are the targets.",
        LANGUAGES,
        example="sw,yo,ha",
    )
    weights: ByName | None = option(
        None,
        "How much the loss of each target matters, such as sw=2,yo=1; only the ratios count (default: equal).",
        LANGUAGES,
    )
    unique_tokens: ByName | None = option(
        None,
        "Unique tokens that you have of each language, such as sw=7.7e8,yo=5e7 (default: those of the fitted runs, "
        "or of the table of languages for published figures).",
        LANGUAGES,
        flag="unique",
    )
    published: bool = option(
        False, "Use the published figures of the ATLAS study in place of fits.", LANGUAGES, web="hidden"
    )
    draws: int = option(
        DRAWS, "Draws of the laws, each planned again for the intervals; 200 is usual.", DETAILS, web="api", ge=0
    )
    seed: int = option(0, "Seed of the draws, and of random starts where transfer is negative.", DETAILS, web="hidden")


class Constraints(RequestModel):
    """Bounds on tokens, epochs and shares, each by language or for every language."""

    max_epochs: Bound | None = option(None, f"Most epochs of a language: {_EACH}.", BOUNDS, "Most epochs")
    min_share: Bound | None = option(None, f"Least share of the tokens, from 0 to 1: {_EACH}.", BOUNDS, "Least share")
    max_share: Bound | None = option(None, f"Largest share of the tokens, from 0 to 1: {_EACH}.", BOUNDS, "Most share")
    min_tokens: Bound | None = option(None, f"Fewest tokens: {_EACH}.", BOUNDS, "Fewest tokens")
    max_tokens: Bound | None = option(None, f"Most tokens: {_EACH}.", BOUNDS, "Most tokens")

    def by_language(
        self, codes: Sequence[str], unique: Mapping[str, float]
    ) -> tuple[dict[str, Bounds], dict[str, Bounds]]:
        """(low, high) of the tokens and of the share of every language that has such a bound.

        Raises:
            InputError: a bound is out of range, names a language that is not planned, contradicts another bound, or
                limits the epochs of a language without known unique tokens.
        """
        low, high, epochs, least, most = (
            _by_language(name, getattr(self, name), codes)
            for name in ("min_tokens", "max_tokens", "max_epochs", "min_share", "max_share")
        )
        for code in epochs:
            if code not in unique and isinstance(self.max_epochs, Mapping):
                raise InputError(
                    f"max_epochs of {code!r}, whose unique tokens are unknown", hint=f"give unique_tokens of {code!r}"
                )
        tokens, shares = {}, {}
        for code in codes:
            lower, upper = low.get(code, 0.0), min(high.get(code, math.inf), _product(epochs, unique, code))
            if lower > upper:
                raise InputError(
                    f"min_tokens of {code!r} is {lower:.4g}, more than the {upper:.4g} that max_tokens or max_epochs "
                    "allow",
                    hint=f"the most it can be is {upper:.4g}",
                )
            if (lower, upper) != (0.0, math.inf):
                tokens[code] = lower, upper
            pair = least.get(code, 0.0), most.get(code, 1.0)
            if pair[0] > pair[1]:
                raise InputError(
                    f"min_share of {code!r} is {pair[0]:.4g}, above its max_share {pair[1]:.4g}",
                    hint=f"the most it can be is {pair[1]:.4g}",
                )
            if pair != (0.0, 1.0):
                shares[code] = pair
        return tokens, shares


class PlanRequest(PlanOptions, Constraints):
    """All options of a plan. `planning.budget` lists which of compute, loss, params and tokens go together."""

    helpers: Codes | None = option(
        None, "Codes of languages that may be trained on for the targets' sake; for published figures only.", LANGUAGES
    )
    covariates: ByName | None = option(
        None,
        "Covariates that the laws read, such as vocabulary=64000; the plan does not choose them (default: the "
        "value of the fitted runs, where they all have the same).",
        DETAILS,
        flag="covariate",
        repeated=True,
    )
    compute: Positive | None = option(
        None,
        "Training budget in FLOPs: 6 × parameters × tokens; 1e9 parameters on 2e10 tokens are 1.2e20.",
        BUDGET,
        "Compute (FLOPs)",
        example="1e21",
    )
    params: Positive | None = option(
        None,
        "Size of the model in parameters; alone, the plan seeks the compute for which it is best.",
        BUDGET,
        "Parameters (N)",
        example="2e9",
    )
    tokens: Positive | None = option(
        None,
        "Training tokens of all languages together; alone, the plan seeks the compute for which they are best.",
        BUDGET,
        "Tokens in all (D)",
        example="1e11",
    )
    loss: Positive | None = option(
        None,
        "Value of the objective to reach with the least compute; leave compute empty.",
        BUDGET,
        "Loss to reach",
        example="0.95",
    )
    inference_tokens: NotNegative = option(
        0.0, "Tokens that the model will serve; each costs 2 N FLOPs of the budget.", BUDGET, "Tokens to be served"
    )
    memory: Positive | None = option(
        None, "Bytes that the model may fill, at `bytes_per_param` a parameter.", BUDGET, "Memory (bytes)"
    )
    bytes_per_param: Positive = option(
        BYTES_PER_PARAM,
        "Bytes a parameter: 22 while training, 2 when served at half width.",
        BUDGET,
        "Bytes a parameter",
    )
    ladder: Sizes = option(
        False,
        "Sizes to choose from: atlas for the study's twenty, or numbers such as 1e8,3e8,1e9.",
        BUDGET,
        "Sizes to choose from",
    )
    objective: Objective = option(
        "mean",
        "What to minimise: the weighted mean of the losses, the worst loss, or the worst regret, which is the "
        "difference to the least loss that a target could have with the whole budget.",
        OBJECTIVE,
        "Minimise",
        choices={"mean": "the weighted mean loss", "worst": "the worst language's loss", "regret": "the worst regret"},
    )
    robust: Robust | None = option(
        None,
        "Plan for the draws of the laws in place of their best fit: for the mean over draws, or with cvar for the "
        "mean over the worst tail of them.",
        OBJECTIVE,
        "Over",
        choices={"": "the laws as fitted", "mean": "the mean of their draws", "cvar": "the worst tail of their draws"},
    )
    tail: Positive = option(
        0.1, "Share of the draws in the tail of `robust` cvar.", OBJECTIVE, "Tail (share of the draws)"
    )
    baselines: bool = option(
        True, "Compare the plan with simpler mixtures.", DETAILS, "Compare with simpler mixtures", web="api"
    )


def _shared_memory(value: Any) -> Any:
    return value == "same" or value if isinstance(value, bool) or value in ("same", None) else parse_number(value)


class PartitionRequest(PlanOptions):
    """All options of a partition of the languages over one model or several."""

    compute: Annotated[
        Positive,
        option(..., "Training budget of all models together, in FLOPs.", BUDGET, "Compute (FLOPs)", example="1e21"),
    ]
    memory: Annotated[float | bool | None, BeforeValidator(_shared_memory)] = option(
        None,
        "Bytes that all models together may fill when served, at `bytes_per_param` a parameter, or same for the "
        "bytes that one model would fill.",
        BUDGET,
        "Memory (bytes)",
    )
    bytes_per_param: Positive = option(
        2.0, "Bytes a parameter when served: 2 at half width.", BUDGET, "Bytes a parameter"
    )
    models: int | None = option(
        None, "Number of models, at least 2 (default: as many as lower the objective).", DETAILS, "Models"
    )
    pivot: str | None = option(None, "The language of a translation-style split; goes with `split`.", DETAILS, "Pivot")
    split: Split | None = option(
        None,
        "Split around the pivot: pairs, a model for the pivot and each other language, or hub, a model of the "
        "pivot and a translator of all languages.",
        DETAILS,
        "Split",
        choices={"": "no", "pairs": "a model for each pair", "hub": "a model of the pivot and a translator"},
    )
    most: int = option(
        300, "Most partitions to try where there are too many for all.", DETAILS, "Most partitions", ge=1
    )


class CheckpointOptions(RequestModel):
    """A checkpoint that may be continued."""

    checkpoint_params: Positive | None = option(
        None,
        "Parameters of the checkpoint; the published figures cover the study's own checkpoint only.",
        CHECKPOINT,
        label="Parameters of the checkpoint",
        example="1e9",
    )
    checkpoint_tokens: ByName | None = option(
        None,
        "Tokens of each language that the checkpoint was trained on, such as sw=1e9,en=1e11.",
        CHECKPOINT,
        label="Its tokens by language",
    )


class DecisionRequest(RequestModel):
    """All options of the decision between continuing a checkpoint and starting over."""

    params: Positive | None = option(
        None,
        "Parameters of the model (default: those of the checkpoint); with a checkpoint, of the model that would "
        "start over.",
        BUDGET,
        "Parameters (N)",
        example="2e9",
    )
    tokens: Positive | None = option(
        None, "New training tokens of the budget; give tokens or compute.", BUDGET, "New tokens", example="1e11"
    )
    compute: Positive | None = option(
        None, "New compute of the budget in FLOPs; give tokens or compute.", BUDGET, "Compute (FLOPs)", example="1e21"
    )
    charge: bool = option(False, "Let starting over spend the checkpoint's compute as well.", BUDGET, "Charge")
    language: str | None = option(
        None,
        "Code of the language; the published crossovers of eight languages at 2B parameters scale the law.",
        LANGUAGES,
    )
    mixture: ByName | None = option(
        None,
        "Shares of the new tokens of the continued checkpoint, such as sw=9,en=1 (default: the language alone).",
        LANGUAGES,
        "Mixture",
    )
    unique_tokens: ByName | None = option(
        None,
        "Unique tokens of each language, such as sw=7.7e8 (default: those of the fitted runs).",
        LANGUAGES,
        flag="unique",
    )
    seed: int = option(0, "Seed of every resampling.", DETAILS, web="hidden")


class CheckpointDecisionRequest(DecisionRequest, CheckpointOptions):
    """The options of the command and the API: those of the decision, and a checkpoint as numbers."""


def _whole(value: Any) -> Any:
    text = str(value).strip()
    if not text.lstrip("+-").isdigit() or int(text) < 1:
        raise ValueError("a count of languages is a whole number, 1 or more")
    return int(text)


def _count_or_codes(value: Any) -> Any:
    codes = parse_codes(value)
    if not codes or str(value).strip().lstrip("+-").isdigit():
        return _whole(value)
    return codes


Counted = Annotated[int | Sequence[str], BeforeValidator(_count_or_codes)]


class ExpansionRequest(RequestModel):
    """The options of an expansion to more languages at equal loss."""

    languages: Annotated[
        Counted,
        option(
            ...,
            "Number of languages now, or their codes, for which the order of additions is then given as well.",
            flag="from",
            example="4",
        ),
    ]
    to: Annotated[int, BeforeValidator(_whole), option(..., "Number of languages to reach.", example="16")]
    params: Positive | None = option(
        None, "Parameters of the model to expand; goes with tokens.", label="Parameters (N)"
    )
    tokens: Positive | None = option(
        None, "Tokens of that model, all languages together; goes with params.", label="Tokens in all (D)"
    )
    candidates: Codes | None = option(None, "Codes of languages that may be added (default: all of the matrix).")

    @property
    def codes(self) -> Sequence[str]:
        """The languages now, where they are named."""
        return () if isinstance(self.languages, int) else self.languages

    @property
    def count(self) -> int:
        """The number of languages now."""
        return self.languages if isinstance(self.languages, int) else len(self.languages)


def _product(epochs: Mapping[str, float], unique: Mapping[str, float], code: str) -> float:
    return epochs.get(code, math.inf) * unique.get(code, math.inf)


def _by_language(name: str, bound: Mapping[str, float] | float | None, codes: Sequence[str]) -> Mapping[str, float]:
    if bound is None:
        return {}
    values = bound if isinstance(bound, Mapping) else dict.fromkeys(codes, bound)
    for code, value in values.items():
        if code not in codes:
            raise InputError(f"{name} of {code!r}, which is not planned", hint=f"planned: {', '.join(codes)}")
        if name.startswith("max") and value == 0:
            raise InputError(f"{name} of {code!r} is 0", hint="remove the language from the languages instead")
        if not 0 <= value <= (1 if name.endswith("share") else math.inf):
            hint = "a share lies between 0 and 1" if name.endswith("share") else "give a positive number"
            raise InputError(f"{name} of {code!r} is {value}", hint=hint)
    return values


def check_weights(weights: Mapping[str, float] | None, targets: Sequence[str]) -> dict[str, float]:
    """Weights by target that sum to one."""
    if weights is None:
        return dict.fromkeys(targets, 1 / len(targets))
    for code, weight in weights.items():
        if code not in targets:
            raise InputError(f"weight of {code!r}, which is no target", hint=f"targets: {', '.join(targets)}")
        if not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"weight of {code!r} is {weight}", hint="weights are not negative")
    total = math.fsum(weights.values())
    if not total > 0:
        raise InputError("the weights sum to 0", hint="give at least one target a positive weight")
    return {code: weights.get(code, 0.0) / total for code in targets}


def check_unique(unique_tokens: Mapping[str, float] | None, codes: Sequence[str]) -> dict[str, float]:
    """Unique tokens by language, checked to be positive and of planned languages."""
    for code, U in (unique_tokens or {}).items():
        if code not in codes:
            raise InputError(
                f"unique tokens of {code!r}, which is not planned", hint=f"planned languages: {', '.join(codes)}"
            )
        if not U > 0:
            raise InputError(
                f"unique tokens of {code!r} are {U}", hint="remove a language without text from the languages"
            )
    return dict(unique_tokens or {})
