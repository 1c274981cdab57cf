"""Tokenizer: SentencePiece BPE with byte fallback that gives every line back to the byte.

Every token stands for a fixed string of bytes, the end-of-line token for the newline, so the bytes of a stream of
tokens are a table look-up and their sum is the size of the text.
"""

import hashlib
import io
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel

from babelscale import mixture
from babelscale.corpora.corpus import Corpus
from babelscale.errors import BabelscaleError, InputError
from babelscale.files import new_folder, read_model

Progress = Callable[[str, int, int], None]

MODEL, RECORD = "tokenizer.model", "tokenizer.json"
END_OF_LINE, _UNKNOWN = 0, 1
_RESERVED = 2 + 256
# SentencePiece writes a space as U+2581 and cannot tell it from the character itself.
_SPACE = "\u2581"
# No token holds a space behind anything but spaces, so a line's tokens are those of its words, each with the spaces
# before it; most words come again, and are encoded once.
_SEGMENT = re.compile(r" *[^ \n]+| +|\n")
_LINE = re.compile(r"[^\n]+|\n")
_CROSSING = re.compile(rb"[^ ] ")
_MOST_KNOWN = 1 << 17
_AT_ONCE = 16
# Of the room beyond the bytes, at most this part goes to single characters: on 12 languages with 2k pieces, 30 % costs
# 1 % of the bytes a token of the best share, and more starves merges while less starves Han characters.
_CHARACTER_SHARE = 0.3
_CHARACTER_COVERAGE = 0.9995
_SETTINGS: dict[str, Any] = {
    "model_type": "bpe",
    "byte_fallback": True,
    "normalization_rule_name": "identity",
    "remove_extra_whitespaces": False,
    "add_dummy_prefix": False,
    "allow_whitespace_only_pieces": True,
    "character_coverage": 1.0,
    "max_sentence_length": 1 << 24,
    "shuffle_input_sentence": False,
    "num_threads": 1,
    "eos_id": END_OF_LINE,
    "unk_id": _UNKNOWN,
    "bos_id": -1,
    "pad_id": -1,
    "minloglevel": 2,
}


class TokenizerRecord(BaseModel):
    """What is needed of tokenizer.json, which also holds how the tokenizer was trained."""

    hash: str


