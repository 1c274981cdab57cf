"""What CLDR says of a language, read out of Babel into plain tables that are quick to compose from.

Babel resolves the aliases of its data in place, inside parts that languages share: which language was opened first
can then change what another one says. So the data are read afresh here and aliases are resolved without writing.
"""

import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from babel import localedata
from babel.core import get_global

Forms = Mapping[str, str]  # plural category -> pattern or name
Moment = tuple[int, int, int, int, int, int]  # year, month, day, weekday (Monday 0), hour, minute
_YEAR, _MONTH, _DAY, _WEEKDAY, _HOUR, _MINUTE = range(6)
Template = tuple[str | tuple[int, Mapping[int, str]], ...]

# The numbering systems that CLDR makes the default somewhere, by their digit zero (CLDR numberingSystems.xml).
_ZEROS = {"latn": "0", "arab": "٠", "arabext": "۰", "beng": "০", "deva": "०", "mymr": "၀", "adlm": "\U0001e950"}
_LATIN_DIGITS = "0123456789"
_FIELD = re.compile(r"'((?:[^']|'')*)'|(([A-Za-z])\3*)|([^A-Za-z']+)")
_NO_LANGUAGE = ("mis", "mul", "und", "zxx")
_NO_TERRITORY = ("QO", "XA", "XB", "ZZ")
_ZONES_WITHOUT_CITY = ("Etc/", "SystemV/", "US/", "Canada/", "Brazil/", "Chile/", "Mexico/")


@dataclass(frozen=True)
class Unit:
    """A unit of measurement: its name, its forms by plural category, and "per unit" where CLDR has it."""

    name: str
    forms: Forms
    per: str | None


@dataclass(frozen=True)
class Zone:
    """A time zone: its city, the territory it lies in, and the long name of its time."""

    city: str
    territory: str
    time: str | None


@dataclass(frozen=True)
class Cldr:
    """One language's names and patterns; `{0}` and `{1}` are the holes of a pattern."""

    territories: Mapping[str, str]
    languages: Mapping[str, str]
    scripts: Mapping[str, str]
    currencies: Mapping[str, str]
    currency_forms: Mapping[str, Forms]
    money: Forms
    units: Mapping[str, Unit]
    zones: Mapping[str, Zone]
    zone_region: str
    zone_place: str
    relative: tuple[Forms, ...]
    dates: tuple[Template, ...]
    short_dates: tuple[Template, ...]
    times: tuple[Template, ...]
    date_time: str
    span: str
    lists: tuple[Mapping[str, str], ...]
    large: tuple[tuple[int, Forms], ...]
    percent: str
    digits: Mapping[int, str]
    group: str
    decimal: str
    groups: tuple[int, int]
    plural: Callable[[Any], str]


def read(code: str) -> Cldr:
    """The tables of a language that Babel has."""
    localedata._cache.clear()  # pyright: ignore[reportPrivateUsage]
    base = localedata.load(code)

    def get(*keys: Any) -> Any:
        return _resolve(_walk(base, keys), base)

    system = base["default_numbering_system"]
    digits = {ord(a): chr(ord(_ZEROS[system]) + i) for i, a in enumerate(_LATIN_DIGITS)} if system != "latn" else {}
    symbols = get("number_symbols", "latn") | get("number_symbols", system)
    compact = get("compact_decimal_formats")
    fields = _field_tables(get, digits)
    dates, short_dates, times = _templates(get, fields)
    patterns = get("list_patterns")
    languages = {key: name for key, name in get("languages").items() if "_" not in key and key not in _NO_LANGUAGE}
    currencies = {key: name for key, name in get("currency_names").items() if key != "XXX"}
    plurals = get("currency_names_plural")
    return Cldr(
        territories={key: name for key, name in get("territories").items() if key not in _NO_TERRITORY},
        languages=languages,
        scripts=get("scripts"),
        currencies=currencies,
        currency_forms={key: {"other": name} | plurals.get(key, {}) for key, name in currencies.items()},
        money=get("currency_unit_patterns"),
        units=_units(get),
        zones=_zones(get),
        zone_region=get("zone_formats", "region").replace("%s", "{0}"),
        zone_place=get("zone_formats", "fallback").replace("%(1)s", "{1}").replace("%(0)s", "{0}"),
        relative=_relative(get("date_fields")),
        dates=dates,
        short_dates=short_dates,
        times=times,
        date_time=_unquoted(get("datetime_formats", "long")),
        span=get("interval_formats", None),
        lists=tuple(patterns["standard"] | patterns.get(kind, {}) for kind in ("standard", "or")),
        large=_large(compact.get("long") or compact["short"]),
        percent=_number_frame(get("percent_formats", None).pattern).replace("%", symbols["percentSign"]),
        digits=digits,
        group=symbols["group"],
        decimal=symbols["decimal"],
        groups=get("decimal_formats", None).grouping,
        plural=base["plural_form"],
    )


