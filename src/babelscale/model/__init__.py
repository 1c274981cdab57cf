"""The decoder in one file, the ladder of sizes, and counts from the shapes.

`decoder` needs JAX; `shape` and `ladder` do not.
"""

from babelscale.model.ladder import ATLAS, Scale
from babelscale.model.shape import Shape

__all__ = ["ATLAS", "Scale", "Shape"]