class Tokenizer:
    """A trained vocabulary.

    Attributes:
        vocabulary_size: number of tokens V.
        hash: SHA-256 (hex) of the model; it names the tokenizer in run tables.
        end_of_line: id of the token after each line; it stands for the newline.
        dtype: smallest of uint16 and uint32 that holds every id.
        token_bytes: (V,) uint16, UTF-8 bytes each token stands for.
    """

    def __init__(self, model: bytes) -> None:
        import sentencepiece

        sentencepiece.set_min_log_level(2)
        self.model = model
        self.hash = hashlib.sha256(model).hexdigest()
        self._processor = processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.load_from_serialized_proto(model)
        except RuntimeError as error:
            raise InputError(f"not a SentencePiece model ({error})", hint="train the tokenizer again") from None
        self.vocabulary_size: int = processor.vocab_size()
        self.end_of_line: int = processor.eos_id()
        if self.end_of_line < 0 or not any(processor.is_byte(list(range(self.vocabulary_size)))):
            raise InputError(
                "the SentencePiece model lacks an end-of-sentence token or byte fallback",
                hint="train it with babelscale, whose settings are lossless",
            )
        self.dtype = np.dtype("<u2" if self.vocabulary_size <= 1 << 16 else "<u4")
        self._strings = self._token_strings()
        self.token_bytes = np.array([len(string) for string in self._strings], dtype=np.uint16)
        self._divisible = not any(_CROSSING.search(string) for string in self._strings)
        self._known: dict[str, bytes] = {}
        self._newline: int = processor.piece_to_id("<0x0A>")
        self._space_ids = [processor.piece_to_id(f"<0x{byte:02X}>") for byte in _SPACE.encode()]

    def _token_strings(self) -> list[bytes]:
        """The bytes every token stands for."""
        processor, ids = self._processor, list(range(self.vocabulary_size))
        pieces: list[str] = processor.id_to_piece(ids)
        strings = [piece.replace(_SPACE, " ").encode() for piece in pieces]
        for token, (is_byte, is_control, is_unknown) in enumerate(
            zip(processor.is_byte(ids), processor.is_control(ids), processor.is_unknown(ids), strict=True)
        ):
            if is_byte:
                strings[token] = bytes([int(pieces[token][3:5], 16)])
            elif is_control or is_unknown:
                strings[token] = b"\n" if token == self.end_of_line else b""
        return strings

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """The tokenizer that `train_tokenizer` left in a folder.

        Raises:
            InputError: the folder holds no tokenizer, or another than its record says.
        """
        return cls(_checked_model(folder)[0])

    def encode_lines(self, lines: Iterable[str]) -> NDArray[np.unsignedinteger]:
        """(tokens,) ids of the lines one after the other, the end-of-line token after each.

        Raises:
            InputError: a line holds a newline.
            BabelscaleError: the ids do not stand for exactly the bytes of the lines.
        """
        lines = list(lines)
        text = "\n".join([*lines, ""])
        if text.count("\n") != len(lines):
            number, line = next((number, line) for number, line in enumerate(lines) if "\n" in line)
            raise InputError(f"line {number} contains a newline: {line[:40]!r}", hint="split the text at its newlines")
        segments = _SEGMENT.findall(text) if self._divisible else _LINE.findall(text)
        known = self._known
        found = list(map(known.get, segments))
        if None in found:
            missing = list({segment for segment, ids in zip(segments, found, strict=True) if ids is None} - {"\n"})
            if len(known) + len(missing) > _MOST_KNOWN:
                known.clear()
                missing = list(set(segments) - {"\n"})
            known["\n"] = np.array([self.end_of_line], dtype=self.dtype).tobytes()
            known.update(zip(missing, self._encode(missing), strict=True))
            found = map(known.__getitem__, segments)
        ids = np.frombuffer(b"".join(found), dtype=self.dtype)  # pyright: ignore[reportCallIssue, reportArgumentType]
        size = len(text) if text.isascii() else len(text.encode())
        if int(self.token_bytes[ids].sum(dtype=np.int64)) != size:
            raise BabelscaleError(f"tokenizer {self.hash[:12]} does not give back the bytes of the text")
        return ids

    def _encode(self, segments: list[str]) -> list[bytes]:
        """The ids of each segment, as the bytes they take in an array."""
        # Some together, as a call costs as much as a word, parted by newlines: no token but the byte's own holds one.
        joined = ["\n".join([*segments[start : start + _AT_ONCE], ""]) for start in range(0, len(segments), _AT_ONCE)]
        # One thread: processes are what uses more cores, and whoever starts them counts them.
        encoded: list[list[int]] = self._processor.encode(joined, num_threads=1)
        ids = np.fromiter(itertools.chain.from_iterable(encoded), dtype=self.dtype)
        ends = np.flatnonzero(ids == self._newline)
        if len(ends) != len(segments):
            raise BabelscaleError(f"tokenizer {self.hash[:12]} has tokens that cross the end of a line")
        width, data = self.dtype.itemsize, ids.tobytes()
        starts = [0, *((ends + 1) * width).tolist()]
        parts = [data[start:end] for start, end in zip(starts, (ends * width).tolist(), strict=False)]
        for number, segment in enumerate(segments):
            if _SPACE in segment:
                parts[number] = np.array(self._encode_with_space_mark(segment), dtype=self.dtype).tobytes()
        return parts

    def _encode_with_space_mark(self, segment: str) -> list[int]:
        parts = self._processor.encode(segment.split(_SPACE), num_threads=1)
        ids = list(parts[0])
        for part in parts[1:]:
            ids += self._space_ids + part
        return ids

    def decode(self, tokens: ArrayLike) -> str:
        """The text of a stream of ids, newlines included; bytes that are no UTF-8 (a cut character) become U+FFFD."""
        return self.decode_bytes(tokens).decode("utf-8", errors="replace")

    def decode_bytes(self, tokens: ArrayLike) -> bytes:
        """The bytes that a stream of ids stands for."""
        return b"".join([self._strings[token] for token in np.asarray(tokens).ravel().tolist()])