def official_languages() -> dict[str, list[tuple[str, float]]]:
    """Territory -> its languages with the share of people who speak them, most spoken first."""
    spoken = {}
    for territory, found in get_global("territory_languages").items():
        shares = [(code.split("_")[0], facts["population_percent"]) for code, facts in found.items()]
        spoken[territory] = sorted(shares, key=lambda share: (-share[1], share[0]))[:6]
    return spoken


def current_currencies() -> dict[str, str]:
    """Territory -> the currency it uses now."""
    current = {}
    for territory, found in get_global("territory_currencies").items():
        if codes := [code for code, _, end, tender in found if end is None and tender]:
            current[territory] = codes[0]
    return current


def usual_scripts() -> dict[str, str]:
    """Language -> the script it is usually written in."""
    return {code: tag.split("_")[1] for code, tag in get_global("likely_subtags").items() if "_" not in code}


def moment(ordinal: int, minutes: int) -> Moment:
    """The moment so many minutes into the day with a proleptic Gregorian ordinal."""
    day = datetime.date.fromordinal(ordinal)
    return day.year, day.month, day.day, day.weekday(), minutes // 60, minutes % 60


def fill(template: Template, when: Moment) -> str:
    """Write a moment by a date or time pattern."""
    return "".join([part if isinstance(part, str) else part[1][when[part[0]]] for part in template])


def _walk(base: Mapping[Any, Any], keys: tuple[Any, ...]) -> Any:
    node: Any = base
    for key in keys:
        node = _shallow(node, base)[key]
    return node


def _shallow(node: Any, base: Mapping[Any, Any]) -> Any:
    """Follow an alias, or lay a partial table over one, at this level only."""
    if isinstance(node, localedata.Alias):
        return _shallow(_walk(base, node.keys), base)
    if isinstance(node, tuple):
        alias, own = node
        return _over(_resolve(alias, base), _resolve(own, base))
    return node


def _resolve(node: Any, base: Mapping[Any, Any]) -> Any:
    node = _shallow(node, base)
    return {key: _resolve(value, base) for key, value in node.items()} if isinstance(node, dict) else node


