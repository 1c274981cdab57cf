"""Passages: a text that exists in many languages is divided among them, so that no passage is read in two of them.

Translations of one text (Bibles, parallel corpora) are the cleanest text for experiments on transfer: one domain, one
content. But if two languages train on the same passage, or one is tested on what another was trained on, a model can
carry content over where it seems to carry over language. So each passage is dealt to one language as training text, or
is held out in all of them.
"""

import contextlib
import json
import math
import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from babelscale import files
from babelscale import languages as known_languages
from babelscale.errors import InputError

# A translation numbers a book in a way of its own where more than this share of its passages have another number of
# verses than in most translations; none of the book is then dealt to it.
_RENUMBERED = 0.25
_VERSE = re.compile(r"[^.\s]+(\.[^.\s]+)+")

Verses = dict[str, str]


def is_verse_text(source: str | Path) -> bool:
    """Whether a source is one text in many languages: a tar archive, or a folder of `LANGUAGE.tsv` files."""
    path = Path(source)
    if path.is_dir():
        return any(file.stem in known_languages.table() for file in path.glob("*.tsv"))
    return path.is_file() and tarfile.is_tarfile(path)


@dataclass(frozen=True)
class Dealt:
    """Which passages became training text of which language, which are held out, and which nobody can take."""

    train: Mapping[str, tuple[str, ...]]
    held_out: tuple[str, ...]
    left_out: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{len(passages):>6} passages of training text  {code}" for code, passages in self.train.items()]
        lines.append(f"{len(self.held_out):>6} passages held out in every language that has them")
        if self.left_out:
            lines.append(f"{len(self.left_out):>6} left out, because no language numbers them as most languages do")
        return "\n".join(lines)


def deal_passages(
    source: str | Path,
    folder: str | Path,
    weights: Mapping[str, float],
    *,
    held_out_share: float = 0.025,
    seed: int = 0,
) -> Dealt:
    """Write `folder/train/LANGUAGE.txt` and `folder/valid/LANGUAGE.txt`, a verse a line, and `folder/passages.json`.

    Args:
        source: a folder of `LANGUAGE.tsv` files, or a tar archive with such files. A line is a verse: its identifier
            (`Gen.1.31`: book, chapter, verse), a tab, its text. A passage is what shares the identifier up to its last
            dot, a book what shares the first part.
        weights: languages, and their shares of the verses.
        held_out_share: share of the verses that is held out in all languages.
        seed: of the order in which passages are dealt.

    Verses count where translations number them alike: a language gets a passage only if it holds as many verses there
    as most languages do, and none of a book that it numbers in a way of its own. The passage of a verse is then the
    same in all languages. Held-out passages are those that all languages number alike.

    Raises:
        InputError: a language has no file, a line is no verse, or a language ends without training or held-out text.
    """
    if bad := [code for code, weight in weights.items() if not (math.isfinite(weight) and weight > 0)]:
        raise InputError(f"weight of {bad[0]!r} is {weights[bad[0]]}", hint="weights must be positive")
    if not 0 < held_out_share < 1:
        raise InputError(f"held-out share {held_out_share}", hint="it must be between 0 and 1")
    codes = known_languages.check(sorted(weights), "passages")
    with _opened(Path(source)) as place:
        texts = {code: _by_passage(_verses(place, code, Path(source))) for code in codes}
    dealt = _deal(texts, weights, held_out_share, seed)
    with files.new_folder(Path(folder)) as partial:
        for code, text in texts.items():
            for name, passages in (("train", dealt.train[code]), ("valid", dealt.held_out)):
                lines = "".join(f"{verse}\n" for passage in passages for verse in text.get(passage, ()))
                if not lines:
                    raise InputError(f"language {code!r}: no passage for {name}", hint="give it a larger weight")
                files.write_text(partial / name / f"{code}.txt", lines)
        facts = {"seed": seed, "held_out": dealt.held_out, "left_out": dealt.left_out, "train": dealt.train}
        files.write_text(partial / "passages.json", json.dumps(facts, indent=1, sort_keys=True) + "\n")
    return dealt


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[Path]:
    """The folder that holds the files; an archive is unpacked for as long."""
    if source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with tarfile.open(source) as archive:
                archive.extractall(scratch, filter="data")
        except (OSError, EOFError, tarfile.TarError) as error:
            raise InputError(
                f"{source}: neither a folder nor a whole tar archive ({error})",
                hint="give the folder of LANGUAGE.tsv files",
            ) from None
        found = sorted({path.parent for path in Path(scratch).rglob("*.tsv")})
        if len(found) != 1:
            raise InputError(
                f"{source}: there are {len(found)} folders with .tsv files in it", hint="unpack it and give one of them"
            )
        yield found[0]


