"""Importers: other tools' tables and logs as Runs."""

from babelscale.importers.flat import table

__all__ = ["table"]
