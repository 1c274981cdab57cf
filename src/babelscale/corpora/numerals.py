"""Number words by num2words, where it has the language."""

from num2words import CONVERTER_CLASSES, num2words

# num2words falls back on the first two letters of a code (fil would be counted in Finnish), so only exact names count.
_NAMES = {"kk": "kz"}
_MOST = 1200


def words(language: str) -> dict[int, str]:
    """Number -> its words; empty where num2words lacks the language."""
    name = _NAMES.get(language, language)
    if name not in CONVERTER_CLASSES:
        return {}
    found = {}
    for number in (*range(_MOST), *range(_MOST, 10_000, 37), *range(10_000, 1_000_000, 7_919)):
        try:
            found[number] = " ".join(num2words(number, lang=name).split())
        except TypeError:  # Amharic beyond a thousand (num2words 0.5.14)
            continue
    return found
