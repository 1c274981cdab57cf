"""Importers: tables, trackers' and trainers' logs as Runs; `check` says what a table holds and what looks wrong."""

from babelscale.importers.checking import CheckResult, check
from babelscale.importers.flat import Imported, import_runs, table
from babelscale.importers.mapping import Mapping

__all__ = ["CheckResult", "Imported", "Mapping", "check", "import_runs", "table"]
