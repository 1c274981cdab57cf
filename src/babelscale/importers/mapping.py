"""Mappings: which key of a source holds what, as a short TOML file that people edit and use again."""

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from babelscale import files
from babelscale.errors import InputError
from babelscale.tabular import Columns, Options
from babelscale.tomlfile import toml_text

_COMMENT = """What a source holds. Edit this file and use it again: babelscale import SOURCE --out RUNS --mapping FILE.
columns: field = "name in the source"; "loss.sw" is the column with the losses on Swahili.
constants: field = value in all rows. shares: the mixture of each run, where the source does not hold it.
runs: field = value of one run, where the source does not hold it."""


class Mapping(BaseModel):
    """The content of a mapping file."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    kind: str | None = None
    tokens_are: Literal["language", "run"] | None = None
    language: str | None = None
    tokens_from_flops: bool = False
    tokens_per_step: float | None = Field(default=None, gt=0)
    columns: dict[str, str] = {}
    constants: dict[str, str | float | int] = {}
    shares: dict[str, dict[str, float | int]] = {}
    runs: dict[str, dict[str, str | float | int]] = {}

    def options(self) -> Options:
        return Options(
            mapping=self.columns,
            tokens_are=self.tokens_are,
            language=self.language,
            tokens_from_flops=self.tokens_from_flops,
            constants=self.constants,
            tokens_per_step=self.tokens_per_step,
            shares=self.shares,
            runs=self.runs,
        )

    def with_columns(self, found: Columns) -> "Mapping":
        """This mapping with every column as it was understood."""
        columns = {**found.single, **found.covariates}
        columns |= {
            f"{name}.{code}": theirs for name, by_code in found.wide.items() for code, theirs in by_code.items()
        }
        given = {*self.constants, *(field for values in self.runs.values() for field in values)}
        kept = {ours: theirs for ours, theirs in columns.items() if ours not in given}
        return self.model_copy(update={"columns": kept})

    def write(self, path: Path) -> Path:
        values = {key: value for key, value in self.model_dump().items() if value not in (None, False)}
        return files.write_text(path, toml_text(values, _COMMENT))


def load(path: Path) -> Mapping:
    """Read a mapping file.

    Raises:
        InputError: naming the file and the field.
    """
    try:
        return Mapping.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", hint="name a mapping file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not TOML ({error})", hint="name a mapping file that `import` wrote") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path}: {where}: {first['msg']}", hint=f"fields are {', '.join(Mapping.model_fields)}"
        ) from None
