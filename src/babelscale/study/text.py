"""The text of a study: where it comes from, its tokenizer, and the batches that a run reads of it; without JAX."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from babelscale.corpora import (
    Corpus,
    Dealt,
    TokenStore,
    adopt_tokenizer,
    deal_passages,
    is_verse_text,
    open_corpus,
    tokenizer_hash,
    train_tokenizer,
)
from babelscale.corpora.tokenizer import Progress
from babelscale.errors import InputError
from babelscale.study.design import Design, PassagesPart
from babelscale.study.spec import RunSpec
from babelscale.training.batches import Batches


def batches(spec: RunSpec, store: TokenStore) -> Batches:
    """The batches of a run.

    Args:
        store: of the run's text, which `Study.text` places.

    Raises:
        InputError: a language has fewer tokens than the run asks for.
    """
    return Batches(
        {code: _cut(store.train(code), code, spec.unique_tokens) for code in spec.languages},
        spec.mixture,
        spec.seed,
        spec.recipe.batch_size,
        spec.recipe.sequence_length,
        spec.then,
    )


def _cut(tokens: NDArray[Any], code: str, unique_tokens: int | None) -> NDArray[Any]:
    """The first tokens of a language's training text, and the one after them, which is only predicted."""
    if unique_tokens is None:
        return tokens
    if len(tokens) <= unique_tokens:
        raise InputError(
            f"language {code!r} has {len(tokens)} training tokens, and the run asks for the first {unique_tokens}",
            hint="lower unique_tokens of its group, or give the language more text",
        )
    return tokens[: unique_tokens + 1]


def corpus(design: Design, folder: Path, languages: Sequence[str]) -> Corpus:
    """The corpus of a design; one text in many languages is first dealt out to them, into `folder/text`.

    Raises:
        InputError: there is no such text, or it lacks a language.
    """
    part = design.corpus
    source = part.source
    if part.passages is not None and is_verse_text(source):
        if not (folder / "text").exists():
            folder.mkdir(parents=True, exist_ok=True)
            deal(design, source, folder / "text")
        source = str(folder / "text")
    elif part.passages is not None and "://" not in source and not Path(source).exists():
        raise InputError(
            f"design {design.name} needs a text: {source} is not there",
            hint="give --corpus: a text in many languages (LANGUAGE.tsv files of verses, or a tar archive of them; see "
            "docs/designs.md), or a folder of text",
        )
    return open_corpus(
        source,
        languages=languages,
        bytes_per_language=part.bytes_per_language,
        held_out_share=part.held_out_share,
        held_out_tokens=part.held_out_tokens,
        seed=part.seed,
    )


def deal(design: Design, source: str | Path, folder: str | Path) -> Dealt:
    """Deal the passages of one text in many languages out to a design's languages (see `deal_passages`).

    Raises:
        InputError: the source is no such text, or a language of the design ends without text.
    """
    part = design.corpus.passages or PassagesPart()
    weights = {code: part.weights.get(code, 1.0) for code in design.languages}
    return deal_passages(source, folder, weights, held_out_share=part.held_out_share, seed=part.seed)


def make_tokenizer(
    design: Design, corpus: Corpus, languages: Sequence[str], place: Path, progress: Progress | None
) -> None:
    """Train a design's tokenizer on some of its languages, or adopt the one that the design names, into `place`.

    Raises:
        InputError: the named tokenizer is larger than the design's vocabulary, or the text is too little for one.
    """
    part = design.tokenizer
    if part.source is not None:
        tokenizer = adopt_tokenizer(part.source, place)
        if tokenizer.vocabulary_size > part.vocabulary:
            raise InputError(
                f"tokenizer {part.source} has {tokenizer.vocabulary_size:,} tokens, the design's vocabulary is "
                f"{part.vocabulary:,}",
                hint="give the design the model's own vocabulary",
            )
        return
    train_tokenizer(
        corpus,
        languages,
        part.vocabulary,
        place,
        temperature=part.temperature,
        character_coverage=part.character_coverage,
        seed=design.corpus.seed,
        progress=progress,
    )


def check(design: Design, place: Path, languages: Sequence[str]) -> None:
    """Raise InputError unless the token store in a folder serves the design: languages, lengths, vocabulary."""
    pairs = [(size, group) for group in design.groups for size in group.sizes]
    longest = max(design.training_recipe(*pair).sequence_length for pair in pairs)
    store = TokenStore.open(place / "corpus")
    store.require(languages, longest + 1, longest + 1)
    if store.vocabulary_size > design.tokenizer.vocabulary:
        raise InputError(
            f"{place}: the text is tokenised with {store.vocabulary_size:,} tokens, the design's vocabulary is "
            f"{design.tokenizer.vocabulary:,}",
            hint="name another folder with --out",
        )


def hashes(place: Path) -> tuple[TokenStore, str, str]:
    """The token store of a folder, and the hashes of its text and of its tokenizer."""
    store = TokenStore.open(place / "corpus")
    corpus = store.corpus_fingerprint
    if store.record.parallel is not None:
        # Lines of the parallel set are left out of training.
        corpus = hashlib.sha256(f"{corpus} {store.record.parallel}".encode()).hexdigest()
    return store, corpus, tokenizer_hash(place / "tokenizer")
