"""Tables as people have them: files in their dialects, other names of columns, wide and long layouts, foreign codes."""

from babelscale.tabular.cells import Cells, Notice, of_frame, read
from babelscale.tabular.layout import Options, Tables, to_tables

__all__ = ["Cells", "Notice", "Options", "Tables", "of_frame", "read", "to_tables"]
