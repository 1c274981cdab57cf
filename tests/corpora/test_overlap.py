"""Overlap of languages' text: related ones share more, scripts share little, and what a language gets of the pieces."""

import numpy as np
import pytest

from babelscale.corpora import build_store, open_corpus, train_tokenizer
from babelscale.corpora.overlap import Overlap, overlap
from babelscale.errors import InputError

CODES = ("da", "nb", "fi", "ru")


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> Overlap:
    folder = tmp_path_factory.mktemp("text")
    words = {
        "da": "jeg er ikke hjemme i dag og det regner",
        "nb": "jeg er ikke hjemme i dag og det regner mye",
        "fi": "minä en ole kotona tänään ja sataa vettä",
        "ru": "меня сегодня нет дома и идёт дождь",
    }
    rng = np.random.default_rng(0)
    for code, text in words.items():
        lines = {" ".join(rng.permutation(text.split())) for _ in range(1500)}
        (folder / f"{code.replace('nb', 'no')}.txt").write_text("\n".join(sorted(lines)), encoding="utf-8")
    codes = ("da", "fi", "no", "ru")
    corpus = open_corpus(str(folder), languages=codes)
    made = tmp_path_factory.mktemp("made")
    tokenizer = train_tokenizer(corpus, codes, 400, made / "tokenizer")
    return overlap(build_store(corpus, tokenizer, codes, made / "store"), tokenizer)


def test_relatives_share_pieces_and_characters(found: Overlap):
    da, fi, no, ru = (found.languages.index(code) for code in ("da", "fi", "no", "ru"))
    for grid in (found.pieces, found.characters):
        np.testing.assert_allclose(grid, grid.T)
        np.testing.assert_allclose(np.diag(grid), 1)
        assert (grid >= 0).all()
        assert grid[da, no] > 0.8
        assert max(grid[da, fi], grid[da, ru]) < 0.5


def test_shares_of_the_vocabulary(found: Overlap):
    assert ((found.vocabulary_share > 0) & (found.vocabulary_share < 1)).all()
    assert (found.characters_per_token >= 1).all()
    pairs, traits = found.features()
    assert set(pairs) == {"shared pieces", "shared characters"}
    np.testing.assert_allclose(np.exp(traits["vocabulary share"]), found.vocabulary_share)


def test_a_language_without_text_is_refused(found: Overlap, tmp_path):
    corpus = open_corpus("phrasebook", languages=["sv"], bytes_per_language=40_000)
    tokenizer = train_tokenizer(corpus, ["sv"], 400, tmp_path / "t")
    store = build_store(corpus, tokenizer, ["sv"], tmp_path / "s")
    with pytest.raises(InputError, match="has no 'sw'"):
        overlap(store, tokenizer, ["sw"])
