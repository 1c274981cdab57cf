"""Commands of trained models: export."""

import sys
from pathlib import Path
from typing import Literal


def export(run: Path, out: Path, *, dtype: Literal["float32", "bfloat16"] = "float32") -> None:
    """Write a finished run as a Hugging Face model, with its tokenizer.

    Example: babelscale export studies/mine/finished/s-sv-600k-s0-0d60e6d374 my-model/

    Parameters
    ----------
    run
        The run's folder under finished/ of a study; its design has block = "sequential", and its state was kept.
    out
        Folder of the model; new or empty.
    dtype
        Type of the weights; bfloat16 rounds them.
    """
    from babelscale.study.export import export as written

    sys.stdout.write(f"{written(run, out, dtype)}\n")
