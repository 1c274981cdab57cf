"""Batches as a pure function of (stages, seed, step).

The order of languages is a merge of regular beats: the j-th sequence of a language with share s falls at time
(j + 1/2) / s. Any prefix then holds every language's share to about one sequence, no step depends on how long the run
will be, and any step is reached by counting, without replay. Within a language, sequences come in an order shuffled
anew each epoch, by a keyed permutation that is computed where it is needed and stored nowhere: a language may have a
thousand million sequences.

A run may have a second stage with another mixture. Its beats start anew at the boundary, so that each stage holds its
own shares to about one sequence; each language goes on in its own order of sequences where the first stage stopped.
"""

import hashlib
import mmap
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from babelscale.errors import InputError
from babelscale.mixture import Mixture

Read = TypeVar("Read")
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = 8
# About so many sequences are placed at once: NumPy's calls cost more than what they do for a few.
_TOGETHER = 1024
# A position that no run reaches.
_FAR = 1 << 62


@dataclass(frozen=True)
class Stage:
    """The second stage of a run: once `start` steps are done, batches follow `mixture`.

    Raises:
        InputError: no step comes before it.
    """

    start: int
    mixture: Mixture

    def __post_init__(self) -> None:
        if self.start < 1:
            raise InputError(f"stage two starts after {self.start} steps", hint="it must start after at least one step")


