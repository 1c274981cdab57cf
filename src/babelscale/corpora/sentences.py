"""Sentences of the phrasebook: CLDR's facts in CLDR's patterns.

A line stays with one subject (a country, a language, a city, a time, a number) and says one to three things of it.
What it says of countries, languages, currencies and cities is true and the same in every language; subjects follow a
Zipf law whose order depends on the seed alone. So there is something to learn at every scale: letters and words first,
then agreement of number and unit, then facts, and some of it carries over from one language to another.
"""

import bisect
import datetime
import functools
import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from babelscale.corpora import cldr
from babelscale.corpora.cldr import Cldr, Forms

T = TypeVar("T")

_DRAWS = 8192
_FIRST_DAY, _LAST_DAY = datetime.date(1900, 1, 1).toordinal(), datetime.date(2049, 12, 31).toordinal()
_ZIPF = 0.8
_JOINTS = ("; ", " – ", ", ")


class Ranked:
    """Keys drawn by a Zipf law, in an order that the seed alone decides."""

    def __init__(self, keys: Sequence[str], seed: int) -> None:
        def rank(key: str) -> bytes:
            return hashlib.sha256(f"rank:{seed}:{key}".encode()).digest()

        self.keys = sorted(keys, key=rank)
        weights = np.cumsum(np.arange(1, len(self.keys) + 1, dtype=np.float64) ** -_ZIPF)
        self._cumulative: list[float] = (weights / weights[-1]).tolist()

    def at(self, uniform: float) -> str:
        return self.keys[min(bisect.bisect_right(self._cumulative, uniform), len(self.keys) - 1)]


