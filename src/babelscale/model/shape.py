"""The shape of a decoder, and what follows from it by counting: parameters and FLOPs."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from babelscale.errors import InputError

Block = Literal["parallel", "sequential"]


@dataclass(frozen=True)
class Shape:
    """Sizes of a decoder: gated feed-forward, tied embedding, no biases.

    Args:
        layers, heads, d_model, d_ff, d_head: as in the study's table of model scales.
        vocabulary: rows of the embedding matrix.
        block: "parallel" is the ATLAS study's, both branches reading one norm and no final norm; "sequential" is
            Llama's (Touvron et al. 2023, arXiv 2302.13971), which other programs can load.
    """

    layers: int
    heads: int
    d_model: int
    d_ff: int
    d_head: int
    vocabulary: int
    block: Block = "parallel"

    def __post_init__(self) -> None:
        if self.block not in get_args(Block):
            raise InputError(
                f"model shape: block is {self.block!r}", hint=f"it must be one of {', '.join(get_args(Block))}"
            )
        for name, value in self.identity().items():
            if name != "block" and value < 1:
                raise InputError(f"model shape: {name} is {value}", hint="every size must be at least 1")
        if self.d_head % 2:
            raise InputError(f"model shape: d_head is {self.d_head}", hint="rotary positions need an even d_head")

    def identity(self) -> dict[str, Any]:
        """The fields, without a block that is the study's own."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("block", "parallel")}

    @property
    def params_norm(self) -> int:
        """One norm vector a parallel layer; two a sequential one, and one after the last."""
        return self.d_model * (self.layers if self.block == "parallel" else 2 * self.layers + 1)

    @property
    def params_non_embedding(self) -> int:
        """layers x (4 d heads d_head + 3 d d_ff) + norms: q, k, v, o; gate, up, down."""
        d = self.d_model
        return self.layers * (4 * d * self.heads * self.d_head + 3 * d * self.d_ff) + self.params_norm

    @property
    def params(self) -> int:
        """N: every parameter once, the tied embedding included (reproduces the twenty published sizes)."""
        return self.vocabulary * self.d_model + self.params_non_embedding

    def flops_per_token(self, sequence_length: int) -> int:
        """Training FLOPs a token: 6 for every parameter in a matrix product (the tied embedding as output head
        included, norm vectors not) and 12 layers heads d_head T for attention scores, both with the backward pass
        (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
        """
        products = self.params - self.params_norm
        return 6 * products + 12 * self.layers * self.heads * self.d_head * sequence_length
