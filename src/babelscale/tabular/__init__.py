"""Tables as people have them: files in their dialects, other names of columns, wide and long layouts, foreign codes."""

from babelscale.tabular.cells import ENDINGS, PACKED_ENDINGS, Notice, RawTable, endings_of, is_table, of_frame, read
from babelscale.tabular.columns import Columns
from babelscale.tabular.layout import Options, Tables, to_tables

__all__ = ["ENDINGS", "PACKED_ENDINGS", "Columns", "Notice", "Options", "RawTable", "Tables", "endings_of", "is_table",
           "of_frame", "read", "to_tables"]  # fmt: skip
