"""What a whole design can measure before it is trained: every law, every target, every contrast of its runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from babelscale import laws
from babelscale.allocation import Allocation
from babelscale.corpora.store import STORE
from babelscale.errors import InputError
from babelscale.fitting.simulation import runs_of
from babelscale.laws import Chinchilla
from babelscale.reporting.design.contrasts import DesignAnswer, Noise, contrasts, noise_of
from babelscale.reporting.design.default_parameters import default_parameters
from babelscale.reporting.design.power import AHEAD, ExpectedParameter, Power, Progress, allocation_of, power, specs_of
from babelscale.reporting.design.simulated_contrasts import laws_apart, number_of_languages, repetition
from babelscale.reporting.design.transfer_contrasts import pairs_by_size, transfer_questions
from babelscale.runs import Runs
from babelscale.study import cost
from babelscale.study.design import Design, load
from babelscale.study.spec import RunSpec
from babelscale.study.study import Study


@dataclass(frozen=True)
class StudyPower:
    """What a design can measure.

    Attributes:
        laws: one entry for every law and target.
        questions: what the design's contrasts can measure.
        assumptions: sentences on the text, on runs left out and on assumed values.
    """

    design: str
    noise: Noise
    laws: tuple[Power, ...]
    questions: tuple[DesignAnswer, ...]
    assumptions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "design": self.design,
            "noise": asdict(self.noise),
            "laws": [row.to_dict() for row in self.laws],
            "questions": [answer.to_dict() for answer in self.questions],
            "assumptions": list(self.assumptions),
        }

    def __str__(self) -> str:
        noise = f"{self.design}: the loss scatters by {100 * self.noise.sd:.2g} % between seeds ({self.noise.source})"
        lines = [noise, "", *([str(self.laws[0])] if len(self.laws) == 1 else _table(self.laws))]
        question = ""
        for answer in self.questions:
            if answer.question != question:
                question = answer.question
                lines += ["", question]
            lines.append(f"  {answer}")
        return "\n".join([*lines, "", *self.assumptions])


def study_power(  # noqa: PLR0913 - each is an option of `babelscale study power`
    design: Design | str | Path,
    law: str | None = None,
    target: str | None = None,
    *,
    folder: str | Path | None = None,
    parameters: Mapping[str, float] | None = None,
    tables: int = 8,
    noise: float | None = None,
    apart: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> StudyPower:
    """Which parameters of which law a design identifies and how well, and what its contrasts can measure.

    Args:
        design: a built-in name, a TOML file or a design.
        law: by default every law of `laws.LAWS`.
        target: by default the targets of the design's analysis, or its first language.
        folder: of the study. If its text is prepared, its token counts are used; if it has finished runs that differ
            in their seeds alone, their scatter is the noise.
        parameters: values of the assumed laws that replace the default ones.
        tables: simulated tables for every law and target.
        noise: standard deviation of log loss between seeds, in place of the measured or default one.
        apart: also compare laws on tables drawn from each (`laws_apart`).
        progress: called with (label, done, total).

    Raises:
        InputError: no such design, law, target or parameter.
    """
    design = load(design)
    sizes, assumptions = cost.unique_tokens(design, folder)
    specs = specs_of(design, sizes)
    allocation, left_out = allocation_of(specs, sizes)
    scatter = noise_of(specs, noise, *_finished(folder))
    targets = targets_of(design, target)
    rows = law_rows(
        allocation, targets, law, parameters=parameters, noise=scatter.sd, tables=tables, seed=seed, progress=progress
    )
    slope = _slope(allocation, parameters)
    answers = [
        *contrasts(specs, scatter),
        *repetition(specs, sizes, scatter, tables, seed, progress),
        *transfer_questions(specs, scatter, slope, sizes),
        *number_of_languages(specs, sizes, targets, scatter, tables, seed, progress),
        *(laws_apart(allocation, targets[0], scatter, tables, seed, progress) if apart else ()),
    ]
    steepness = [slope(code, pairs.params, pairs.anchor) for pairs in pairs_by_size(specs) for code in pairs.languages]
    if steepness:
        low, high = (100 * (1 - 2**-x) for x in (min(steepness), max(steepness)))
        assumptions.append(
            f"Transfer: the loss at the anchor is assumed to fall by {low:.2g} to {high:.2g} % per doubling of tokens."
        )
    if design.holdout.sizes or design.holdout.groups:
        assumptions.append("The runs of the design's holdout count like the other runs.")
    assumptions.append("Every law is simulated from itself. Real runs deviate from a law, so real intervals are wider.")
    return StudyPower(design.name, scatter, rows, tuple(answers), (*assumptions, *left_out))


def targets_of(design: Design, target: str | None = None) -> tuple[str, ...]:
    """The target languages: the one named, those of the design's analysis, or its first language.

    Raises:
        InputError: a target is not a language of the design, or the design does not list its targets.
    """
    wanted = [target] if target is not None else design.analysis.get("targets") or [design.languages[0]]
    if not isinstance(wanted, list | tuple) or any(code not in design.languages for code in wanted):
        place = f"analysis.targets is {wanted!r}" if target is None else f"the design does not train on {target!r}"
        hint = f"name languages of the design: {', '.join(design.languages)}"
        raise InputError(f"design {design.name!r}: {place}", hint=hint)
    return tuple(wanted)


def law_rows(
    allocation: Allocation,
    targets: Sequence[str],
    law: str | None = None,
    *,
    parameters: Mapping[str, float] | None = None,
    noise: float,
    tables: int,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Power, ...]:
    """`power` of every law of `laws.LAWS` (or of one) on every target, with one progress bar."""
    bare = runs_of(allocation)
    for target in targets:
        if target not in bare.languages:
            raise InputError(
                f"the design does not train on {target!r}", hint=f"it trains on {', '.join(bare.languages)}"
            )
    forms = [laws.by_name(name, target, bare) for name in ([law] if law else laws.LAWS) for target in targets]
    fixed = dict(parameters or {})
    if unused := [name for name in fixed if not any(name in form.parameter_names for form in forms)]:
        raise InputError(f"no law has a parameter {unused[0]!r}", hint=f"laws: {', '.join(laws.LAWS)}")
    return tuple(
        power(
            allocation,
            form,
            form.target,
            parameters={name: value for name, value in fixed.items() if name in form.parameter_names},
            tables=tables,
            noise=noise,
            seed=seed,
            progress=_part(progress, done * tables, len(forms) * tables),
        )
        for done, form in enumerate(forms)
    )


def _part(progress: Progress | None, before: int, total: int) -> Progress | None:
    """Report the progress of one part as progress of the whole."""
    if progress is None:
        return None
    return lambda label, done, _: progress(label, before + done, total)


def _finished(folder: str | Path | None) -> tuple[Runs | None, Mapping[str, RunSpec] | None]:
    """The finished runs of a study and its specifications by name; None where no study is prepared."""
    if folder is None or not (Path(folder) / "corpus" / STORE).exists():
        return None, None
    study = Study.open(folder)
    return study.runs(), study.specs


def _slope(allocation: Allocation, parameters: Mapping[str, float] | None) -> Callable[[str, float, float], float]:
    """-dlog L / dlog D of a language's monolingual curve, under the assumed Chinchilla law of its runs."""
    assumed: dict[str, dict[str, float]] = {}

    def slope(code: str, params: float, tokens: float) -> float:
        if code not in assumed:
            law = Chinchilla(code)
            fixed = {name: value for name, value in (parameters or {}).items() if name in law.parameter_names}
            assumed[code] = default_parameters(law, allocation.at(law.defined(allocation)), fixed)[0]
        p = assumed[code]
        data = p["B"] / tokens ** p["beta"]
        return p["beta"] * data / (p["E"] + p["A"] / params ** p["alpha"] + data)

    return slope


