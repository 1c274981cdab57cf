"""Rebuild src/babelscale/languages.csv from the reference table of languages (facts only).

Usage: python tools/build_languages.py ../shared

Sources: codes, names, scripts and families from Glottolog 5.1 (CC BY 4.0) and CLDR 47; unique tokens from Table C.1 of
the ATLAS study (arXiv 2510.22037) for its six languages, otherwise estimated from the UTF-8 bytes of FineWeb-2
(ODC-BY 1.0): MADLAD-400 holds about 0.45 of them (log10 s.d. 0.40 over 132 small languages). The tokens of the 64k
vocabulary per MADLAD byte are unknown; `BYTES_PER_TOKEN` is the usual figure for one. An estimate, marked as such.

Autonyms: the display name that CLDR (Unicode License v3) gives a language in its own locale and the script of this
table, read out of Babel, which packages CLDR's data (`pip install babel`, an extra of `lab`); empty where CLDR has no
such locale, or its locale does not name the language itself. Nothing is translated, transliterated or capitalised here.
"""

import csv
import sys
from pathlib import Path

from babel import localedata
from babel.core import get_global

MADLAD_PER_FINEWEB2 = 0.45
BYTES_PER_TOKEN = 4.0
# Legacy and macro-language codes of the study's 50 languages and of MADLAD-400 that the table lists under another code.
PREFERRED = {
    "cmn": "zh",
    "arb": "ar",
    "zsm": "ms",
    "swh": "sw",
    "ekk": "et",
    "lvs": "lv",
    "npi": "ne",
    "ory": "or",
    "uzn": "uz",
    "pes": "fa",
    "khk": "mn",
    "als": "sq",
    "azj": "az",
    "gug": "gn",
    "hae": "om",
    "gaz": "om",
    "plt": "mg",
    "ydd": "yi",
    "kmr": "ku",
    "quz": "qu",
    "pbt": "ps",
    "ayr": "ay",
}
NAMES = {
    "zh": "Chinese",
    "ar": "Arabic",
    "ms": "Malay",
    "sw": "Swahili",
    "et": "Estonian",
    "lv": "Latvian",
    "ne": "Nepali",
    "or": "Odia",
    "uz": "Uzbek",
    "fa": "Persian",
    "mn": "Mongolian",
    "sq": "Albanian",
    "az": "Azerbaijani",
    "gn": "Guarani",
    "om": "Oromo",
    "mg": "Malagasy",
    "yi": "Yiddish",
    "ku": "Kurdish",
    "qu": "Quechua",
    "ps": "Pashto",
    "ay": "Aymara",
}
NORWEGIAN = {"code": "no", "name": "Norwegian", "script": "Latn", "like": "nb"}
# Languages that Glottolog files under another name than CLDR does; the branch is Glottolog's for their closest kin.
NORTH_GERMANIC = "Classical Indo-European > Germanic > Northwest Germanic > North Germanic"
SOUTH_SLAVIC = "Classical Indo-European > Balto-Slavic > Slavic > South Slavic"
PERSIAN = "Classical Indo-European > Indo-Iranian > Iranian > Southwestern Iranian > Middle-Modern Persian"
BRANCHES = {
    "no": NORTH_GERMANIC,
    "nb": NORTH_GERMANIC,
    "nn": NORTH_GERMANIC,
    "hr": SOUTH_SLAVIC,
    "sr": SOUTH_SLAVIC,
    "bs": SOUTH_SLAVIC,
    "fa": PERSIAN,
    "lv": "Classical Indo-European > Balto-Slavic > Eastern Baltic",
}
PLACES = {"fa": ("Eurasia", "32.9", "53.3")}


# CLDR keeps what Bokmål and Nynorsk share under the macro-language (its `parentLocales`).
INHERITED = {"nb": "no", "nn": "no"}
# Scripts of the table that CLDR files under the mixture, or the variant, in which they are written.
WRITTEN = {"ko": "Kore", "yue": "Hant"}


def autonym(code: str, script: str) -> str:
    """The language's name as its own locale in CLDR has it; a locale's parents, which may be of another language, are
    not asked."""
    script = WRITTEN.get(code, script)
    likely = get_global("likely_subtags").get(code, "").split("_")
    usual = likely[1] if len(likely) > 1 else None
    places = [f"{code}_{script}", *([code, INHERITED.get(code, code)] if usual in (script, None) else [])]
    for place in places:
        if localedata.exists(place):
            names = localedata.load(place, merge_inherited=False).get("languages", {})
            if isinstance(name := names.get(code), str):
                return name
    return ""


def main(shared: Path) -> None:
    with (shared / "languages" / "languages.csv").open(encoding="utf-8", newline="") as file:
        source = list(csv.DictReader(file))
    with (shared / "reference" / "table_c1_laws.csv").open(encoding="utf-8", newline="") as file:
        measured = {row["language"]: float(row["unique_tokens"]) for row in csv.DictReader(file)}
    best: dict[str, dict[str, str]] = {}
    for row in source:
        code = PREFERRED.get(row["bcp47"], row["bcp47"])
        if not code:
            continue
        size = float(row["fw2_utf8_bytes"] or 0)
        if code not in best or size > float(best[code]["fw2_utf8_bytes"] or 0):
            best[code] = row
    best[NORWEGIAN["code"]] = best[NORWEGIAN["like"]]
    out = Path(__file__).parents[1] / "src" / "babelscale" / "languages.csv"
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            [
                "code",
                "iso639_3",
                "name",
                "autonym",
                "script",
                "family",
                "branch",
                "macroarea",
                "latitude",
                "longitude",
                "unique_tokens",
                "unique_tokens_source",
            ]
        )
        for code in sorted(best):
            row = best[code]
            size = float(row["fw2_utf8_bytes"] or 0)
            if code in measured:
                tokens, origin = f"{measured[code]:.3g}", "ATLAS Table C.1"
            elif size:
                tokens = f"{size * MADLAD_PER_FINEWEB2 / BYTES_PER_TOKEN:.2g}"
                origin = "estimated from FineWeb-2 bytes"
            else:
                tokens, origin = "", ""
            name = NAMES.get(code, NORWEGIAN["name"] if code == "no" else row["name"])
            branch = row["branch"].split(" > ", 1)[1] if " > " in row["branch"] else BRANCHES.get(code, "")
            place = PLACES.get(code, (row["macroarea"], row["lat"], row["lon"]))
            script = {"Hani": "Hans"}.get(row["script"], row["script"]) if code == "zh" else row["script"]
            writer.writerow(
                [
                    code,
                    row["iso639_3"],
                    name,
                    autonym(code, script),
                    script,
                    row["family"],
                    branch,
                    *place,
                    tokens,
                    origin,
                ]
            )
    print(f"{out}: {len(best)} languages")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
