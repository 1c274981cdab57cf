"""Where every figure of this room comes from, and how its data files are read."""

import csv
from importlib import resources

STUDY = (
    "Longpre, Kudugunta, Muennighoff, Hsu, Caswell, Pentland, Arik, Lee, Ebrahimi: ATLAS: Adaptive Transfer Scaling "
    "Laws for Multilingual Pretraining, Finetuning, and Decoding the Curse of Multilinguality. "
    "arXiv 2510.22037 v2 (2026), ICLR 2026"
)

# The study's losses follow Tao et al. (2024), yet its values are positive where that loss is negative.
LOSS_UNIT = "the study's vocabulary-insensitive loss (the study does not state its unit)"


def rows(name: str) -> list[dict[str, str]]:
    """The rows of one data file; Python's csv keeps language codes such as `no` as text."""
    text = resources.files("babelscale.published").joinpath(f"data/{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def number(cell: str) -> float | None:
    """A printed number, None where the table has an empty cell."""
    return float(cell) if cell else None
