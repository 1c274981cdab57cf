"""How alike the text of two languages is under one tokenizer, and what of the vocabulary each language gets."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from babelscale.corpora.store import TokenStore
from babelscale.corpora.tokenizer import Tokenizer

Array = NDArray[np.float64]

# Tokens decoded a language, and cells that sequences of characters are counted in.
_TOKENS, _CELLS, _LENGTH = 200_000, 1 << 16, 3


@dataclass(frozen=True)
class Overlap:
    """Overlaps of n languages' training text.

    Overlap of two distributions p and q is their Bhattacharyya coefficient, sum sqrt(p q): 1 for alike ones, 0 where
    nothing is shared.

    Attributes:
        languages: n codes.
        pieces: of the distributions of tokens, shape (n, n).
        characters: of sequences of three characters within a line, shape (n, n).
        vocabulary_share: pieces in even use that would have the language's entropy, exp(H), over the vocabulary's size;
            shape (n,).
        characters_per_token: shape (n,).
    """

    languages: tuple[str, ...]
    pieces: Array
    characters: Array
    vocabulary_share: Array
    characters_per_token: Array

    def features(self) -> tuple[dict[str, Array], dict[str, Array]]:
        """Features of pairs and of languages, as the relations of a transfer matrix take them."""
        pairs = {"shared pieces": self.pieces, "shared characters": self.characters}
        share = {"vocabulary share": np.log(self.vocabulary_share)}
        return pairs, share | {"characters per token": self.characters_per_token}


def overlap(store: TokenStore, tokenizer: Tokenizer, languages: Sequence[str] | None = None) -> Overlap:
    """Overlaps of a store's languages, from its token counts and the beginning of each language's text.

    Raises:
        InputError: the store lacks a language.
    """
    codes = tuple(languages or store.languages)
    pieces, characters, share, length = [], [], [], []
    for code in codes:
        p = np.exp(-store.unigram_nats(code))
        # The smoothing's own share of pieces that were never seen is taken out again.
        p = np.where(p > p.min() * 1.5, p, 0.0)
        p = p / p.sum()
        pieces.append(np.sqrt(p))
        share.append(float(np.exp(-np.sum(p[p > 0] * np.log(p[p > 0])))) / store.vocabulary_size)
        tokens = store.train(code)[:_TOKENS]
        text = tokenizer.decode_bytes(tokens).decode("utf-8", errors="ignore")
        length.append(len(text) / max(len(tokens), 1))
        characters.append(np.sqrt(_sequences(text)))
    P, Q = np.stack(pieces), np.stack(characters)
    return Overlap(codes, P @ P.T, Q @ Q.T, np.array(share), np.array(length))


def _sequences(text: str) -> Array:
    """Share of each cell among the sequences of three letters within a line; shape (cells,)."""
    letters = np.frombuffer(text.lower().encode("utf-32-le"), dtype="<u4").astype(np.uint64)
    if len(letters) < _LENGTH:
        return np.zeros(_CELLS)
    windows = [letters[k : len(letters) - _LENGTH + 1 + k] for k in range(_LENGTH)]
    whole = np.all([window != ord("\n") for window in windows], axis=0)
    key = (windows[0] << np.uint64(42)) | (windows[1] << np.uint64(21)) | windows[2]
    # Multiplicative hashing (Knuth): the high bits of a product with an odd constant near 2^64 over the golden ratio.
    cell = (key[whole] * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(48)
    counts = np.bincount(cell.astype(np.int64), minlength=_CELLS).astype(np.float64)
    return counts / max(counts.sum(), 1.0)
