"""The mixture of a plan for a trainer: weights, tokens and epochs of each language, with file names to fill in."""

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from babelscale.errors import InputError
from babelscale.formatting import count
from babelscale.planning import Plan

# Stands in every path that the reader must fill in.
DATA = "DATA"


@dataclass(frozen=True)
class MixtureEntry:
    """One language of a mixture: its share of all tokens, D, U (infinite where unknown) and epochs."""

    language: str
    weight: float
    tokens: int
    unique_tokens: float

    @property
    def epochs(self) -> float | None:
        return self.tokens / self.unique_tokens if math.isfinite(self.unique_tokens) else None

    @property
    def passes(self) -> int:
        """Whole passes over the text that the tokens need; 1 where U is unknown."""
        return max(1, math.ceil((self.epochs or 1.0) - 1e-9))

    def __str__(self) -> str:
        epochs = "epochs unknown" if self.epochs is None else f"{self.epochs:.3g} epochs"
        return f"{self.language}: {count(self.tokens)} tokens, {epochs}"


def entries(plan: Plan) -> list[MixtureEntry]:
    """The languages that the plan trains on, in its order; weights sum to one."""
    return [
        MixtureEntry(code, plan.shares[code], round(tokens), plan.unique_tokens[code])
        for code, tokens in plan.tokens.items()
        if tokens > 0
    ]


def export_mixture(plan: Plan, trainer: str) -> str:
    """The mixture as text for a trainer; paths begin with DATA and are to be filled in.

    Args:
        trainer: one of TRAINERS.

    Raises:
        InputError: no such trainer, or the plan trains on nothing.
    """
    if trainer not in TRAINERS:
        raise InputError(f"no trainer is called {trainer!r}", hint=f"one of {', '.join(TRAINERS)}")
    mixture = entries(plan)
    if not mixture:
        raise InputError("the plan trains on no language", hint="export a plan with tokens")
    text = TRAINERS[trainer](mixture)
    return text if trainer == "csv" else f"{_heading(plan, mixture, trainer)}{text}"


def _heading(plan: Plan, mixture: Sequence[MixtureEntry], trainer: str) -> str:
    lines = [
        f"Mixture for {trainer}: {count(plan.params)} parameters, {count(sum(e.tokens for e in mixture))} tokens.",
        *map(str, mixture),
        f"Put your own paths in place of those that begin with {DATA}.",
    ]
    return "".join(f"# {line}\n" for line in lines)


def _weight(entry: MixtureEntry) -> str:
    return f"{entry.weight:.8f}"


def _megatron(mixture: Sequence[MixtureEntry]) -> str:
    """Pairs of weight and prefix, as --data-path takes them."""
    pairs = "".join(f"    {_weight(entry)} {DATA}/{entry.language}_text_document\n" for entry in mixture)
    total = sum(entry.tokens for entry in mixture)
    return (
        f"# --train-samples is {total} tokens divided by the sequence length.\nDATA_ARGS=(\n  --data-path\n{pairs})\n"
    )


def _nanotron(mixture: Sequence[MixtureEntry]) -> str:
    folders = "".join(f"      - {DATA}/{entry.language}\n" for entry in mixture)
    weights = "".join(f"      - {_weight(entry)}\n" for entry in mixture)
    return (
        "data_stages:\n- name: mixture\n  start_training_step: 1\n  data:\n    seed: 0\n    dataset:\n"
        f"      dataset_folder:\n{_indent(folders)}      dataset_weights:\n{_indent(weights)}"
    )


def _levanter(mixture: Sequence[MixtureEntry]) -> str:
    configs = "".join(
        f'    {_key(e)}:\n      train_urls:\n        - "{DATA}/{e.language}/*.jsonl.gz"\n' for e in mixture
    )
    weights = "".join(f"    {_key(entry)}: {_weight(entry)}\n" for entry in mixture)
    return f"data:\n  configs:\n{configs}  train_weights:\n{weights}"


def _olmo_core(mixture: Sequence[MixtureEntry]) -> str:
    """Sources of a SourceMixtureDatasetConfig."""
    sources = "".join(
        f"- source_name: {_key(entry)}\n  target_ratio: {_weight(entry)}\n  max_repetition_ratio: {entry.passes:.1f}\n"
        f'  paths:\n  - "{DATA}/{entry.language}/*.npy"\n'
        for entry in mixture
    )
    return f"# requested_tokens: {sum(entry.tokens for entry in mixture)}\nsources:\n{_indent(sources, 2)}"


def _olmix(mixture: Sequence[MixtureEntry]) -> str:
    sources = "".join(
        f"  - name: {_key(entry)}\n    max_repetition_factor: {entry.passes:.1f}\n"
        f'    paths:\n      - "{DATA}/{entry.language}/*.npy"\n'
        for entry in mixture
    )
    names = ",".join(entry.language for entry in mixture)
    row = ",".join(map(_weight, mixture))
    return f"# The mixture as a row of ratios.csv:\n# run,{names}\n# plan,{row}\nsources:\n{sources}"


def _huggingface(mixture: Sequence[MixtureEntry]) -> str:
    loads = "".join(
        f'    load_dataset("json", data_files="{DATA}/{entry.language}/*.jsonl.gz", split="train", streaming=True),\n'
        for entry in mixture
    )
    weights = ", ".join(map(_weight, mixture))
    return (
        "# Probabilities choose documents, not tokens: correct them by the tokens per document of each language.\n"
        "from datasets import interleave_datasets, load_dataset\n\n"
        f"sources = [\n{loads}]\n"
        f"probabilities = [{weights}]\n"
        'mixture = interleave_datasets(sources, probabilities, seed=0, stopping_strategy="all_exhausted")\n'
    )


def _csv(mixture: Sequence[MixtureEntry]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["language", "weight", "tokens", "unique_tokens", "epochs"])
    for entry in mixture:
        unique = f"{entry.unique_tokens:.0f}" if math.isfinite(entry.unique_tokens) else ""
        writer.writerow(
            [
                entry.language,
                _weight(entry),
                entry.tokens,
                unique,
                "" if entry.epochs is None else f"{entry.epochs:.6g}",
            ]
        )
    return text.getvalue()


def _key(entry: MixtureEntry) -> str:
    """A code in quotation marks: YAML reads `no` as false and `nan` as a number."""
    return json.dumps(entry.language)


def _indent(text: str, spaces: int = 2) -> str:
    return "".join(f"{' ' * spaces}{line}\n" for line in text.splitlines())


# torchtitan takes any iterable dataset, such as this one of Hugging Face.
TRAINERS: Mapping[str, Callable[[Sequence[MixtureEntry]], str]] = {
    "megatron": _megatron,
    "nanotron": _nanotron,
    "levanter": _levanter,
    "olmo-core": _olmo_core,
    "olmix": _olmix,
    "torchtitan": _huggingface,
    "huggingface": _huggingface,
    "csv": _csv,
}
