"""Language: what is known of a language before any run. Codes are BCP-47 and looked up strictly.

The table `languages.csv` holds facts from Glottolog, CLDR, FineWeb-2 and the ATLAS study; `tools/build_languages.py`
says how each column came about. Python's csv keeps `nan`, `no` and `NA` as text, which is why nothing else reads it.
"""

import csv
import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from types import MappingProxyType

from babelscale.errors import InputError

UNDETERMINED = "und"
_SCRIPT_OF = re.compile(r"([a-z]{2,3})-([A-Z][a-z]{3})")
_WELL_FORMED = re.compile(r"(?:[A-Za-z]{2,8}|[xX])(?:-[A-Za-z0-9]{1,8})*")


@dataclass(frozen=True)
class Language:
    """One language.

    `branch` runs from the broadest subgroup under `family` to the narrowest. `unique_tokens` is U, the unique tokens
    available in a web corpus of MADLAD-400's kind under a 64k vocabulary, or None where nobody measured;
    `unique_tokens_source` says where the figure comes from, and whether it is an estimate. `autonym` is its name in
    itself and the script of this table, "" where CLDR has none.
    """

    code: str
    name: str
    script: str
    family: str
    branch: tuple[str, ...]
    latitude: float | None
    longitude: float | None
    unique_tokens: float | None
    unique_tokens_source: str
    autonym: str = ""


def _language(row: dict[str, str]) -> Language:
    number = {key: float(row[key]) if row[key] else None for key in ("latitude", "longitude", "unique_tokens")}
    return Language(
        code=row["code"],
        name=row["name"],
        script=row["script"],
        family=row["family"],
        branch=tuple(part for part in row["branch"].split(" > ") if part),
        unique_tokens_source=row["unique_tokens_source"],
        autonym=row["autonym"],
        **number,
    )


def rows() -> list[dict[str, str]]:
    """The rows of `languages.csv`, every cell as text."""
    text = resources.files("babelscale").joinpath("languages.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@functools.cache
def table() -> Mapping[str, Language]:
    """Every known language by code."""
    return MappingProxyType({row["code"]: _language(row) for row in rows()})


def is_well_formed(code: object) -> bool:
    """Whether a code has the shape of a BCP-47 tag; run tables ask for no more than that."""
    return isinstance(code, str) and _WELL_FORMED.fullmatch(code) is not None


def is_private(code: str) -> bool:
    """`und` and `x-anything` name data that is no one language."""
    return code == UNDETERMINED or code.lower().startswith("x-")


@functools.cache
def lookup(code: str) -> Language:
    """The language of a code, strictly.

    Raises:
        InputError: the code is unknown; the hint names the usual code or the closest known ones.
    """
    if is_private(code) and is_well_formed(code):
        return Language(code, code, "Zyyy", "", (), None, None, None, "")
    found = table().get(code)
    if found is not None:
        return found
    whole = table().get(in_script_of(code) or "")
    if whole is None:
        raise InputError(f"unknown language code {code!r}", hint=_suggestion(code))
    script = code.partition("-")[2]
    return replace(
        whole,
        code=code,
        name=f"{whole.name} in {script}",
        script=script,
        unique_tokens=None,
        unique_tokens_source="",
        autonym=whole.autonym if script == whole.script else "",
    )


def in_script_of(code: str) -> str | None:
    """The known language of which a code names one script (`sr` of `sr-Latn`); None for other codes.

    Such a code is a language of its own beside the others. The table has one entry for all scripts, and so no unique
    tokens of one of them.
    """
    parts = _SCRIPT_OF.fullmatch(code)
    if code in table() or parts is None or parts[1] not in table():
        return None
    import langcodes

    return parts[1] if langcodes.tag_is_valid(code) else None


def check(codes: Iterable[str], where: str) -> tuple[str, ...]:
    """Look up every code; an error names `where` it stood."""
    checked = []
    for code in codes:
        try:
            checked.append(lookup(code).code)
        except InputError as error:
            raise InputError(f"{where}: {error.message}", hint=error.hint) from None
    return tuple(checked)


def _suggestion(code: str) -> str:
    import langcodes

    known = table()
    usual = langcodes.standardize_tag(code, macro=True) if langcodes.tag_is_valid(code) else ""
    for candidate in (usual, usual.split("-")[0], code.lower()):
        if candidate in known:
            return f"write {candidate!r} ({known[candidate].name})"
    by_name = {language.name.lower(): language.code for language in known.values()}
    if code.lower() in by_name:
        return f"write {by_name[code.lower()]!r}"
    close = difflib.get_close_matches(code, known, n=3, cutoff=0.6)
    near = f"did you mean {', '.join(close)}? " if close else ""
    return f"{near}codes are BCP-47, such as sw or fil; data that is no language takes x-NAME"
