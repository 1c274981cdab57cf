"""A process that reads uploaded tables: `python -m babelscale.web.parse_process`.

A hostile file can break a parser. The kernel limits what a file may cost here, and a file that breaks the parser ends
this process, never the server. A job is {"file", "name", "into"}: the table, the name to display, and the folder in
which the three checked tables are written.
"""

import errno
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from babelscale.workers import serve

# Limits of reading one file: bytes of memory, seconds of CPU, bytes of one written file, open files.
MEMORY, SECONDS, WRITTEN, OPEN = 2_500_000_000, 20, 256_000_000, 64
# Limits of a table; a fit needs memory for runs times languages.
ROWS, RUNS, CELLS, TEXT, MOST = 200_000, 20_000, 20_000_000, 500, 1e40
_LONGEST, _MOST_NOTICES = 400, 20  # characters of a message; messages about one table
TOO_LARGE = "the unpacked file is larger than the limit"


class _TooLarge(Exception):
    """The table exceeds a limit; the message says which."""


def limit() -> None:
    """Limit this process permanently. CPU time is limited again for each file."""
    import resource

    limits = {"RLIMIT_CORE": 0, "RLIMIT_AS": MEMORY, "RLIMIT_FSIZE": WRITTEN, "RLIMIT_NOFILE": OPEN}
    for name, most in limits.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))


def _limit_seconds() -> None:
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(usage.ru_utime + usage.ru_stime) + SECONDS, hard))


def answer(job: dict[str, str]) -> dict[str, Any]:
    """A summary of the table, or the reason of its refusal: {"status", "error", "hint"}."""
    import polars as pl

    from babelscale.errors import InputError

    file, name, into = Path(job["file"]), job["name"], Path(job["into"])
    try:
        return _read(file, name, into)
    except InputError as error:
        return _refused(400, _clean(error.message, file, name), error.hint)
    except pl.exceptions.PolarsError as error:
        return _refused(
            400,
            _clean(f"{name}: cannot be read ({_first(error)})", file, name),
            "check that the file is a table of runs",
        )
    except (_TooLarge, MemoryError, OSError) as error:
        shutil.rmtree(into, ignore_errors=True)
        if isinstance(error, OSError) and error.errno != errno.EFBIG:
            return _refused(
                503, f"{name}: it cannot be stored ({error.strerror})", "free space on the disk of the server"
            )
        why = str(error) if isinstance(error, _TooLarge) else TOO_LARGE
        return _refused(413, f"{name}: {why}", "leave out rows, or serve the table: babelscale serve PATH")


def _read(file: Path, name: str, into: Path) -> dict[str, Any]:
    from babelscale import tabular
    from babelscale.errors import InputError
    from babelscale.importers.checking import check_runs
    from babelscale.runs import Runs

    _check_parquet(file, name)
    table = replace(tabular.read(file), where=name)
    if table.frame.height > ROWS:
        raise _TooLarge(f"it has {table.frame.height} rows, and the limit is {ROWS}")
    _check_cells(table)
    runs = Runs.from_table(table)
    for notice in runs.notices:
        if notice.severity == "error":
            raise InputError(notice.text, hint=notice.hint)
    languages, targets = runs.languages, runs.targets
    if len(runs) > RUNS:
        raise _TooLarge(f"it has {len(runs)} runs, and the limit is {RUNS}")
    if len(runs) * len(languages) > CELLS:
        raise _TooLarge(
            f"it has {len(runs)} runs of {len(languages)} languages, and the limit of the product is {CELLS}"
        )
    found = check_runs(runs, name, fits=False)
    runs.write(into)
    return {
        "runs": len(runs),
        "languages": list(languages),
        "targets": list(targets),
        "metric": runs.metric,
        "understood": [_clean(text, file, name) for text in found.facts["understood"][:_MOST_NOTICES]],
        "findings": [
            {"severity": each.severity, "text": _clean(str(each), file, name)}
            for each in found.findings[:_MOST_NOTICES]
        ],
    }


def _check_parquet(file: Path, name: str) -> None:
    """Check the number of rows that a Parquet file announces, before they are unpacked."""
    import polars as pl

    from babelscale.errors import InputError

    if file.suffix != ".parquet":
        return
    try:
        rows = pl.scan_parquet(file).select(pl.len()).collect().item()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(
            f"{name}: not a Parquet table ({_first(error)})", hint="check that the file is complete"
        ) from None
    if rows > ROWS:
        raise _TooLarge(f"it has {rows} rows, and the limit is {ROWS}")


def _check_cells(table: Any) -> None:
    """Texts must be short, because charts and tables display them; numbers must not overflow in products."""
    import polars as pl

    from babelscale.errors import InputError
    from babelscale.tabular.columns import FIELDS, resolve

    columns = resolve(replace(table, notices=[]))
    kinds = [(theirs, FIELDS[ours][0]) for ours, theirs in columns.single.items()]
    kinds += [(theirs, FIELDS[ours][0]) for ours, by_code in columns.wide.items() for theirs in by_code.values()]
    for column, kind in kinds:
        cells = table.frame[column]
        if kind in ("text", "code") and cells.dtype == pl.String:
            lengths = cells.str.len_chars().fill_null(0)
            row = (lengths > TEXT).arg_max()
            if row is not None and lengths[row] > TEXT:
                raise InputError(
                    f"{table.at(row)}, {column}: the text has {lengths[row]} characters", hint=f"the limit is {TEXT}"
                )
        elif kind in ("count", "number") and (cells.dtype == pl.String or cells.dtype.is_numeric()):
            sizes = cells.cast(pl.Float64, strict=False).abs().fill_null(0.0).fill_nan(0.0)
            beyond = (sizes > MOST) | ((sizes < 1 / MOST) & (sizes > 0))
            if (row := beyond.arg_max()) is not None and beyond[row]:
                raise InputError(
                    f"{table.at(row)}, {column}: {cells[row]} is too large or too small",
                    hint=f"numbers must be between {1 / MOST:g} and {MOST:g}",
                )


def _refused(status: int, error: str, hint: str | None) -> dict[str, Any]:
    return {"status": status, "error": error, "hint": hint}


def _clean(message: str, file: Path, name: str) -> str:
    """A message on one line, with the displayed name instead of the path."""
    text = " ".join(message.replace(str(file), name).split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _first(error: Exception) -> str:
    return (str(error).splitlines() or ["unreadable"])[0]


def main() -> None:
    limit()

    def within_limits(job: dict[str, str]) -> dict[str, Any]:
        _limit_seconds()
        return answer(job)

    serve(within_limits)


if __name__ == "__main__":
    main()
