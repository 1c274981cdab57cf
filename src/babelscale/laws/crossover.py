"""The crossover law: from how much compute on a model trained from scratch beats one that was continued.

ATLAS (arXiv 2510.22037), section 6.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from babelscale.errors import InputError


@dataclass(frozen=True)
class Crossover:
    """C(N) = coefficient N^exponent, in FLOPs.

    A multilingual checkpoint continued on one language starts ahead of a model from scratch and is overtaken when
    both have spent C FLOPs on that language; the checkpoint's own compute is not charged. It gives a compute and no
    loss, so it is no `ScalingLaw` and `fitting.fit` does not take it: it is read off where two fitted curves cross.
    """

    name: ClassVar[str] = "crossover"
    parameter_names: ClassVar[tuple[str, ...]] = ("coefficient", "exponent")

    def compute(self, parameters: Mapping[str, ArrayLike], params: ArrayLike) -> NDArray[np.float64]:
        """C at each N of `params`, in FLOPs.

        Raises:
            InputError: N not positive.
        """
        N = np.asarray(params, np.float64)
        if not (N > 0).all():
            raise InputError("params must be positive")
        return np.asarray(parameters["coefficient"]) * N ** np.asarray(parameters["exponent"])

    def tokens(self, parameters: Mapping[str, ArrayLike], params: ArrayLike) -> NDArray[np.float64]:
        """The crossover in tokens of the language, C / (6 N)."""
        return self.compute(parameters, params) / (6 * np.asarray(params, np.float64))
