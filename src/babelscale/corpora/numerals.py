"""Number words, read from `number_words.json.gz`, which tools/build_number_words.py computed with num2words."""

import functools
import gzip
from importlib import resources
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from babelscale.errors import InputError

FILE = "number_words.json.gz"
_Release = Literal["0.5.14"]
# The release of num2words that computed the file. Identities of corpora hold it, so it changes only with the file.
NUM2WORDS: str = get_args(_Release)[0]


class NumberWords(BaseModel):
    """Content of the file: `words[language][i]` is how the language says `numbers[i]`, None where num2words cannot."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    version: Literal[1]
    num2words: _Release
    numbers: list[int]
    words: dict[str, list[str | None]]

    @model_validator(mode="after")
    def _one_entry_for_every_number(self) -> Self:
        for language, words in self.words.items():
            if len(words) != len(self.numbers):
                raise ValueError(f"words of {language!r}: {len(words)} entries for {len(self.numbers)} numbers")
        return self


def words(language: str) -> dict[int, str]:
    """Number -> its words; empty where num2words lacks the language.

    Raises:
        InputError: the installed data file is damaged.
    """
    content = _content()
    entries = content.words.get(language, [])
    return {number: word for number, word in zip(content.numbers, entries, strict=bool(entries)) if word is not None}


def parse(data: bytes) -> NumberWords:
    """The content of the file's bytes, checked.

    Raises:
        InputError: naming the file and the field.
    """
    hint = "install babelscale again"
    try:
        return NumberWords.model_validate_json(gzip.decompress(data))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "content"
        raise InputError(f"{FILE}: {field}: {first['msg']}", hint=hint) from None
    except (OSError, EOFError) as error:
        raise InputError(f"{FILE}: not a whole gzip file ({error})", hint=hint) from None


@functools.cache
def _content() -> NumberWords:
    return parse(resources.files(__package__ or "").joinpath(FILE).read_bytes())
