"""Any source as Runs: what `babelscale import` does, and one function for flat tables."""

from collections.abc import Mapping as Columns
from dataclasses import dataclass
from pathlib import Path

from babelscale import tabular
from babelscale.errors import InputError
from babelscale.importers import sources
from babelscale.importers.mapping import Mapping
from babelscale.runs import Runs
from babelscale.tabular import Options


@dataclass(frozen=True)
class Imported:
    """Runs of a source, its kind, and the mapping by which it was understood."""

    runs: Runs
    kind: str
    mapping: Mapping


def import_runs(path: str | Path, mapping: Mapping | None = None) -> Imported:
    """Runs from what a tracker or trainer wrote, or from a table.

    Args:
        mapping: what the source cannot say by itself; the rest is guessed from names, and the guess is returned.

    Raises:
        InputError: naming the file and the field, and what to do.
    """
    mapping = mapping or Mapping()
    if mapping.kind == sources.STUDY or (mapping.kind is None and sources.is_study(Path(path))):
        return _study(path, mapping)
    kind, table = sources.read(path, mapping.kind)
    found = tabular.to_tables(table, mapping.options())
    runs = Runs.from_tables(found, table.where)
    for notice in runs.notices:
        if notice.severity == "error":
            raise InputError(notice.text, hint=notice.hint)
    return Imported(runs, kind, mapping.with_columns(found.columns).model_copy(update={"kind": kind}))


def _study(path: str | Path, mapping: Mapping) -> Imported:
    """Runs as babelscale wrote them, which hold everything that a mapping could say."""
    kept = mapping.model_copy(update={"kind": sources.STUDY})
    if kept != Mapping(kind=sources.STUDY):
        raise InputError(f"{path}: holds runs as babelscale writes them", hint="leave the mapping out")
    return Imported(Runs.read(path), sources.STUDY, kept)


def table(
    path: str | Path, columns: Columns[str, str], *, language: str | None = None, tokens_from_flops: bool = False
) -> Runs:
    """Runs from one table of any format (see `babelscale.tabular`).

    Args:
        columns: ours -> theirs, such as {"params": "Model Size", "loss": "final loss"}. A column that already has our
            name may be left out.
        language: code of every row, where the table has no such column.
        tokens_from_flops: D = C / (6 N) from `flops` and `params`, where the table has no tokens.

    Raises:
        InputError: naming the file, the row and the column.
    """
    return Runs.read(path, Options(mapping=columns, language=language, tokens_from_flops=tokens_from_flops))
