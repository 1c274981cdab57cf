"""proposal: the next runs of a study that would tell most about transfer between its languages, for a budget.

The first ones deal the languages out evenly over random mixtures. Once a few mixtures are read, the next are those that
shrink the uncertainty of the gains most (`transfer.acquisition`). Languages without a monolingual run, against which
mixtures are read, come first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from babelscale import files
from babelscale.errors import InputError
from babelscale.reporting.kinship import relations
from babelscale.transfer.acquisition import balanced, propose
from babelscale.transfer.measure import from_scratch, trained_on
from babelscale.transfer.mixtures import Estimate, estimate
from babelscale.transfer.readings import read

if TYPE_CHECKING:
    from babelscale.runs import Runs
    from babelscale.study.design import Design
    from babelscale.study.study import Study

WIDTH = 8
# Times the seed of a group's first mixtures moves on, so that a second proposal is not the first again.
_STEP = 1000


@dataclass(frozen=True)
class NextRuns:
    """Runs to train next.

    Attributes:
        design: the study's design with the new groups, ready to run in the same folder.
        baselines: languages that lack a monolingual run.
        mixtures: languages of each new mixture, evenly sampled.
        size, tokens: of each mixture; baseline_tokens of a monolingual run.
        compute: FLOPs of all of them.
        chosen: "evenly" (random, every language equally often) or "by uncertainty".
        sd: root mean square of the standard deviations of the log gains, now and as promised; None before any reading.
    """

    design: "Design"
    baselines: tuple[str, ...]
    mixtures: tuple[tuple[str, ...], ...]
    size: str
    tokens: float
    baseline_tokens: float
    compute: float
    chosen: str
    sd: tuple[float, float] | None

    def to_dict(self) -> dict[str, Any]:
        plain = {name: value for name, value in vars(self).items() if name != "design"}
        plain["mixtures"] = [list(mixture) for mixture in self.mixtures]
        return plain | {"baselines": list(self.baselines), "sd": list(self.sd) if self.sd else None}

    def __str__(self) -> str:
        lines = [
            f"{len(self.mixtures)} mixtures of size {self.size}, {self.tokens:,.0f} tokens each, chosen {self.chosen}"
            + (f"; first {len(self.baselines)} monolingual runs" if self.baselines else "")
            + f"; {self.compute:.3g} FLOPs in all"
        ]
        lines += [f"  {' '.join(mixture)}" for mixture in self.mixtures]
        if self.baselines:
            lines.append(f"monolingual, {self.baseline_tokens:,.0f} tokens each: {' '.join(self.baselines)}")
        if self.sd is not None:
            lines.append(
                f"uncertainty of a log gain (standard deviation over all pairs): {self.sd[0]:.3f} now, "
                f"{self.sd[1]:.3f} after them"
            )
        return "\n".join(lines)

    def save(self, path: Path) -> Path:
        """Write the design as TOML; one that exists is not overwritten.

        Raises:
            InputError: the file exists.
        """
        from babelscale.study.toml import to_toml

        if path.exists():
            raise InputError(f"{path} exists already", hint="name another file with --file")
        about = f"{self.design.name} with {len(self.mixtures)} more mixtures, chosen {self.chosen}.\n"
        about += "Run it in the study's own folder: what is finished there is not trained again."
        return files.write_text(path, to_toml(self.design, about))


def next_runs(
    study: "Study", *, compute: float | None = None, count: int | None = None, width: int | None = None,
    tokens: float | None = None, size: str | None = None, targets: Sequence[str] | None = None, seed: int = 0,
) -> NextRuns:  # fmt: skip
    """Propose the next runs of a study.

    Args:
        study: finished runs are read where there are any.
        compute: FLOPs for all of them; or give `count`, the number of mixtures.
        width: languages of a mixture (default 8, or all where there are fewer).
        tokens: of a mixture (default: as the longest mixture of the study at that size, otherwise half of a
            monolingual run's for each of its languages).
        size: of the design's (default: of the most mixtures, otherwise the first).
        targets: languages whose gains matter (default all).
        seed: of the random mixtures and beginnings.

    Raises:
        InputError: neither or both of compute and count, an unknown size or language, or a budget below one run.
    """
    design = study.design
    if (compute is None) == (count is None):
        raise InputError("give one of compute and count", hint="--compute 1e15, or --count 10")
    runs = study.runs() if (study.folder / "finished").exists() else None
    size = size or _usual_size(study, runs)
    if size not in design.sizes:
        raise InputError(f"the design has no size {size!r}", hint=f"it has {', '.join(design.sizes)}")
    width = min(WIDTH, len(design.languages)) if width is None else width
    params = design.shape(size).params
    trained = _trained(runs, params)
    single = _longest(trained, 1) or _asked(design, size, "monolingual") or tokens
    mixture_tokens = tokens or _longest(trained, 2) or (single * width / 2 if single else None)
    if mixture_tokens is None or single is None:
        raise InputError("the study says nothing of how long its runs are", hint="give --tokens")
    alone = {code for row in trained if len(row) == 1 for code in row}
    baselines = tuple(code for code in design.languages if code not in alone)
    recipe, shape = design.training_recipe(size), design.shape(size)
    rate = shape.flops_per_token(recipe.sequence_length)
    spent, each = len(baselines) * single * rate, mixture_tokens * rate
    if count is None:
        assert compute is not None
        count = int((compute - spent) / each)
        if count < 1:
            raise InputError(
                f"{compute:.3g} FLOPs are less than {len(baselines)} monolingual runs and one mixture take",
                hint=f"give at least {spent + each:.3g}, or fewer --tokens",
            )
    held = _estimate(study, runs, params)
    before = sum(group.name.startswith("next-") for group in design.groups)
    if held is None:
        mixtures = tuple(balanced(design.languages, width, count, seed + _STEP * before))
        chosen, sd = "evenly", None
    else:
        proposal = propose(held, count, width=width, targets=targets, seed=seed)
        mixtures, chosen, sd = proposal.mixtures, "by uncertainty", (proposal.sd[0], proposal.sd[-1])
    grown = _grown(design, baselines, mixtures, size, (single, mixture_tokens), before + 1)
    return NextRuns(
        grown, baselines, mixtures, size, mixture_tokens, single, spent + count * each, chosen, sd
    )  # fmt: skip


def _usual_size(study: "Study", runs: "Runs | None") -> str:
    if runs is not None:
        several = trained_on(from_scratch(runs)).filter(pl.col("language").list.len() > 1)
        sizes = runs.table.filter(pl.col("run").is_in(several["run"].to_list()))["size"].drop_nulls()
        if len(sizes):
            return str(sizes.value_counts().sort("count", "size", descending=True)["size"][0])
    return next(iter(study.design.sizes))


def _trained(runs: "Runs | None", params: int) -> Mapping[tuple[str, ...], float]:
    """Longest run from scratch of each set of languages at one size, in tokens."""
    if runs is None:
        return {}
    scratch = from_scratch(runs)
    rows = trained_on(scratch).join(scratch.table.select("run", "tokens"), on="run").filter(pl.col("params") == params)
    found: dict[tuple[str, ...], float] = {}
    for row in rows.iter_rows(named=True):
        key = tuple(row["language"])
        found[key] = max(found.get(key, 0.0), row["tokens"])
    return found


def _longest(trained: Mapping[tuple[str, ...], float], languages: int) -> float | None:
    """Tokens of the longest run of one language, or of several."""
    fit = [tokens for codes, tokens in trained.items() if (len(codes) == 1) == (languages == 1)]
    return max(fit, default=None)


def _asked(design: "Design", size: str, mixture: str) -> float | None:
    lengths = [
        length
        for group in design.groups
        if group.mixture == mixture and size in group.sizes and not group.continue_from
        for length in design.lengths(group, size)
    ]
    return max(lengths, default=None)


def _estimate(study: "Study", runs: "Runs | None", params: int) -> Estimate | None:
    """The gains as far as they are known, where there are readings enough of every language."""
    if runs is None:
        return None
    try:
        readings = read(runs, params=params)
        known = relations(study.folder, readings.languages)
        found = estimate(readings, known)
    except InputError:
        # Too few mixtures or baselines yet; the first proposals do not need them.
        return None
    return found if set(found.matrix.languages) == set(study.design.languages) else None


def _grown(
    design: "Design", baselines: Sequence[str], mixtures: Sequence[Sequence[str]], size: str,
    tokens: tuple[float, float], number: int,
) -> "Design":  # fmt: skip
    """The design with groups for the baselines and the mixtures."""
    from babelscale.study.design import Group

    groups = list(design.groups)
    if baselines:
        groups.append(
            Group(
                name=f"next-{number}-baselines", why="what the mixtures are read against", mixture="monolingual",
                languages=tuple(baselines), sizes=(size,), tokens=(tokens[0],),
            )
        )  # fmt: skip
    groups.append(
        Group(
            name=f"next-{number}", why="mixtures that tell most about transfer", mixture="shares",
            shares=tuple(dict.fromkeys(mixture, 1.0) for mixture in mixtures), sizes=(size,), tokens=(tokens[1],),
        )
    )  # fmt: skip
    return design.model_copy(update={"groups": tuple(groups)})
