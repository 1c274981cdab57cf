"""Any flat table of runs, with its own column names, as Runs."""

from collections.abc import Mapping
from pathlib import Path

from babelscale.runs import Runs
from babelscale.tabular import Options


def table(
    path: str | Path, columns: Mapping[str, str], *, language: str | None = None, tokens_from_flops: bool = False
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
