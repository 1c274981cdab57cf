"""Held-out loss by language, kept as totals: nats, tokens, bytes, unigram nats."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from babelscale.errors import InputError

Split = Literal["validation", "parallel"]


@dataclass(frozen=True)
class HeldOut:
    """The held-out sequences of one language, with what does not depend on the model.

    `sequences` is (n, T + 1); `bytes` and `unigram_nats` are totals over the n x T predicted tokens. `split` tells text
    held out from the corpus from a set that says the same in every language.
    """

    language: str
    sequences: NDArray[np.int32]
    bytes: int
    unigram_nats: float
    split: Split = "validation"

    @classmethod
    def of(
        cls,
        language: str,
        tokens: NDArray[np.unsignedinteger],
        token_bytes: NDArray[np.unsignedinteger],
        unigram_nats: NDArray[np.float64],
        sequence_length: int,
        most_tokens: int | None,
        split: Split = "validation",
    ) -> "HeldOut":
        """The first `most_tokens` held-out tokens, or all of them where it is None, as whole sequences.

        A parallel set is always taken as a whole, since its languages say the same only as wholes; what is left over
        after the last whole sequence is not measured.

        Args:
            tokens: flat held-out tokens.
            token_bytes, unigram_nats: by token id, shape (V,).

        Raises:
            InputError: there are too few tokens for one sequence, or one that the vocabulary does not have.
        """
        most = len(tokens) if most_tokens is None or split == "parallel" else most_tokens
        count = min(most, len(tokens) - 1) // sequence_length
        if count < 1:
            kind = "held-out tokens" if split == "validation" else "tokens in the parallel set"
            found = f"{len(tokens)} {kind}" if most >= len(tokens) else f"{most} {kind} to be measured on"
            raise InputError(
                f"language {language!r} has {found}, fewer than one sequence of {sequence_length}",
                hint="give the language more text, a larger held-out share or shorter sequences",
            )
        starts = np.arange(count)[:, None] * sequence_length
        sequences = tokens[starts + np.arange(sequence_length + 1)].astype(np.int32)
        predicted = sequences[:, 1:]
        if (highest := int(sequences.max())) >= len(token_bytes):
            raise InputError(
                f"language {language!r} has token {highest} in its {split} text, the vocabulary ends at "
                f"{len(token_bytes) - 1}",
                hint="the token store is damaged or of another tokenizer; build it again",
            )
        total_bytes = int(token_bytes[predicted].sum(dtype=np.int64))
        return cls(language, sequences, total_bytes, float(unigram_nats[predicted].sum()), split)

    @property
    def tokens(self) -> int:
        return self.sequences.shape[0] * (self.sequences.shape[1] - 1)

    def measure(self, nats: Callable[[NDArray[np.int32]], NDArray[np.float64]], batch_size: int) -> dict[str, float]:
        """Totals under a model; `nats` maps (batch_size, T + 1) sequences to nats by sequence, shape (batch_size,).

        The last batch is filled up with its own first sequence, so that one compiled shape serves all.
        """
        total = 0.0
        for first in range(0, len(self.sequences), batch_size):
            part = self.sequences[first : first + batch_size]
            padding = np.repeat(part[:1], batch_size - len(part), axis=0)
            total += float(np.sum(nats(np.concatenate([part, padding]))[: len(part)], dtype=np.float64))
        return {"nats": total, "tokens": self.tokens, "bytes": self.bytes, "unigram_nats": self.unigram_nats}
