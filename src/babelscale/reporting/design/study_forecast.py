"""What a study costs, how much of it is finished, and how well its runs would identify each law."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from babelscale.study import cost
from babelscale.study.design import Design, load

if TYPE_CHECKING:
    from babelscale.reporting.design.power import Power


@dataclass(frozen=True)
class StudyForecast:
    """A design before it is trained. `power` is empty where it was not requested."""

    estimate: cost.Estimate
    power: "tuple[Power, ...]" = ()

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return self.estimate.to_dict() | {"power": [found.to_dict() for found in self.power]}

    def __str__(self) -> str:
        return "\n\n".join(map(str, (self.estimate, *self.power)))


def forecast_study(  # noqa: PLR0913 - each is an option of `babelscale study plan`
    design: Design | str | Path,
    *,
    device: str | None = None,
    throughput: float | None = None,
    devices: int | None = None,
    only: Collection[str] | None = None,
    folder: str | Path | None = None,
    power: bool = False,
    target: str | None = None,
    tables: int = 10,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> StudyForecast:
    """What a study costs (`cost.estimate`, which takes the first arguments) and what it can measure.

    Args:
        power: simulate and fit tables of the design's runs, for every law of `laws.LAWS`.
        target: the language whose laws are fitted; by default the first target of the design's analysis.
        tables: simulated tables a law.

    Raises:
        InputError: no such design, device, group or language.
    """
    design = load(design)
    found = cost.estimate(design, device=device, throughput=throughput, devices=devices, only=only, folder=folder)
    if not power:
        return StudyForecast(found)
    from babelscale.reporting.design.contrasts import ASSUMED_NOISE
    from babelscale.reporting.design.power import allocation_of, specs_of
    from babelscale.reporting.design.study_power import law_rows, targets_of

    part = design
    if only is not None:
        bases = {group.continue_from for group in design.groups if group.name in only}
        part = design.model_copy(update={"groups": tuple(g for g in design.groups if g.name in {*only, *bases})})
    sizes, _ = cost.unique_tokens(design, folder)
    allocation, left_out = allocation_of(specs_of(part, sizes), sizes)
    targets = targets_of(design, target)[:1]
    rows = law_rows(allocation, targets, noise=ASSUMED_NOISE, tables=tables, seed=seed, progress=progress)
    return StudyForecast(found, tuple(replace(row, assumptions=(*left_out, *row.assumptions)) for row in rows))