def _table(rows: Sequence[Power]) -> list[str]:
    """A line for every law and target, and one for each parameter that is not identified."""
    width = max(len(row.law) for row in rows) + 2
    head = f"{'law':<{width}}{'target':<8}{'runs':>5}  {'curve, new run at ' + f'{AHEAD:g}x':<26}"
    lines = [f"{head}identified: half the 90 % interval as a share of the assumed value"]
    for row in rows:
        ahead = "-"
        if row.curve is not None and row.new_run is not None:
            ahead = f"±{50 * row.curve:.2g} %, ±{50 * row.new_run:.2g} %"
        known = ", ".join(f"{p.name} {_share(p)}" for p in row.parameters if p.identified and not _is_vague(p))
        lines.append(f"{row.law:<{width}}{row.target:<8}{row.runs:>5}  {ahead:<26}{known or 'none'}")
        if vague := [f"{p.name} {_share(p)}" for p in row.parameters if _is_vague(p)]:
            lines.append(f"{'':<{width}}interval as wide as the value or wider: {', '.join(vague)}")
        why = [p.reason or f"{p.name}: {' '.join(row.notes)}" for p in row.parameters if not p.identified]
        lines += [f"{'':<{width}}not identified: {reason}" for reason in dict.fromkeys(why)]
    return lines


def _is_vague(parameter: ExpectedParameter) -> bool:
    """Whether an identified parameter has an interval wider than its value."""
    return parameter.identified and parameter.half_width is not None and 2 * parameter.half_width > 1


def _share(parameter: ExpectedParameter) -> str:
    if parameter.half_width is None:
        return "fixed" if parameter.low is None else f"{parameter.low:.2g} to {parameter.high:.2g}"
    return f"±{100 * parameter.half_width:{'.2g' if parameter.half_width < 1 else '.0f'}} %"
