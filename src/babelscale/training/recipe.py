"""Recipe: everything about a training run that is neither its shape nor its data."""

import math
from dataclasses import dataclass
from typing import Any

from babelscale.errors import InputError

# The stable phase is measured over this factor of tokens.
_CURVE = 12.0
_MOST_EVALUATIONS = 100_000


@dataclass(frozen=True)
class Recipe:
    """AdamW under a warm-up, stable, decay (WSD) schedule (Hu et al. 2024, arXiv 2404.06395, section 4).

    Args:
        batch_size: sequences a step.
        sequence_length: T, predicted tokens a sequence.
        learning_rate: of the stable phase.
        warmup_steps: linear from zero; at most a tenth of the run.
        decay_share: last share of the steps, linear to zero (the ATLAS study decays over the last 10 %).
        weight_decay: decoupled, on matrices and not on norm vectors.
        beta1, beta2: of AdamW.
        clip: global norm of the gradient.
        dropout: share of the embedded tokens' and branches' outputs set to zero in training.
        z_loss: weight of (log Z)^2 in what training minimises (see `decoder.loss`); the logged loss leaves it out.
        evaluations: checkpoints of the stable phase at which held-out loss is measured; one more follows the decay.
        evaluation_tokens: held-out tokens a language at most, always the first ones.
        checkpoint_every: steps between saved states; changes no result and so no identity.

    A run's identity leaves out what stands at its default, so the defaults never change.
    """

    batch_size: int = 8
    sequence_length: int = 128
    learning_rate: float = 3e-3
    warmup_steps: int = 20
    decay_share: float = 0.1
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    clip: float = 1.0
    evaluations: int = 8
    evaluation_tokens: int = 8192
    checkpoint_every: int = 1000
    dropout: float = 0.0
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        whole = ("batch_size", "sequence_length", "evaluations", "evaluation_tokens", "checkpoint_every")
        for name in (*whole, "learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise InputError(f"recipe: {name} is {getattr(self, name)}", hint="it must be positive")
        if self.evaluations > _MOST_EVALUATIONS:
            raise InputError(f"recipe: evaluations is {self.evaluations}", hint=f"at most {_MOST_EVALUATIONS}")
        if not 0 < self.decay_share < 1:
            raise InputError(f"recipe: decay_share is {self.decay_share}", hint="it must be between 0 and 1")
        if not 0 <= self.dropout < 1:
            raise InputError(f"recipe: dropout is {self.dropout}", hint="it must be at least 0 and below 1")
        for name in ("warmup_steps", "weight_decay", "z_loss"):
            if getattr(self, name) < 0:
                raise InputError(f"recipe: {name} is {getattr(self, name)}", hint="it must not be negative")

    @classmethod
    def of_study(cls, params: int, **changes: Any) -> "Recipe":
        """The ATLAS study's own recipe for a model of so many parameters (Longpre et al. 2025, setup).

        Batches of 256 sequences below 150M parameters, 512 below 1B, 1024 below 2B, else 2048; at least 30,000 steps
        go with it. What the study does not print (weight decay, betas, clipping, evaluation) stands at our defaults.
        """
        batch = next((size for bound, size in ((150e6, 256), (1e9, 512), (2e9, 1024)) if params < bound), 2048)
        standard = {
            "batch_size": batch,
            "sequence_length": 2048,
            "learning_rate": 2e-4,
            "warmup_steps": 1000,
            "dropout": 0.1,
        }
        return cls(**standard | changes)

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.sequence_length

    def steps(self, tokens: float) -> int:
        """Steps whose tokens come closest to the number asked for."""
        return max(1, round(tokens / self.tokens_per_step))

    def phases(self, steps: int) -> tuple[int, int]:
        """First step after the warm-up, and first step of the decay."""
        return min(self.warmup_steps, steps // 10), steps - max(1, math.ceil(self.decay_share * steps))

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of a step, counted from 0."""
        warm, decay = self.phases(steps)
        if step < warm:
            return self.learning_rate * ((step + 1) / warm)
        if step < decay:
            return self.learning_rate
        return self.learning_rate * ((steps - step) / (steps - decay + 1))

    def evaluation_steps(self, steps: int) -> list[int]:
        """Steps done when the held-out loss is measured: evenly in log tokens up to the end of the stable phase, the
        first at a twelfth of it, and after the decay. Learning curves are read on a log scale.
        """
        warm, decay = self.phases(steps)
        last = max(1, self.evaluations - 1)
        stable = {round(decay * _CURVE ** (-k / last)) for k in range(self.evaluations)}
        return sorted({step for step in stable if warm < step <= decay} | {steps})
