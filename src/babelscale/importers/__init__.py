"""Importers: tables, trackers' and trainers' logs as Runs; `check` says what a table holds and what looks wrong."""

from babelscale.importers.checking import CheckResult, check, check_runs
from babelscale.importers.flat import Imported, import_runs, table
from babelscale.importers.mapping import Mapping

__all__ = ["CheckResult", "Imported", "Mapping", "check", "check_runs", "import_runs", "table"]