class Composer:
    """Composes the lines of one language for ever.

    Args:
        data: the language's tables.
        words: number -> its words; empty where nothing knows them.
        seed: decides the subjects' order; `rng` everything else.
    """

    def __init__(self, data: Cldr, words: dict[int, str], seed: int, rng: np.random.Generator) -> None:
        self._data = data
        self._words = words
        self._counted = sorted(words)
        self._uniform = _uniforms(rng).__next__
        spoken, scripts, tender = cldr.official_languages(), cldr.usual_scripts(), cldr.current_currencies()
        places, tongues = data.territories, data.languages
        self._spoken = {
            code: found
            for code in places
            if (found := [(tongue, share) for tongue, share in spoken.get(code, []) if tongue in tongues])
        }
        self._tender = {code: tender[code] for code in places if tender.get(code) in data.currencies}
        self._zones_of: dict[str, list[str]] = {}
        for zone, facts in data.zones.items():
            self._zones_of.setdefault(facts.territory, []).append(zone)
        self._script = {code: scripts[code] for code in tongues if scripts.get(code) in data.scripts}
        self._homes: dict[str, list[str]] = {}
        for place, found in self._spoken.items():
            for tongue, _ in found:
                self._homes.setdefault(tongue, []).append(place)
        self._places = Ranked([code for code in places if code.isalpha()], seed)
        self._regions = Ranked(list(places), seed)
        self._tongues = Ranked(list(tongues), seed)
        self._money = Ranked(list(data.currencies), seed)
        self._units = Ranked(list(data.units), seed)
        self._zones = Ranked(list(data.zones), seed)
        self._plural = functools.lru_cache(maxsize=1 << 16)(data.plural)
        kinds: list[tuple[Callable[[], str], float]] = [
            (self._country, 5),
            (self._language, 3),
            (self._city, 2),
            (self._diary, 4),
            (self._measure, 3),
            (self._trade, 2),
            (self._number_words if words else self._rounded, 2),
            (self._sum, 1),
        ]
        self._kinds = [kind for kind, _ in kinds]
        total = sum(weight for _, weight in kinds)
        self._kind_steps = list(itertools.accumulate(weight / total for _, weight in kinds))

    def line(self) -> str:
        """One line."""
        kind = bisect.bisect_right(self._kind_steps, self._uniform())
        return self._kinds[min(kind, len(self._kinds) - 1)]()

    # Draws

    def _below(self, most: int) -> int:
        return int(self._uniform() * most)

    def _one_of(self, items: Sequence[T]) -> T:
        return items[int(self._uniform() * len(items))]

    def _chance(self, share: float) -> bool:
        return self._uniform() < share

    def _distinct(self, ranked: Ranked, most: int) -> list[str]:
        return list(dict.fromkeys(ranked.at(self._uniform()) for _ in range(1 + self._below(most))))

    def _amount(self) -> int:
        """A whole number; small ones are the common ones, as in text."""
        digits = self._uniform()
        if digits < 0.55:
            return 1 + self._below(12)
        if digits < 0.85:
            return 1 + self._below(99)
        return self._below(10 ** (3 + self._below(3)))

    # Fragments

    def _count(self, number: int) -> str:
        text = str(number)
        first, other = self._data.groups
        if len(text) > first:
            tail, head = text[-first:], text[:-first]
            while head:
                head, part = head[:-other], head[-other:]
                tail = part + self._data.group + tail
            text = tail
        return text.translate(self._data.digits) if self._data.digits else text

    def _fraction(self, number: int, tenths: int) -> str:
        return f"{self._count(number)}{self._data.decimal}{self._count(tenths)}"

    def _counted_by(self, forms: Forms, number: int) -> str:
        return forms.get(self._plural(number)) or forms["other"]

    def _quantity(self, unit: cldr.Unit) -> str:
        number = self._amount()
        if self._chance(0.2):
            return unit.forms["other"].replace("{0}", self._fraction(number, 1 + self._below(9)))
        return self._counted_by(unit.forms, number).replace("{0}", self._count(number))

    def _sum_of_money(self, code: str) -> str:
        data, number = self._data, self._amount()
        name = self._counted_by(data.currency_forms[code], number)
        return self._counted_by(data.money, number).replace("{0}", self._count(number)).replace("{1}", name)

    def _share(self, percent: float) -> str:
        whole = round(percent)
        number = self._count(whole) if whole else self._fraction(0, max(1, int(percent * 10)))
        return self._data.percent.replace("{0}", number)

    def _moment(self) -> cldr.Moment:
        return cldr.moment(_FIRST_DAY + self._below(_LAST_DAY - _FIRST_DAY), 5 * self._below(288))

    def _when(self) -> str:
        data, draw = self._data, self._uniform()
        if draw < 0.25:
            number = self._amount()
            return self._counted_by(self._one_of(data.relative), number).replace("{0}", self._count(number))
        when = self._moment()
        if draw < 0.5:
            return cldr.fill(self._one_of(data.short_dates), when)
        day = cldr.fill(self._one_of(data.dates), when)
        if draw < 0.75:
            return day
        if draw < 0.9:
            return data.date_time.replace("{1}", day).replace("{0}", cldr.fill(self._one_of(data.times), when))
        other = cldr.fill(self._one_of(data.short_dates), self._moment())
        return data.span.replace("{0}", cldr.fill(self._one_of(data.short_dates), when)).replace("{1}", other)

    def _list(self, items: Sequence[str], kind: int = 0) -> str:
        """Items as the language lists them: "and" (0) or "or" (1)."""
        if len(items) == 1:
            return items[0]
        patterns = self._data.lists[kind]
        if len(items) == 2:
            return _join(patterns["2"], items[0], items[1])
        text = _join(patterns["end"], items[-2], items[-1])
        for item in items[-3:0:-1]:
            text = _join(patterns["middle"], item, text)
        return _join(patterns["start"], items[0], text)

    # Lines

    def _country(self) -> str:
        data, code = self._data, self._places.at(self._uniform())
        spoken = self._spoken.get(code, [])
        facts = []
        if spoken:
            some = spoken[: 1 + self._below(len(spoken))]
            if self._chance(0.5):
                facts.append(self._list([data.languages[tongue] for tongue, _ in some]))
            else:
                facts.append(self._list([f"{data.languages[tongue]} {self._share(share)}" for tongue, share in some]))
        if code in self._tender and self._chance(0.6):
            tender = self._tender[code]
            facts.append(self._sum_of_money(tender) if self._chance(0.5) else data.currencies[tender])
        if code in self._zones_of and self._chance(0.5):
            zones = self._zones_of[code]
            start = self._below(len(zones))
            facts.append(self._list([data.zones[zone].city for zone in zones[start : start + 1 + self._below(4)]]))
        if self._chance(0.35) or not facts:
            facts.append(self._when())
        return f"{data.territories[code]}: {self._one_of(_JOINTS).join(facts)}"

    def _language(self) -> str:
        data, code = self._data, self._tongues.at(self._uniform())
        name = data.languages[code]
        if code in self._script and self._chance(0.7):
            name = f"{name} ({data.scripts[self._script[code]]})"
        if homes := self._homes.get(code):
            start = self._below(len(homes))
            name = f"{name}: {self._list([data.territories[place] for place in homes[start : start + 4]])}"
        elif self._chance(0.7):
            others = [data.languages[tongue] for tongue in self._distinct(self._tongues, 3)]
            return f"{self._list([name, *others], 1)}: {self._when()}"
        return f"{name}{self._one_of(_JOINTS)}{self._when()}" if self._chance(0.4) else name

    def _city(self) -> str:
        data, zone = self._data, self._data.zones[self._zones.at(self._uniform())]
        place = data.territories.get(zone.territory, zone.city)
        where = (
            _join(data.zone_place, zone.city, zone.time)
            if zone.time and self._chance(0.4)
            else f"{zone.city} ({place})"
            if self._chance(0.6)
            else data.zone_region.replace("{0}", zone.city if self._chance(0.5) else place)
        )
        if self._chance(0.4):
            return f"{where}: {cldr.fill(self._one_of(data.times), self._moment())}, {self._when()}"
        return f"{where}: {self._quantity(self._unit())}, {self._when()}"

    def _diary(self) -> str:
        data, draw = self._data, self._uniform()
        if draw < 0.4:
            what = [data.territories[place] for place in self._distinct(self._regions, 4)]
        elif draw < 0.7:
            what = [self._quantity(data.units[unit]) for unit in self._distinct(self._units, 3)]
        elif draw < 0.85:
            what = [data.languages[tongue] for tongue in self._distinct(self._tongues, 4)]
        else:
            what = [self._sum_of_money(code) for code in self._distinct(self._money, 3)]
        text = self._list(what, self._chance(0.25))
        return f"{self._when()}: {text}" if self._chance(0.6) else f"{text} – {self._when()}"

    def _unit(self) -> cldr.Unit:
        return self._data.units[self._units.at(self._uniform())]

    def _measure(self) -> str:
        unit = self._unit()
        if unit.per and self._chance(0.4):
            text = unit.per.replace("{0}", self._quantity(self._unit()))
        else:
            text = self._list([self._quantity(unit) for _ in range(1 + self._below(3))], self._chance(0.3))
        where = self._data.territories[self._regions.at(self._uniform())]
        return f"{where}, {unit.name}: {text}" if unit.name else f"{where}: {text}"

    def _trade(self) -> str:
        both = [self._sum_of_money(self._money.at(self._uniform())) for _ in range(2)]
        if self._data.large and self._chance(0.5):
            return f"{self._data.currencies[self._money.at(self._uniform())]}: {self._large()}, {both[0]}"
        return f"{' = '.join(both)} ({self._when()})"

    def _large(self) -> str:
        digits, forms = self._one_of(self._data.large)
        number = 10 ** (digits - 1) + self._below(9 * 10 ** (digits - 1))
        return self._counted_by(forms, number).replace("{0}", self._count(number))

    def _rounded(self) -> str:
        where = self._data.territories[self._regions.at(self._uniform())]
        if not self._data.large:
            return f"{where}: {self._count(self._below(10**7))}"
        return f"{where}: {self._list([self._large() for _ in range(1 + self._below(3))])}"

    def _number_words(self) -> str:
        found = []
        for _ in range(1 + self._below(4)):
            number = self._amount() if self._chance(0.7) else self._one_of(self._counted)
            number = number if number in self._words else self._one_of(self._counted)
            found.append((self._count(number), self._words[number]))
        if self._chance(0.5):
            return self._list([f"{words} ({count})" for count, words in found])
        return f"{self._list([count for count, _ in found])}: {self._list([words for _, words in found])}"

    def _sum(self) -> str:
        first, second = 1 + self._below(99), 1 + self._below(99)
        words = self._words if self._chance(0.6) else {}
        terms = [words.get(n) or self._count(n) for n in (first, second, first + second)]
        return f"{terms[0]} + {terms[1]} = {terms[2]} ({self._quantity(self._unit())})"


def _join(pattern: str, first: str, second: str) -> str:
    # In one pass: a name may itself hold braces.
    return pattern.replace("{1}", second).replace("{0}", first) if "{" not in second else pattern.format(first, second)


def _uniforms(rng: np.random.Generator) -> Iterator[float]:
    """Uniform numbers, drawn in blocks since single draws from NumPy are slow."""
    while True:
        yield from rng.random(_DRAWS).tolist()
