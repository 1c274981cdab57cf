"""The shape of a decoder, and what follows from it by counting: parameters and FLOPs."""

from dataclasses import dataclass

from babelscale.errors import InputError


@dataclass(frozen=True)
class Shape:
    """Sizes of the ATLAS decoder: parallel blocks, gated feed-forward, tied embedding, no biases.

    Args:
        layers, heads, d_model, d_ff, d_head: as in the study's table of model scales.
        vocabulary: rows of the embedding matrix.
    """

    layers: int
    heads: int
    d_model: int
    d_ff: int
    d_head: int
    vocabulary: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value < 1:
                raise InputError(f"model shape: {name} is {value}", hint="every size is at least 1")
        if self.d_head % 2:
            raise InputError(f"model shape: d_head is {self.d_head}", hint="rotary positions need an even d_head")

    @property
    def params_non_embedding(self) -> int:
        """layers x (4 d heads d_head + 3 d d_ff + d): q, k, v, o; gate, up, down; one norm vector."""
        d = self.d_model
        return self.layers * (4 * d * self.heads * self.d_head + 3 * d * self.d_ff + d)

    @property
    def params(self) -> int:
        """N: every parameter once, the tied embedding included (reproduces the twenty published sizes)."""
        return self.vocabulary * self.d_model + self.params_non_embedding

    def flops_per_token(self, sequence_length: int) -> int:
        """Training FLOPs a token: 6 for every parameter in a matrix product (the tied embedding as output head
        included, norm vectors not) and 12 layers heads d_head T for attention scores, both with the backward pass
        (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).
        """
        products = self.params - self.layers * self.d_model
        return 6 * products + 12 * self.layers * self.heads * self.d_head * sequence_length
