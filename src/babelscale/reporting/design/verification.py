"""Train what a law recommends for more languages, and test whether the loss rose.

A law says how much larger a model and how many more tokens keep the loss from K to rK languages. `verification` makes
its recommendation a design of two groups, before and after, with several seeds each; `verdict` compares their runs,
language by language.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from babelscale import files
from babelscale.errors import InputError, StudyError
from babelscale.fitting import Fit
from babelscale.planning import expand
from babelscale.study.design import Design, load, to_toml

if TYPE_CHECKING:
    from babelscale.model.shape import Shape
    from babelscale.runs import Runs

BEFORE, AFTER = "before", "after"


@dataclass(frozen=True)
class Advice:
    """The two models that should have one loss; `tokens` are of all languages together."""

    languages: tuple[int, int]
    params: tuple[int, int]
    tokens: tuple[float, float]
    source: str


def verification(
    design: Design,
    before: Sequence[str],
    after: Sequence[str],
    size: str,
    tokens: float,
    *,
    fit: Fit | None = None,
    seeds: int = 3,
) -> str:
    """The text of a design that tests a law's recommendation for more languages.

    Args:
        design: its corpus, tokenizer, recipe and sizes are used.
        before, after: languages, sampled evenly; the second must contain the first.
        tokens: D of the smaller mixture, all languages together.
        fit: of the multilinguality law; by default the published exponents of the ATLAS study.

    Raises:
        InputError: the mixtures do not nest, a language or size is not the design's, or no number of tokens suffices.
    """
    for code in (*before, *after):
        if code not in design.languages:
            raise InputError(f"{code!r} is not among the design's languages", hint=", ".join(design.languages))
    if not set(before) < set(after):
        raise InputError("the larger mixture must contain the smaller one and more", hint="add languages to --to")
    if size not in design.sizes:
        raise InputError(f"the design has no size {size!r}", hint=f"the design has {', '.join(design.sizes)}")
    if seeds < 2:
        raise InputError(f"{seeds} seeds do not measure the scatter between seeds", hint="give 2 or more")
    shape = design.shape(size)
    few, many = len(before), len(after)
    wanted = shape.params * expand(few, many, fit=fit).params.value
    grown = _grown(shape, wanted)
    found = expand(few, many, params=shape.params, tokens=tokens, fit=fit, sizes=(grown.params / wanted,))
    more = tokens * found.frontier[0].tokens.value
    if not math.isfinite(more):
        raise InputError("no number of tokens keeps the loss at this size", hint="start from a larger size")
    source = (
        f"fit on {fit.target}, {fit.metric}" if fit else "published exponents of the ATLAS study (arXiv 2510.22037)"
    )
    advice = Advice((few, many), (shape.params, grown.params), (tokens, more), source)
    recipe = asdict(design.training_recipe(size))
    return _design(design, (before, after), (shape, grown), advice, seeds, recipe)


def _grown(shape: "Shape", params: float) -> "Shape":
    """The shape of the same depth and head size whose widths grow in proportion and whose parameters come closest."""
    step = 8 if shape.d_model >= 64 else 2

    def wide(d_model: int) -> "Shape":
        ratio = d_model / shape.d_model
        heads = max(1, round(shape.heads * ratio))
        return replace(shape, heads=heads, d_model=d_model, d_ff=round(shape.d_ff * ratio / step) * step or step)

    return min(map(wide, range(step, 8 * shape.d_model, step)), key=lambda one: abs(math.log(one.params / params)))


def _design(
    design: Design,
    languages: tuple[Sequence[str], Sequence[str]],
    shapes: "tuple[Shape, Shape]",
    advice: Advice,
    seeds: int,
    recipe: Mapping[str, Any],
) -> str:
    """The design of the two groups as TOML."""
    sides = list(zip((BEFORE, AFTER), languages, shapes, advice.tokens, strict=True))
    few, many = advice.languages
    made = {
        "name": f"{design.name}-verification",
        "title": f"From {few} to {many} languages at equal loss",
        "languages": design.languages,
        "corpus": design.corpus,
        "tokenizer": design.tokenizer,
        "recipe": recipe,
        "sizes": {
            name: {key: value for key, value in shape.identity().items() if key != "vocabulary"}
            for name, _, shape, _ in sides
        },
        "groups": [
            {
                "name": name,
                "why": f"{len(codes)} languages at {shape.params:,} parameters",
                "mixture": "uniform",
                "languages": codes,
                "sizes": [name],
                "tokens": [float(f"{tokens:.6g}")],
                "seeds": range(seeds),
            }
            for name, codes, shape, tokens in sides
        ],
        "analysis": {"verification": asdict(advice)},
    }
    about = f"Does the loss rise from {few} to {many} languages at the recommended size and tokens?\n"
    return to_toml(load(made), f"{about}Recommendation: {advice.source}.")


@dataclass(frozen=True)
class Verdict:
    """The change of the loss, as a share of the loss before, with 90 % intervals over the seeds.

    `languages` holds (change, low, high) of each language of the smaller mixture, `mean` that of their mean. `answer`
    says whether the loss rose, did not rise by more than `margin`, or whether more seeds are needed.
    """

    languages: Mapping[str, tuple[float, float, float]]
    mean: tuple[float, float, float]
    margin: float
    answer: str
    metric: str
    advice: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return {"kind": "verification", **asdict(self)}

    def __str__(self) -> str:
        (K, K2), (N, N2), (D, D2) = (self.advice[name] for name in ("languages", "params", "tokens"))
        lines = [
            f"{K} languages, {N:,} parameters, {D:,.0f} tokens -> {K2} languages, {N2:,} parameters, {D2:,.0f} tokens",
            f"  recommendation: {self.advice['source']}",
            f"  change of the loss ({self.metric.replace('_', ' ')}), 90 % interval over seeds",
        ]
        for name, (change, low, high) in [*self.languages.items(), ("mean", self.mean)]:
            lines.append(f"  {name:<8}{100 * change:+7.2f} %   {100 * low:+.2f} to {100 * high:+.2f} %")
        return "\n".join([*lines, f"the loss {self.answer}"])


def verdict(runs: "Runs", design: Design, groups: Mapping[str, Sequence[str]], *, margin: float = 0.01) -> Verdict:
    """The result of a verification's finished runs.

    Args:
        groups: names of the runs before and after.
        margin: a rise of the mean below this share of the loss counts as none.

    Raises:
        InputError: the design is not a verification.
        StudyError: too few of its runs are finished.
    """
    advice = design.analysis.get("verification")
    if advice is None:
        raise InputError(f"design {design.name!r} is not a verification", hint="`babelscale study verify` writes one")
    codes = next(group.languages for group in design.groups if group.name == BEFORE) or ()
    losses = {side: _losses(runs, codes, groups[side]) for side in (BEFORE, AFTER)}
    if any(len(values) < 2 for values in losses.values()):
        raise StudyError(
            f"{design.name}: {', '.join(f'{len(v)} runs {side}' for side, v in losses.items())} are finished",
            hint="train at least two of each: `babelscale study run`",
        )
    by_language = {code: _change(*(losses[side][:, k] for side in (BEFORE, AFTER))) for k, code in enumerate(codes)}
    relative = [values / losses[BEFORE].mean(axis=0) for values in losses.values()]
    mean = _change(*(values.mean(axis=1) for values in relative))
    if mean[1] > 0:
        answer = "rose"
    elif mean[2] < margin:
        answer = f"did not rise by more than {100 * margin:g} %"
    else:
        answer = "may have risen or not: the interval holds both; train more seeds"
    return Verdict(by_language, mean, margin, answer, runs.metric, advice)


def _losses(runs: "Runs", codes: Sequence[str], names: Sequence[str]) -> np.ndarray:
    """Final losses of the named runs that are finished, shape (run, language)."""
    observed = [runs.observations(code, lr_state="decayed") for code in codes]
    found = [dict(zip(o.run, np.asarray(o.loss), strict=True)) for o in observed]
    rows = [[losses[name] for losses in found] for name in names if all(name in losses for losses in found)]
    return np.array(rows).reshape(-1, len(codes))


def _change(before: np.ndarray, after: np.ndarray) -> tuple[float, float, float]:
    """Relative change of the mean, with Welch's 90 % interval."""
    between = stats.ttest_ind(after, before, equal_var=False).confidence_interval(0.9)
    whole = float(before.mean())
    return float(after.mean()) / whole - 1, float(between.low) / whole, float(between.high) / whole


def write(text: str, path: Path) -> Path:
    """Write a design; one that exists is not overwritten.

    Raises:
        InputError: the file exists.
    """
    if path.exists():
        raise InputError(f"{path} exists already", hint="give another file with --out")
    return files.write_text(path, text)
