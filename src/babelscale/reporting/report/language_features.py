"""Features of a study's languages: the table's, and what its text and its continued runs tell."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from babelscale.errors import InputError
from babelscale.runs import Runs
from babelscale.transfer.adaptation import adaptation
from babelscale.transfer.relations import Relations


def language_features(folder: str | Path, languages: Sequence[str], runs: Runs | None = None) -> Relations:
    """Relations of some languages, as far as a study's folder tells them; of a bare folder of runs, the table's alone.

    A store's overlaps take the laboratory to read; without it they are left out, as they are for a bare folder.

    Args:
        folder: a study's; its token store tells overlaps and shares of the vocabulary.
        runs: theirs tell adaptation scores, where some continue a model of several languages.
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
            # No run continues another: there is nothing to add.
            return found
        pairs, traits = scores.features()
        found = found.joined(Relations.of(scores.languages, pairs=pairs, traits=traits))
    return found
