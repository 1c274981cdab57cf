"""The batches of a run, made without JAX from the token store that it reads."""

from typing import Any

from numpy.typing import NDArray

from babelscale.corpora import TokenStore
from babelscale.errors import InputError
from babelscale.study.spec import RunSpec
from babelscale.training.batches import Batches


def batches(spec: RunSpec, store: TokenStore) -> Batches:
    """The batches of a run.

    Args:
        store: of the run's text, which `Study.text` places.

    Raises:
        InputError: a language has fewer tokens than the run asks for.
    """
    return Batches(
        {code: _cut(store.train(code), code, spec.unique_tokens) for code in spec.languages},
        spec.mixture, spec.seed, spec.recipe.batch_size, spec.recipe.sequence_length, spec.then,
    )  # fmt: skip


def _cut(tokens: NDArray[Any], code: str, unique_tokens: int | None) -> NDArray[Any]:
    """The first tokens of a language's training text, and the one after them, which is only predicted."""
    if unique_tokens is None:
        return tokens
    if len(tokens) <= unique_tokens:
        raise InputError(
            f"language {code!r} has {len(tokens)} training tokens, and the run asks for the first {unique_tokens}",
            hint="lower unique_tokens of its group, or give the language more text",
        )
    return tokens[: unique_tokens + 1]
