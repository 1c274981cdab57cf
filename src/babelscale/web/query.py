"""Queries: what a page's address or a call of the API may ask, checked once, here.

Every query is a flat set of named texts, in the address of a page as in that of the API: `sw,yo` lists, `sw=2,yo=1`
numbers by language, `1e21` a number. So a page's address is its state, and the API's is the same with /api before it.
"""

from collections.abc import Mapping, Sequence
from typing import Self

from babelscale.errors import InputError
from babelscale.options import Option, RequestModel, options_of, read, short

# Longer texts than this are no query that a person asks.
_LONGEST = 8_000


class Query(RequestModel):
    """One query; the options of a subclass are the parameters it takes, by their flags."""

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self:
        """The query of an address; empty values count as left out.

        Raises:
            InputError: naming the parameter and what it takes.
        """
        known, values = {each.flag: each.name for each in cls.parameters()}, {}
        for flag, text in query.items():
            if len(text) > _LONGEST:
                raise InputError(f"{short(flag)}: {len(text)} characters", hint=f"{_LONGEST} at most")
            if flag not in known and text.strip():
                raise InputError(f"{short(flag)}: no such parameter", hint=f"known: {', '.join(known)}")
            if text.strip():
                values[known[flag]] = text.strip()
        return read(cls, values, lambda each: each.flag)

    @classmethod
    def parameters(cls) -> Sequence[Option]:
        """The options that an address may set."""
        return [each for each in options_of(cls).values() if each.web != "hidden"]

    @classmethod
    def form(cls) -> dict[str, list[Option]]:
        """The options that a page's form shows, by group."""
        found: dict[str, list[Option]] = {}
        for each in cls.parameters():
            if each.web == "form":
                found.setdefault(each.group, []).append(each)
        return found

    @property
    def key(self) -> str:
        """The same for queries that ask the same."""
        return f"{type(self).__name__} {self.model_dump_json()}"
