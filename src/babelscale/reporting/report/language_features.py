"""Features of a study's languages: those of the language table, and those that its text and its runs give."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from babelscale.errors import InputError
from babelscale.runs import Runs
from babelscale.transfer.adaptation import adaptation
from babelscale.transfer.relations import Relations


def language_features(folder: str | Path, languages: Sequence[str], runs: Runs | None = None) -> Relations:
    """Relations of some languages, from the language table and from what the folder of a study adds.

    Reading the overlaps of a token store needs the packages of the laboratory; without them they are left out.

    Args:
        folder: a study's; its token store gives overlaps and shares of the vocabulary.
        runs: give adaptation scores, if some of them continue a model of several languages.
    """
    folder = Path(folder)
    found = Relations.of(languages)
    stored = (folder / "corpus" / "store.json").exists() and (folder / "tokenizer").exists()
    if stored and find_spec("sentencepiece") is not None:
        from babelscale.corpora import Tokenizer, TokenStore
        from babelscale.corpora.overlap import overlap

        store = TokenStore.open(folder / "corpus")
        codes = [code for code in languages if code in store.languages]
        pairs, traits = overlap(store, Tokenizer.load(folder / "tokenizer"), codes).features()
        found = found.joined(Relations.of(codes, pairs=pairs, traits=traits))
    if runs is not None:
        try:
            scores = adaptation(runs)
        except InputError:
            return found  # no run continues another
        pairs, traits = scores.features()
        found = found.joined(Relations.of(scores.languages, pairs=pairs, traits=traits))
    return found
