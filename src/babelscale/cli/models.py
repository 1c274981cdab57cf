"""Commands for trained models: export."""

import sys
from pathlib import Path
from typing import Literal

from babelscale.cli.options import one_line_descriptions


@one_line_descriptions
def export(run: Path, out: Path, *, dtype: Literal["float32", "bfloat16"] = "float32") -> None:
    """Write a finished run as a Hugging Face model, with its tokenizer.

    Example: babelscale export studies/mine/finished/s-sv-600k-s0-0d60e6d374 my-model/

    Parameters
    ----------
    run
        Folder of the run in finished/ of a study. Its design must have block = "sequential" and keep its state.
    out
        Folder in which to write the model. It must be new or empty.
    dtype
        Number type of the weights. bfloat16 rounds them.
    """
    from babelscale.study.export import export as written

    sys.stdout.write(f"{written(run, out, dtype)}\n")