@dataclass
class Batches:
    """Batches of one run.

    Args:
        tokens: the flat training tokens of each language of the mixtures, shape (n,) each; mapped from disk or not.
        mixture: shares of sequences, and so of tokens, by language.
        seed: decides the order within each language.
        batch_size, sequence_length: B and T; a batch is (B, T + 1), the targets being the inputs shifted by one.
        then: the second stage, where the run has one.

    Raises:
        InputError: a language of a mixture has no tokens, or fewer than one sequence.
    """

    tokens: Mapping[str, NDArray[np.unsignedinteger]]
    mixture: Mixture
    seed: int
    batch_size: int
    sequence_length: int
    then: Stage | None = None
    # By language, in the order of `languages`: (sequences, T + 1) views of its tokens, their number, the shuffle's key.
    _stored: list[NDArray[np.unsignedinteger]] = field(init=False, repr=False, compare=False)
    _sizes: NDArray[np.int64] = field(init=False, repr=False, compare=False)
    _keys: NDArray[np.uint64] = field(init=False, repr=False, compare=False)
    # By stage: its first position, the first one after it, the indices of its languages and their shares.
    _stages: list[tuple[int, int, NDArray[np.intp], NDArray[np.float64]]] = field(init=False, repr=False, compare=False)
    # The steps placed last: the first of them, and the language and place of each of their sequences.
    _placed: tuple[int, NDArray[np.intp], NDArray[np.int64]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        T = self.sequence_length
        codes = self.languages
        for code in codes:
            if code not in self.tokens:
                raise InputError(
                    f"language {code!r} of the mixture has no training tokens",
                    hint=f"there are tokens of {', '.join(self.tokens)}",
                )
            if self.sequences(code) < 1:
                raise InputError(
                    f"language {code!r} has {len(self.tokens[code])} training tokens, fewer than one sequence of {T}",
                    hint="give it more text or shorten the sequences",
                )
        self._stored = [sliding_window_view(np.asarray(self.tokens[code]), T + 1)[::T] for code in codes]
        self._sizes = np.array([len(stored) for stored in self._stored])
        self._keys = np.array([_key(self.seed, code) for code in codes], np.uint64)
        turn = _FAR if self.then is None else self.then.start * self.batch_size
        stages = [(0, turn, self.mixture), *([] if self.then is None else [(turn, _FAR, self.then.mixture)])]
        self._stages = [
            (
                first,
                end,
                np.array([codes.index(code) for code in mixture.languages]),
                np.fromiter(mixture.shares.values(), np.float64),
            )
            for first, end, mixture in stages
        ]
        self._placed = (-1, np.empty(0, np.intp), np.empty(0, np.int64))
        for stored in map(self.tokens.__getitem__, codes):
            _expect_no_order(stored)

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages of both stages, in alphabetical order."""
        return trained_languages(self.mixture, self.then)

    def sequences(self, language: str) -> int:
        """Whole sequences a language holds, each overlapping the next by the one token it only predicts."""
        return (len(self.tokens[language]) - 1) // self.sequence_length

    def unique_tokens(self, language: str) -> int:
        """U: the tokens that training can predict."""
        return self.sequences(language) * self.sequence_length

    def counts(self, step: int) -> dict[str, int]:
        """Sequences of each language consumed in the first `step` steps."""
        _, ordinals = self._span(step * self.batch_size, 0)
        return dict(zip(self.languages, ordinals.tolist(), strict=True))

    def at(self, step: int, rows: slice | None = None) -> NDArray[np.int32]:
        """The batch of a step, shape (B, T + 1).

        Args:
            rows: only these rows of it, for one host of several; the others are not read.
        """
        languages, places = self._of_step(step)
        if rows is not None:
            languages, places = languages[rows], places[rows]
        batch = np.empty((len(languages), self.sequence_length + 1), np.int32)
        grouped = np.argsort(languages, kind="stable")
        for group in np.split(grouped, np.flatnonzero(np.diff(languages[grouped])) + 1):
            if len(group):
                batch[group] = self._stored[languages[group[0]]][places[group]]
        return batch

    def _of_step(self, step: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """The language index of each row of a step, and which of the language's stored sequences it is."""
        steps = max(1, _TOGETHER // self.batch_size)
        first = step - step % steps
        # One assignment of one tuple, so that a thread that reads ahead disturbs nobody.
        placed = self._placed
        if placed[0] != first:
            placed = self._placed = (first, *self._place(first * self.batch_size, steps * self.batch_size))
        _, languages, places = placed
        rows = slice((step - first) * self.batch_size, (step - first + 1) * self.batch_size)
        return languages[rows], places[rows]

    def _place(self, first: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Languages and places of positions first .. first + count."""
        languages, before = self._span(first, count)
        grouped = np.argsort(languages, kind="stable")
        counts = np.bincount(languages, minlength=len(before))
        # How many sequences of its language were drawn before each one.
        ordinals = np.empty(count, np.int64)
        ordinals[grouped] = np.arange(count) + np.repeat(before - (np.cumsum(counts) - counts), counts)
        sizes = self._sizes[languages]
        epochs, positions = np.divmod(ordinals, sizes)
        keys = mixed(self._keys[languages] + epochs.astype(np.uint64) * _GOLDEN)
        return languages, permuted(positions, sizes, keys)

    def _span(self, first: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """Language indices of positions first .. first + count, and each language's sequences before `first`."""
        parts: list[NDArray[np.intp]] = []
        before = np.zeros(len(self._stored), np.int64)
        for begin, end, indices, shares in self._stages:
            low, high = (min(max(position, begin), end) for position in (first, first + count))
            merged, own = _beats(shares, low - begin, high - low)
            parts.append(indices[merged])
            before[indices] += own
        return np.concatenate(parts), before


def trained_languages(mixture: Mixture, then: Stage | None) -> tuple[str, ...]:
    """The languages that a run trains on in its stages, in alphabetical order."""
    return tuple(sorted({*mixture.languages, *(then.mixture.languages if then is not None else ())}))


def mixture_name(mixture: Mixture, then: Stage | None) -> str:
    """What a run trains on, for people: the mixture, and the second one with its boundary."""
    return mixture.name if then is None else f"{mixture.name} then {then.mixture.name} from step {then.start}"


def _beats(shares: NDArray[np.float64], first: int, count: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """The share that each position first .. first + count of the merged beats belongs to; each share's beats before."""
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


def prefetched(read: Callable[[int], Read], first: int, last: int) -> Iterator[Read]:
    """What `read` gives for the steps first .. last - 1 in order, two ahead of use by a thread.

    What goes wrong in the thread is raised at the step it belongs to.
    """
    steps = iter(range(first, last))
    with ThreadPoolExecutor(1, "batches") as thread:
        ahead: deque[Future[Read]] = deque()
        try:
            for step in steps:
                ahead.append(thread.submit(read, step))
                if len(ahead) > 2:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def permuted(positions: NDArray[np.int64], sizes: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where each position of 0 .. size - 1 lands in the permutation of its size and key; all of shape (n,).

    A Feistel network on the digits of a two-digit number, each digit in turn shifted by a hash of the other, applied
    again until it falls below the size (Black and Rogaway 2002, Ciphers with arbitrary finite domains).
    """
    places = positions.astype(np.uint64)
    limits = sizes.astype(np.uint64)
    rows = np.ceil(np.sqrt(sizes)).astype(np.uint64)
    columns = (limits + rows - np.uint64(1)) // rows
    left = np.arange(len(places))
    while len(left):
        row, column = np.divmod(places[left], columns[left])
        key = keys[left]
        for _ in range(_ROUNDS):
            row = (row + mixed(column + key)) % rows[left]
            column = (column + mixed(row ^ ~key)) % columns[left]
            key = key + _GOLDEN
        places[left] = row * columns[left] + column
        left = left[places[left] >= limits[left]]
    return places.astype(np.int64)


def mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 bits hashed to 64 bits, one to one: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _expect_no_order(tokens: NDArray[np.unsignedinteger]) -> None:
    """Tell the system that a mapped file is read here and there: it would read megabytes ahead of each sequence."""
    mapped = tokens.base
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
        mapped.madvise(mmap.MADV_RANDOM)


def _key(seed: int, language: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {language}".encode()).digest()[:8], "little")
