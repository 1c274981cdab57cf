"""A law's advice as a design, and the verdict of its runs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from babelscale import published
from babelscale.allocation import Allocation
from babelscale.errors import InputError, StudyError
from babelscale.fitting import Fit, fit
from babelscale.laws import Multilinguality
from babelscale.reporting.design import verification as verify
from babelscale.runs import Runs
from babelscale.study import design as designs
from babelscale.study.spec import expand

PARAMETERS = {"E": 0.8, "A": 30.0, "B": 400.0, "alpha": 0.4, "beta": 0.45, "phi": 0.12, "psi": -0.05}
BEFORE, AFTER = ["sv", "da"], ["sv", "da", "id", "ms", "es", "fr"]


def even(languages: list[str], params: float, tokens: float) -> Allocation:
    return Allocation(params, {code: tokens / len(languages) for code in languages})


@pytest.fixture(scope="module")
def fitted() -> Fit:
    """The law with these numbers, fitted to runs drawn from it without noise."""
    law = Multilinguality("sv")
    return replace(fit(law, _runs(law), resamples=0), parameters=PARAMETERS)


def _runs(law: Multilinguality) -> Runs:
    grid = [(codes, N, D) for codes in (BEFORE, AFTER) for N in (1e5, 3e5, 1e6) for D in (1e6, 4e6, 2e7)]
    runs = [{"run": f"r{k}", "params": N, "tokens": D} for k, (_, N, D) in enumerate(grid)]
    exposure, losses = [], []
    for k, (codes, N, D) in enumerate(grid):
        exposure += [{"run": f"r{k}", "step": 1, "language": c, "tokens": D / len(codes)} for c in codes]
        losses.append(
            {
                "run": f"r{k}",
                "step": 1,
                "language": "sv",
                "split": "validation",
                "lr_state": "decayed",
                "nats": float(law.loss(PARAMETERS, even(codes, N, D))) * 1000,
                "tokens": 1000.0,
            }
        )
    return Runs.of(pl.DataFrame(runs), pl.DataFrame(exposure), pl.DataFrame(losses))


def test_the_design_keeps_the_loss_of_the_fit(fitted: Fit):
    design = designs.load("quickstart")
    made = designs.parse(verify.verification(design, BEFORE, AFTER, "s", 4e5, fit=fitted), "v.toml")
    groups = expand(made, dict.fromkeys(made.languages, 1e9), "c", "t")
    before, after = (groups[name][0] for name in ("before", "after"))
    assert [len(groups[name]) for name in ("before", "after")] == [3, 3]
    assert after.shape.params > before.shape.params == design.shape("s").params
    assert before.recipe == design.training_recipe("s")
    losses = [
        float(Multilinguality("sv").loss(PARAMETERS, even(codes, spec.shape.params, spec.tokens)))
        for codes, spec in ((BEFORE, before), (AFTER, after))
    ]
    assert losses[1] == pytest.approx(losses[0], rel=2e-4)


def test_without_a_fit_the_printed_multipliers_stand():
    design = designs.load("quickstart")
    made = designs.parse(verify.verification(design, BEFORE, AFTER[:4], "m", 4e5), "v.toml")
    advice = made.analysis["verification"]
    law = published.multilinguality()
    assert advice["params"][1] == pytest.approx(advice["params"][0] * 2**law.params_exponent, rel=0.03)
    assert advice["tokens"][1] == pytest.approx(4e5 * 2**law.tokens_exponent, rel=0.05)


@pytest.mark.parametrize(
    ("before", "after", "size", "said"),
    [
        (["sv", "fi"], AFTER, "s", "'fi' is not among"),
        (["sv", "ru"], ["sv", "da"], "s", "must contain the smaller one"),
        (BEFORE, AFTER, "xl", "no size 'xl'"),
    ],
)
def test_what_cannot_be_checked_is_refused(before, after, size, said):
    with pytest.raises(InputError, match=said):
        verify.verification(designs.load("quickstart"), before, after, size, 4e5)


def table(after: float, seeds: int = 4, noise: float = 0.002) -> tuple[Runs, dict[str, list[str]]]:
    """Finished runs of a verification whose losses after are `after` times those before."""
    rng = np.random.default_rng(0)
    groups = {side: [f"{side}-{k}" for k in range(seeds)] for side in ("before", "after")}
    runs, exposure, losses = [], [], []
    for side, codes in (("before", BEFORE), ("after", AFTER)):
        for name in groups[side]:
            runs.append({"run": name, "params": 1e5, "tokens": 1e6})
            exposure += [{"run": name, "step": 1, "language": c, "tokens": 1e6 / len(codes)} for c in codes]
            for code in codes:
                level = (3.0 if code == "sv" else 4.0) * (after if side == "after" else 1) * (1 + noise * rng.normal())
                losses.append(
                    {
                        "run": name,
                        "step": 1,
                        "language": code,
                        "split": "validation",
                        "lr_state": "decayed",
                        "nats": 1000 * level,
                        "tokens": 1000.0,
                    }
                )
    return Runs.of(pl.DataFrame(runs), pl.DataFrame(exposure), pl.DataFrame(losses)), groups


@pytest.mark.parametrize(
    ("after", "noise", "said"),
    [(1.0, 0.002, "did not rise by more than 1 %"), (1.05, 0.002, "rose"), (1.04, 0.05, "may have risen or not")],
)
def test_the_verdict_says_what_the_seeds_can_tell(after: float, noise: float, said: str):
    text = verify.verification(designs.load("quickstart"), BEFORE, AFTER, "s", 4e5)
    runs, groups = table(after, noise=noise)
    told = verify.verdict(runs, designs.parse(text, "v.toml"), groups)
    assert told.answer.startswith(said)
    assert set(told.languages) == set(BEFORE)
    assert told.mean[1] < told.mean[0] < told.mean[2]
    assert said in str(told)
    assert told.to_dict()["mean"] == told.mean


def test_too_few_runs_and_other_designs_have_no_verdict(tmp_path: Path):
    text = verify.verification(designs.load("quickstart"), BEFORE, AFTER, "s", 4e5)
    runs, groups = table(1.0)
    with pytest.raises(StudyError, match="1 runs before, 4 runs after are finished"):
        verify.verdict(runs, designs.parse(text, "v.toml"), groups | {"before": ["before-0", "lost"]})
    with pytest.raises(InputError, match="is not a verification"):
        verify.verdict(runs, designs.load("quickstart"), groups)
    verify.write(text, tmp_path / "v.toml")
    with pytest.raises(InputError, match="exists already"):
        verify.write(text, tmp_path / "v.toml")
