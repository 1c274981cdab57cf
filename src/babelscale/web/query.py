"""Queries: the parameters of a page and of the API, validated once, here.

A query consists of named texts: `sw,yo` is a list, `sw=2,yo=1` are numbers by language, `1e21` is a number. The address
of a page is its state, and the API takes the same query under /api.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from babelscale.errors import InputError
from babelscale.options import Option, RequestModel, options_of, read, short

# Characters of one parameter.
_LONGEST = 8_000

Source = Annotated[str, Field(description="published, served, or the name of an uploaded table")]


class Query(RequestModel):
    """One query; the options of a subclass are its parameters, named by their flags."""

    limits: ClassVar[Mapping[str, int]] = {}  # the largest value of an option, or the length of its list

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        for name, most in self.limits.items():
            value = getattr(self, name) or 0
            if (size := value if isinstance(value, int) else len(value)) > most:
                raise InputError(f"{options_of(type(self))[name].flag}: {size}", hint=f"the limit is {most}")
        return self

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self:
        """The query of an address; empty values are ignored.

        Raises:
            InputError: a parameter is unknown or wrong; the message names it.
        """
        known, values = {each.flag: each.name for each in cls.parameters()}, {}
        for flag, text in query.items():
            if len(text) > _LONGEST:
                raise InputError(f"{short(flag)}: the text has {len(text)} characters", hint=f"the limit is {_LONGEST}")
            if flag not in known and text.strip():
                raise InputError(f"{short(flag)}: no such parameter", hint=f"parameters: {', '.join(known)}")
            if text.strip():
                values[known[flag]] = text.strip()
        return read(cls, values, lambda each: each.flag)

    @classmethod
    def parameters(cls) -> Sequence[Option]:
        """The options that an address can set."""
        return [each for each in options_of(cls).values() if each.web != "hidden"]

    @classmethod
    def form(cls) -> dict[str, list[Option]]:
        """The options that a page's form shows, by group."""
        groups: dict[str, list[Option]] = {}
        for each in cls.parameters():
            if each.web == "form":
                groups.setdefault(each.group, []).append(each)
        return groups

    @property
    def key(self) -> str:
        """A text that is equal for equal queries."""
        return f"{type(self).__name__} {self.model_dump_json()}"
