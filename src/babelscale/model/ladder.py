"""The ladder of sizes of the ATLAS study (Longpre et al. 2025, arXiv 2510.22037, table of model scales)."""

from dataclasses import dataclass

from babelscale.model.shape import Shape

# 64,000 SentencePiece rows and 512 reserved ones: derived, it reproduces every printed parameter count exactly.
ATLAS_VOCABULARY = 64_512


@dataclass(frozen=True)
class Scale:
    """One rung: the study's number for it, and its shape."""

    scale: int
    shape: Shape

    @property
    def params(self) -> int:
        return self.shape.params


# scale, heads, layers, d_model, d_ff, d_head
_TABLE = (
    (0, 4, 3, 128, 512, 32),
    (1, 7, 4, 224, 896, 32),
    (2, 7, 5, 288, 1152, 32),
    (4, 8, 8, 512, 2048, 64),
    (6, 10, 10, 640, 2560, 64),
    (8, 10, 16, 640, 2560, 64),
    (12, 14, 14, 896, 3584, 64),
    (14, 14, 18, 896, 3584, 64),
    (16, 16, 18, 1024, 4096, 64),
    (18, 10, 18, 1280, 5120, 128),
    (20, 11, 18, 1408, 5632, 128),
    (22, 11, 21, 1408, 5632, 128),
    (24, 11, 24, 1408, 5632, 128),
    (26, 12, 25, 1536, 6144, 128),
    (28, 14, 23, 1792, 7168, 128),
    (30, 16, 22, 2048, 8192, 128),
    (32, 16, 25, 2048, 8192, 128),
    (34, 17, 25, 2176, 8704, 128),
    (42, 21, 36, 2688, 10752, 128),
    (46, 28, 40, 3584, 14336, 128),
)

ATLAS: tuple[Scale, ...] = tuple(
    Scale(scale, Shape(layers, heads, d_model, d_ff, d_head, ATLAS_VOCABULARY))
    for scale, heads, layers, d_model, d_ff, d_head in _TABLE
)
