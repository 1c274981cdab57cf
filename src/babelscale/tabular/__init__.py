"""Tables as people have them: files in their dialects, other names of columns, wide and long layouts, foreign codes."""

from babelscale.tabular.cells import Notice, RawTable, of_frame, read
from babelscale.tabular.layout import Options, Tables, to_tables

__all__ = ["Notice", "Options", "RawTable", "Tables", "of_frame", "read", "to_tables"]
