"""How a transfer score is known."""

from typing import Literal

Status = Literal["measured", "censored", "predicted", "printed", "missing"]