def train_tokenizer(  # noqa: PLR0913 (the options of one public function)
    corpus: Corpus,
    languages: Iterable[str],
    vocabulary: int,
    folder: str | Path,
    *,
    temperature: float = 100.0,
    seed: int = 0,
    sample_bytes: int | None = None,
    character_coverage: float | None = None,
    progress: Progress | None = None,
) -> Tokenizer:
    """Train a tokenizer on a sample of the training text and keep it in `folder`.

    The sample gives each language a share proportional to its size^(1/temperature), as far as its text reaches. The
    same corpus, languages, vocabulary and seed give the same bytes, in whatever order the languages are named.

    Args:
        vocabulary: number of tokens, exactly; 256 of them are bytes and two are reserved.
        temperature: 1 samples languages by size, infinity evenly.
        sample_bytes: size of the sample; by default 1,000 bytes a token and at least 4 MB.
        character_coverage: share of the sample's characters whose kinds get a token each, whatever room they take
            (the study's is 0.999995); None covers 0.9995 in at most 30 % of the room.

    Raises:
        InputError: the text supports fewer tokens (the hint names how many), the vocabulary is too small for the
            characters or at all, the coverage lies outside (0, 1], the folder exists, or a language is not in the
            corpus.
    """
    languages = sorted(set(languages))
    corpus.require(*languages)
    if vocabulary <= _RESERVED + 1:
        raise InputError(f"vocabulary {vocabulary}: {_RESERVED} tokens are reserved", hint="use 300 or more")
    if character_coverage is not None and not 0 < character_coverage <= 1:
        raise InputError(f"character coverage {character_coverage} must be above 0 and at most 1")
    wanted = max(4_000_000, 1000 * vocabulary) if sample_bytes is None else sample_bytes
    quotas = _quotas({code: corpus.size(code) for code in languages}, wanted, temperature)
    report = progress or (lambda label, done, total: None)
    steps = len(languages) + 1
    sample: dict[str, list[str]] = {}
    for done, code in enumerate(languages):
        report(f"text for the tokenizer: {code}", done, steps)
        sample[code] = list(corpus.sample(code, quotas[code], seed))
    if not any(sample.values()):
        raise InputError(f"a tokenizer sample of {wanted:,} bytes has no complete line", hint="raise sample_bytes")
    report("training the tokenizer", len(languages), steps)
    facts = {
        "kind": "SentencePiece BPE with byte fallback",
        "vocabulary_size": vocabulary,
        "languages": languages,
        "corpus": corpus.fingerprint,
        "temperature": temperature,
        "seed": seed,
        "sample_bytes": {code: sum(len(line.encode()) + 1 for line in lines) for code, lines in sample.items()},
        "character_coverage": character_coverage,
        "sentencepiece": version("sentencepiece"),
    }
    lines = list(itertools.chain.from_iterable(sample.values()))
    tokenizer = _write(Path(folder), facts, lambda: Tokenizer(_train(lines, vocabulary, character_coverage)))
    report("training the tokenizer", steps, steps)
    return tokenizer


