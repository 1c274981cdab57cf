"""Execution: how a training step is computed. It changes speed, memory and rounding, and no meaning."""

from dataclasses import dataclass
from typing import Literal

from babelscale.errors import InputError
from babelscale.model.shape import Shape


@dataclass(frozen=True)
class Execution:
    """How a step is computed on one kind of device.

    Args:
        dtype: of the products; parameters, optimiser, norms and losses stay float32.
        attention: "plain" matrix products, or "cudnn", the fused kernel of NVIDIA GPUs.
        loss_tokens: predicted tokens a device holds the logits of at one time.
        microbatches: parts a batch is worked off in, their gradients added up.
        rematerialise: keep only each block's input for the backward pass and compute the rest again.
        unroll: blocks compiled in one straight piece: a loop copies what its rounds keep, but compiles once.
        narrow: compute gradients of weights with the narrower factor transposed, which CPU libraries do faster.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    attention: Literal["plain", "cudnn"] = "plain"
    loss_tokens: int = 1024
    microbatches: int = 1
    rematerialise: bool = False
    unroll: int = 1
    narrow: bool = False

    def __post_init__(self) -> None:
        for name in ("loss_tokens", "microbatches", "unroll"):
            if getattr(self, name) < 1:
                raise InputError(f"execution: {name} is {getattr(self, name)}", hint="it must be at least 1")

    @classmethod
    def on(cls, platform: str, shape: Shape) -> "Execution":
        """The usual choice for a platform ("cpu", "gpu", "tpu").

        float32 on CPUs, where bfloat16 is slower; bfloat16 elsewhere, with cuDNN's attention where its kernel takes
        the head (a multiple of 8, at most 128: every size of the study).
        """
        if platform == "cpu":
            # The logits of 256 tokens by 2,048 pieces stay in the cache.
            return cls(loss_tokens=256, unroll=4, narrow=True)
        fused = platform == "gpu" and shape.d_head % 8 == 0 and shape.d_head <= 128
        return cls("bfloat16", "cudnn" if fused else "plain", loss_tokens=8192)
