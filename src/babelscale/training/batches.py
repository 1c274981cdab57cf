"""Batches as a pure function of (mixture, seed, step).

The order of languages is a merge of regular beats: the j-th sequence of a language with share s falls at time
(j + 1/2) / s. Any prefix then holds every language's share to about one sequence, no step depends on how long the run
will be, and any step is reached by counting, without replay. Within a language, sequences come in an order shuffled
anew each epoch.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.mixture import Mixture


@dataclass
class Batches:
    """Batches of one run.

    Args:
        tokens: the flat training tokens of each language of the mixture, shape (n,) each.
        mixture: shares of sequences, and so of tokens, by language.
        seed: decides the order within each language.
        batch_size, sequence_length: B and T; a batch is (B, T + 1), the targets being the inputs shifted by one.
    """

    tokens: Mapping[str, NDArray[np.unsignedinteger]]
    mixture: Mixture
    seed: int
    batch_size: int
    sequence_length: int
    _orders: dict[tuple[str, int], NDArray[np.intp]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for code in self.mixture.languages:
            if self.sequences(code) < 1:
                raise InputError(
                    f"language {code!r} has {len(self.tokens[code])} training tokens, fewer than one sequence of "
                    f"{self.sequence_length}",
                    hint="give it more text or shorten the sequences",
                )

    def sequences(self, language: str) -> int:
        """Whole sequences a language holds, each overlapping the next by the one token it only predicts."""
        return (len(self.tokens[language]) - 1) // self.sequence_length

    def unique_tokens(self, language: str) -> int:
        """U: the tokens that training can predict."""
        return self.sequences(language) * self.sequence_length

    def counts(self, step: int) -> dict[str, int]:
        """Sequences of each language consumed in the first `step` steps."""
        _, ordinals = self._span(step * self.batch_size, 0)
        return dict(zip(self.mixture.languages, ordinals.tolist(), strict=True))

    def at(self, step: int, rows: slice | None = None) -> NDArray[np.int32]:
        """The batch of a step, shape (B, T + 1), or some rows of it."""
        languages, before = self._span(step * self.batch_size, self.batch_size)
        T = self.sequence_length
        batch = np.empty((self.batch_size, T + 1), np.int32)
        codes = self.mixture.languages
        following = before.copy()
        for row, index in enumerate(languages):
            start = self._place(codes[index], int(following[index])) * T
            batch[row] = self.tokens[codes[index]][start : start + T + 1]
            following[index] += 1
        return batch if rows is None else batch[rows]

    def _place(self, language: str, ordinal: int) -> int:
        """Which stored sequence the `ordinal`-th one drawn from a language is."""
        epoch, position = divmod(ordinal, self.sequences(language))
        key = (language, epoch)
        if key not in self._orders:
            self._orders = {kept: order for kept, order in self._orders.items() if kept[0] != language}
            rng = np.random.default_rng([self.seed, zlib.crc32(language.encode()), epoch])
            self._orders[key] = rng.permutation(self.sequences(language))
        return int(self._orders[key][position])

    def _span(self, first: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Language indices of positions first .. first + count, and each language's sequences before `first`."""
        shares = np.fromiter(self.mixture.shares.values(), np.float64)
        K = len(shares)
        # By time t a language has had floor(s t + 1/2) beats, all K together t - K/2 to t + K/2. So a time K before
        # `first` is early enough to start merging from. The odd fraction keeps t off the beats of round shares, where
        # rounding could count one language's beat and not another's at the same time.
        start = max(0.0, first - K - 0.381966)
        before = np.floor(shares * start + 0.5).astype(np.int64)
        reach = first + count - int(before.sum())
        columns = int(np.ceil(shares.max() * (count + 2 * K + 1))) + 2
        ordinals = before[:, None] + np.arange(columns)
        times = (ordinals + 0.5) / shares[:, None]
        merged = np.argsort(times, axis=None, kind="stable")[:reach] // columns
        before = before + np.bincount(merged[: reach - count], minlength=K)
        return merged[reach - count :], before
