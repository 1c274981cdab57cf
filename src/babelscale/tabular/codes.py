"""Codes of languages as other tools write them: FLORES, ISO 639-3, MADLAD-400, legacy codes and English names."""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from babelscale import languages

# Codes that ISO 639 or BCP 47 replaced, and codes of web corpora, with the code of today.
_REPLACED = {"iw": "he", "in": "id", "ji": "yi", "mo": "ro", "sh": "sr-Latn", "jw": "jv"}
# Macro-languages whose code is used for the text of all their members.
_WHOLE_MACROS = ("no", "sh")
FLORES = re.compile(r"([a-z]{2,3})_([A-Z][a-z]{3})")


@dataclass(frozen=True)
class Translation:
    """What a code became, and why; `code` is None where nothing is known of it."""

    written: str
    code: str | None
    why: str = ""


def translate(written: str) -> Translation:
    """The code of this package for a code or name as another tool writes it.

    A code that the package knows, or that is private (`und`, `x-law`), stays as it is. A well-formed code that nobody
    knows stays too, since a table may hold languages that the package has no facts of.
    """
    known = languages.table()
    if written in known or (languages.is_well_formed(written) and languages.is_private(written)):
        return Translation(written, written)
    replaced = _REPLACED.get(written.rstrip("*").lower())
    if replaced:
        return Translation(written, replaced, "legacy code")
    if flores := FLORES.fullmatch(written):
        return Translation(written, _of_parts(flores[1], flores[2]), "FLORES code")
    bare = written.rstrip("*").replace("_", "-")
    if bare in known:
        return Translation(written, bare, "other spelling")
    cased = _usual_case(bare)
    first, _, rest = cased.partition("-")
    if languages.is_well_formed(cased):
        short = _short(first)
        if short in known:
            code = f"{short}-{rest}" if rest else short
            why = "other spelling" if short == first else "ISO 639-3 code"
            return Translation(written, code, "" if code == written else why)
    named = _by_name().get(written.strip().lower())
    if named:
        return Translation(written, named, "language name")
    return Translation(written, written if languages.is_well_formed(written) else None)


def _usual_case(code: str) -> str:
    """The case of BCP 47: language in small letters, script with one capital, region in capitals."""
    first, *rest = code.split("-")
    return "-".join([first.lower(), *(part.title() if len(part) == 4 else part.upper() for part in rest)])


def _of_parts(code: str, script: str) -> str:
    """A language and its script; the script is left out where it is the usual one of the language."""
    short = _short(code)
    found = languages.table().get(short)
    return short if found is not None and found.script == script else f"{short}-{script}"


def _short(code: str) -> str:
    """The code of this package for an ISO 639 code; the code itself where there is none."""
    import langcodes

    if code in languages.table():
        return code
    usual = langcodes.standardize_tag(code) if langcodes.tag_is_valid(code) else code
    return usual if usual in languages.table() else _by_iso().get(code, code)


@functools.cache
def _by_iso() -> dict[str, str]:
    """ISO 639-3 code -> code of this package, where one language has it."""
    found: dict[str, str] = {}
    for row in languages.rows():
        if row["iso639_3"] and "-" not in row["code"]:
            found.setdefault(row["iso639_3"], row["code"])
    return found


@functools.cache
def _by_name() -> dict[str, str]:
    names: dict[str, set[str]] = {}
    for language in languages.table().values():
        names.setdefault(language.name.lower(), set()).add(language.code)
    return {name: next(iter(codes)) for name, codes in names.items() if len(codes) == 1}


def members_beside_macro(codes: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs (macro-language, member of it) that both stand among the codes and share text, such as (no, nb).

    In practice `zh` is Mandarin and `ar` is Standard Arabic, so that these do not count beside yue or arz.
    """
    from langcodes.data_dicts import MACROLANGUAGES

    present, known, iso = set(codes), languages.table(), _iso_codes()
    found = []
    for code in sorted(present):
        macro = MACROLANGUAGES.get(code, "")
        alone = macro in known and code in known and iso[macro] != iso[code] and macro not in _WHOLE_MACROS
        if macro in present and not alone:
            found.append((macro, code))
    return found


@functools.cache
def _iso_codes() -> dict[str, str]:
    """ISO 639-3 codes by language code; each may be empty."""
    return {row["code"]: row["iso639_3"] for row in languages.rows()}
