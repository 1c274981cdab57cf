"""Which corpus a design names. The sources are imported when one of them is asked for."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from babelscale.corpora.corpus import Corpus, CorpusSettings

PHRASEBOOK, MADLAD = "phrasebook", "madlad-400"


def open_corpus(
    spec: str | Path,
    *,
    languages: Iterable[str] | None = None,
    bytes_per_language: int | Mapping[str, int] | None = None,
    held_out_share: float | None = None,
    held_out_tokens: int | None = None,
    seed: int = 0,
) -> Corpus:
    """The corpus a design names: "phrasebook", "madlad-400", or a folder of text.

    Args:
        spec: "phrasebook"; "madlad-400" (the clean part, from the Hugging Face hub), "madlad-400:noisy", and either
            followed by "@LOCATION" for a mirror or a copy of the hub's layout ("madlad-400:noisy@s3://mine/madlad");
            or a folder, a path or a location of fsspec's (see `folder.FolderCorpus` for what may stand in it;
            "./phrasebook" for one of that name).
        languages: codes wanted; None takes all there are.
        bytes_per_language: at most so many UTF-8 bytes of each language; the phrasebook's default is 1 MB.
        held_out_share: share of the documents kept from training; by default 5 %, for MADLAD-400 20 %.
        held_out_tokens: at most so many tokens of a language are held out; by default without a bound, for MADLAD-400
            20 million.
        seed: key of the split, and for the phrasebook of the text.

    Raises:
        InputError: names the file or the code that cannot be used, and what to do.
    """
    settings: CorpusSettings = {"bytes_per_language": bytes_per_language, "seed": seed}
    if held_out_share is not None:
        settings["held_out_share"] = held_out_share
    if held_out_tokens is not None:
        settings["held_out_tokens"] = held_out_tokens
    if spec == PHRASEBOOK:
        from babelscale.corpora.phrasebook import LANGUAGES, Phrasebook

        return Phrasebook(LANGUAGES if languages is None else languages, **settings)
    name, at, place = str(spec).partition("@")
    if name.partition(":")[0] == MADLAD and (at or name == str(spec)):
        from babelscale.corpora.madlad import Madlad400

        return Madlad400(name.partition(":")[2] or "clean", place or None, languages, **settings)
    from babelscale.corpora.folder import FolderCorpus

    return FolderCorpus(spec, languages, **settings)