def _write(folder: Path, facts: Mapping[str, Any], make: Callable[[], Tokenizer]) -> Tokenizer:
    """Write a tokenizer and its record into a new folder, which is checked before the tokenizer is made."""
    with new_folder(folder) as partial:
        tokenizer = make()
        record = {"format": "babelscale tokenizer 1", **facts, "hash": tokenizer.hash}
        (partial / MODEL).write_bytes(tokenizer.model)
        (partial / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return tokenizer


def adopt_tokenizer(source: str | Path, folder: str | Path) -> Tokenizer:
    """Copy the tokenizer of a model, `tokenizer.model` in the folder `source`, to `folder`.

    Raises:
        InputError: there is none, it is no SentencePiece model, or it would lose some of the text.
    """
    path = Path(source) / MODEL
    try:
        tokenizer = Tokenizer(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", hint=f"give a folder with a {MODEL}") from None
    except InputError as error:
        raise InputError(f"{path}: {error.message}", hint=error.hint) from None
    kind = f"SentencePiece model of {Path(source).name}"
    facts = {"kind": kind, "vocabulary_size": tokenizer.vocabulary_size}
    return _write(Path(folder), facts, lambda: tokenizer)


def tokenizer_hash(folder: str | Path) -> str:
    """The hash of the tokenizer in a folder, for those who only name it: SentencePiece is not asked.

    Raises:
        InputError: as `Tokenizer.load`.
    """
    return _checked_model(folder)[1]


def _checked_model(folder: str | Path) -> tuple[bytes, str]:
    """The model in a folder and its hash, which is the one that its record says."""
    path = Path(folder) / MODEL
    if not path.is_file():
        raise InputError(f"{path}: no such file", hint="train the tokenizer first")
    model = path.read_bytes()
    found = hashlib.sha256(model).hexdigest()
    if read_model(path.with_name(RECORD), TokenizerRecord).hash != found:
        raise InputError(f"{path}: this is not the tokenizer that {RECORD} describes", hint="train the tokenizer again")
    return model, found


def _quotas(sizes: Mapping[str, int], total: float, temperature: float) -> dict[str, int]:
    """Bytes of each language: shares proportional to size^(1/T), what a small one lacks going to the others."""
    quotas: dict[str, int] = {}
    open_sizes = {code: size for code, size in sizes.items() if size > 0}
    while open_sizes:
        shares = mixture.temperature(open_sizes, temperature).shares
        short = {code for code, size in open_sizes.items() if size <= total * shares[code]}
        if not short:
            return quotas | {code: int(total * shares[code]) for code in open_sizes}
        quotas |= {code: open_sizes.pop(code) for code in short}
        total -= sum(quotas[code] for code in short)
    return quotas


def _train(lines: list[str], vocabulary: int, coverage: float | None) -> bytes:
    import sentencepiece

    sentences = list(_without_rare(lines, vocabulary - _RESERVED, coverage))
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences),
            model_writer=model,
            vocab_size=vocabulary,
            input_sentence_size=len(sentences) + 1,
            **_SETTINGS,
        )
    except RuntimeError as error:
        if feasible := re.search(r"Vocabulary size too high .* value <= (\d+)", str(error)):
            raise InputError(
                f"vocabulary {vocabulary}: the text supports at most {feasible[1]} tokens",
                hint=f"use {feasible[1]} or fewer, or give more text",
            ) from None
        raise BabelscaleError(f"SentencePiece could not train the tokenizer: {error}") from error
    return model.getvalue()


def _without_rare(lines: list[str], room: int, coverage: float | None) -> Iterator[str]:
    """Cut the lines at characters too rare for a token of their own; byte fallback spells those.

    Raises:
        InputError: the coverage asks for more characters than the room beyond the bytes.
    """
    counts = Counter[str]()
    for line in lines:
        counts.update(line)
    ordered = sorted(counts, key=lambda character: (-counts[character], character))
    covered = np.cumsum([counts[character] for character in ordered])
    share = _CHARACTER_COVERAGE if coverage is None else coverage
    enough = min(int(np.searchsorted(covered, share * covered[-1])) + 1, len(ordered)) if ordered else 0
    if coverage is None:
        enough = max(1, min(int(_CHARACTER_SHARE * room), enough))
    elif enough >= room:
        raise InputError(
            f"a character coverage of {coverage:g} takes {enough:,} tokens of the {room:,} beyond the bytes",
            hint="use a larger vocabulary or a lower coverage",
        )
    cut = dict.fromkeys(map(ord, ordered[enough:]), "\n")
    # SentencePiece keeps these three for itself and would skip a whole line for one of them.
    cut |= dict.fromkeys((0, ord(_SPACE), 0x2585), "\n")
    for line in lines:
        yield from filter(None, line.translate(cut).split("\n"))