def _verses(place: Path, code: str, source: Path) -> Verses:
    """A language's verses by identifier, in the order of the file."""
    path = place / f"{code}.tsv"
    if not path.is_file():
        held = ", ".join(sorted(path.stem for path in place.glob("*.tsv")))
        raise InputError(f"{source}: no file {path.name}", hint=f"it holds {held or 'no .tsv file'}")
    verses: Verses = {}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{source}: {path.name} is not UTF-8 ({error})", hint="convert it") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        name, tab, text = line.partition("\t")
        if not (tab and text.strip() and _VERSE.fullmatch(name)):
            raise InputError(f"{source}: {path.name}, line {number} is not a verse", hint="write Gen.1.31<TAB>text")
        if name in verses:
            raise InputError(f"{source}: {path.name}, line {number}: {name} occurs twice", hint="keep one")
        verses[name] = " ".join(text.split())
    return verses


def _by_passage(verses: Verses) -> dict[str, list[str]]:
    passages: dict[str, list[str]] = {}
    for name, text in verses.items():
        passages.setdefault(name.rpartition(".")[0], []).append(text)
    return passages


def _deal(
    texts: Mapping[str, Mapping[str, list[str]]], weights: Mapping[str, float], held_out_share: float, seed: int
) -> Dealt:
    counts: dict[str, dict[str, int]] = {}
    for code, passages in texts.items():
        for passage, verses in passages.items():
            counts.setdefault(passage, {})[code] = len(verses)
    usual = {passage: _most_common(held) for passage, held in counts.items()}
    takers = _takers(counts, usual)
    order = sorted(counts)
    np.random.default_rng(seed).shuffle(order)
    total = sum(usual.values())
    held_out: list[str] = []
    left = held_out_share * total
    for passage in order:
        if left > 0 and takers[passage] == counts[passage].keys():
            held_out.append(passage)
            left -= usual[passage]
    whole = math.fsum(weights.values())
    # Verses that a language should have by now, less those that it has: the neediest takes the next passage.
    owed = dict.fromkeys(sorted(weights), 0.0)
    train: dict[str, list[str]] = {code: [] for code in owed}
    left_out: list[str] = []
    for passage in [passage for passage in order if passage not in held_out]:
        able = [code for code in owed if code in takers[passage]]
        if not able:
            left_out.append(passage)
            continue
        for code in owed:
            owed[code] += usual[passage] * weights[code] / whole
        taker = max(able, key=lambda code: owed[code])
        owed[taker] -= usual[passage]
        train[taker].append(passage)
    return Dealt({code: tuple(passages) for code, passages in train.items()}, tuple(held_out), tuple(sorted(left_out)))


def _most_common(held: Mapping[str, int]) -> int:
    """The number of verses that most languages have; the smaller one of two as frequent."""
    return min(Counter(held.values()).items(), key=lambda item: (-item[1], item[0]))[0]


def _takers(counts: Mapping[str, Mapping[str, int]], usual: Mapping[str, int]) -> dict[str, set[str]]:
    """By passage: the languages in which it is known to hold the same verses as in most."""
    alike: dict[tuple[str, str], list[bool]] = {}
    for passage, held in counts.items():
        for code, number in held.items():
            alike.setdefault((passage.partition(".")[0], code), []).append(number == usual[passage])
    renumbered = {place for place, same in alike.items() if same.count(False) > _RENUMBERED * len(same)}
    return {
        passage: {
            code
            for code, number in held.items()
            if number == usual[passage] and (passage.partition(".")[0], code) not in renumbered
        }
        for passage, held in counts.items()
    }