def _over(below: dict[Any, Any], above: dict[Any, Any]) -> dict[Any, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _over(merged[key], value) if both else value
    return merged


def _units(get: Callable[..., Any]) -> dict[str, Unit]:
    names = get("unit_display_names")
    units = {}
    for key, widths in get("unit_patterns").items():
        for width in ("long", "short"):
            forms = {kind: text for kind, text in widths.get(width, {}).items() if "{0}" in text}
            per = forms.pop("per", None)
            if "other" in forms:
                units[key] = Unit(names.get(key, {}).get(width, ""), forms, per)
                break
    return units


def _zones(get: Callable[..., Any]) -> dict[str, Zone]:
    names, times = get("time_zones"), get("meta_zones")
    groups = get_global("meta_zones")
    zones = {}
    for zone, territory in sorted(get_global("zone_territories").items()):
        if zone.startswith(_ZONES_WITHOUT_CITY) or "/" not in zone:
            continue
        city = names.get(zone, {}).get("city") or zone.rsplit("/", 1)[1].replace("_", " ")
        long = times.get(groups.get(zone, ""), {}).get("long", {})
        zones[zone] = Zone(city, territory, long.get("generic") or long.get("standard"))
    return zones


def _relative(fields: Mapping[str, Any]) -> tuple[Forms, ...]:
    found: list[Forms] = []
    for name in sorted(fields):
        for way in ("past", "future"):
            forms = fields[name].get(way, {})
            if "{0}" in forms.get("other", "") and forms not in found:
                found.append({kind: text for kind, text in forms.items() if "{0}" in text})
    return tuple(found)


def _large(compact: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[int, Forms], ...]:
    """(digits shown, pattern by plural category) of rounded large numbers, such as "{0} million"."""
    large = []
    for size in sorted(compact["other"], key=int):
        forms = {}
        for kind, patterns in compact.items():
            if size in patterns and (text := patterns[size].pattern.split(";")[0]).count("0"):
                forms[kind] = (text.count("0"), _number_frame(text))
        if "other" in forms and len(forms["other"][1]) > len("{0}"):
            shown = forms["other"][0]
            large.append((shown, {kind: text for kind, (zeros, text) in forms.items() if zeros == shown}))
    return tuple(large)


def _number_frame(pattern: str) -> str:
    """A number pattern with a hole for the number."""
    return _unquoted(re.sub(r"[#0,.]*0[#0,.]*", "{0}", pattern.split(";")[0], count=1))


def _unquoted(pattern: str) -> str:
    return re.sub(r"'([^']*)'", lambda found: found[1] or "'", pattern)


def _templates(
    get: Callable[..., Any], fields: Mapping[str, tuple[int, Mapping[int, str]]]
) -> tuple[tuple[Template, ...], tuple[Template, ...], tuple[Template, ...]]:
    """Patterns of whole dates, of parts of dates, and of times; those with a field unknown here are left out."""
    skeletons = get("datetime_skeletons")
    whole = [get("date_formats", width).pattern for width in ("full", "long", "medium")]
    whole += [skeletons[key].pattern for key in ("yMMMMEEEEd", "yMMMEd", "yMMMMd") if key in skeletons]
    part = [skeletons[key].pattern for key in ("MMMMd", "yMMMM", "MMMMEEEEd", "MMMEd", "yQQQQ") if key in skeletons]
    time = [get("time_formats", "short").pattern]
    time += [skeletons[key].pattern for key in ("Bhm", "Hm", "hm", "EHm", "Ehm") if key in skeletons]
    made = [
        tuple(template for text in dict.fromkeys(texts) if (template := _template(text, fields)))
        for texts in (whole, part, time)
    ]
    return made[0], made[1] or made[0], made[2]


def _template(pattern: str, fields: Mapping[str, tuple[int, Mapping[int, str]]]) -> Template | None:
    parts: list[Any] = []
    for found in _FIELD.finditer(pattern):
        quoted, field, _, literal = found.groups()
        if field is None:
            parts.append(literal if quoted is None else quoted or "'")
        elif field in fields:
            parts.append(fields[field])
        else:
            return None
    return tuple(parts)


def _field_tables(get: Callable[..., Any], digits: Mapping[int, str]) -> dict[str, tuple[int, Mapping[int, str]]]:
    """Date field of CLDR (its letters) -> which part of a moment it writes, and how."""
    table: dict[str, tuple[int, Mapping[int, str]]] = {}
    widths = {3: "abbreviated", 4: "wide"}
    for letter, where, key, part in (
        ("M", "format", "months", _MONTH),
        ("L", "stand-alone", "months", _MONTH),
        ("E", "format", "days", _WEEKDAY),
        ("c", "stand-alone", "days", _WEEKDAY),
    ):
        for width, name in widths.items():
            table[letter * width] = (part, get(key, where, name))
    table["E"] = table["EE"] = table["EEE"]
    quarters = get("quarters", "format", "wide")
    table["QQQQ"] = (_MONTH, {month: quarters[(month + 2) // 3] for month in range(1, 13)})
    era = str(get("eras", "abbreviated")[1])
    table["G"] = (_MONTH, dict.fromkeys(range(1, 13), era))
    for letter, part, values in (
        ("y", _YEAR, {year: year for year in range(1, 2400)}),
        ("M", _MONTH, {month: month for month in range(1, 13)}),
        ("L", _MONTH, {month: month for month in range(1, 13)}),
        ("d", _DAY, {day: day for day in range(1, 32)}),
        ("H", _HOUR, {hour: hour for hour in range(24)}),
        ("h", _HOUR, {hour: (hour + 11) % 12 + 1 for hour in range(24)}),
        ("K", _HOUR, {hour: hour % 12 for hour in range(24)}),
        ("m", _MINUTE, {minute: minute for minute in range(60)}),
    ):
        for width in (1, 2):
            if (letter, width) != ("y", 2):
                written = {value: f"{shown:0{width}d}".translate(digits) for value, shown in values.items()}
                table[letter * width] = (part, written)
    periods = get("day_periods", "format", "abbreviated") | get("day_periods", "format", "wide")
    half: dict[int, str] = {hour: periods["am" if hour < 12 else "pm"] for hour in range(24)}
    table["a"] = table["b"] = (_HOUR, half)
    table["B"] = (_HOUR, half | _day_periods(get("day_period_rules").get(None, {}), periods))
    return table


def _day_periods(rules: Mapping[str, Any], names: Mapping[str, str]) -> dict[int, str]:
    """Hour -> what that part of the day is called."""
    hours: dict[int, str] = {}
    for period, spans in rules.items():
        for span in spans:
            if "from" in span and period in names:
                first, end = span["from"] // 3600, span["before"] // 3600
                hours |= {hour % 24: names[period] for hour in range(first, end if end > first else end + 24)}
    return hours
