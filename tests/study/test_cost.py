"""What a study would cost: sums over its runs, where it would be trained, and what of it is done."""

import json
import shutil
from pathlib import Path

import pytest

from babelscale.corpora.store import TokenStore
from babelscale.errors import InputError
from babelscale.study import Study, cost, load
from babelscale.study.design import Design, parse
from babelscale.study.devices import DEVICES, by_name
from babelscale.study.spec import expand


def whole(design: Design):
    sizes, _ = cost.unique_tokens(design)
    return {spec.name: spec for specs in expand(design, sizes, "", "").values() for spec in specs}


def test_totals_are_sums_over_runs_that_count_once(tiny_text: str):
    design = parse(tiny_text, "tiny.toml")
    found = cost.estimate(design)
    runs = whole(design).values()
    assert (found.runs, found.tokens) == (len(runs), sum(run.tokens for run in runs))
    assert found.flops == sum(run.flops for run in runs)
    first = "[[groups]]" + tiny_text.split("[[groups]]")[1].replace('name = "mono"', 'name = "again"')
    twice = parse(tiny_text + first, "twice.toml")
    again = cost.estimate(twice)
    assert len(again.groups) == len(found.groups) + 1
    assert (again.runs, again.flops) == (found.runs, found.flops)


def test_hours_fall_with_devices_and_throughput(tiny_text: str):
    design = parse(tiny_text, "tiny.toml")
    one = cost.estimate(design, throughput=1e9, devices=1)
    assert one.hours == pytest.approx((one.flops - one.branched) / 1e9 / 3600)
    assert cost.estimate(design, throughput=2e9, devices=4).hours == pytest.approx(one.hours / 8)
    for bad in ({"throughput": 0.0}, {"devices": -1}, {"throughput": float("nan")}, {"device": "abacus"}):
        with pytest.raises(InputError, match=r"throughput|devices|abacus"):
            cost.estimate(design, **bad)  # pyright: ignore[reportArgumentType]


def test_a_branch_costs_its_decay_alone(tiny_text: str):
    design = parse(tiny_text.replace("tokens = [4e3]", "tokens = [4e4, 8e4]", 1), "tiny.toml")
    runs = whole(design)
    short = next(run for run in runs.values() if run.mixture.languages == ("sv",) and run.steps == 312)
    saved = short.flops * short.recipe.phases(short.steps)[1] / short.steps
    assert cost.estimate(design).branched == pytest.approx(2 * saved)


def test_small_models_leave_an_accelerator_idle():
    device = by_name("h200")
    rates = [device.flops_per_second(params) for params in (9e6, 25e6, 67e6, 146e6, 8e9)]
    assert rates == sorted(rates)
    assert rates[-1] == pytest.approx(0.35 * 989e12)
    assert all(device.source for device in DEVICES.values())


def test_part_of_a_design_costs_what_it_continues_from_too(tiny_text: str):
    found = cost.estimate(parse(tiny_text, "tiny.toml"), only=["continued"])
    assert [group.name for group in found.groups] == ["continued"]
    assert found.runs == 2
    with pytest.raises(InputError, match="no group 'nothing'"):
        cost.estimate(parse(tiny_text, "tiny.toml"), only=["nothing"])


def test_storage_counts_states_logs_and_text(tiny_text: str):
    design = parse(tiny_text, "tiny.toml")
    found = cost.estimate(design)
    base = next(run for run in whole(design).values() if run.size == "s" and len(run.mixture.languages) == 3)
    assert found.storage.states == 12 * base.shape.params
    # 60,000 bytes of three languages at 2.15 bytes a token, two bytes each.
    assert found.storage.token_stores == pytest.approx(3 * 6e4 / 2.15 * 2)
    assert found.storage.total == sum((found.storage.states, found.storage.logs, found.storage.token_stores))
    kept = parse(tiny_text.replace('name = "pair"', 'name = "pair"\nkeep_state = true'), "tiny.toml")
    assert cost.estimate(kept).storage.states > found.storage.states


def test_the_largest_model_may_need_several_devices():
    found = cost.estimate(load("atlas-2025"), device="a100")
    assert found.largest.params == 8_452_190_208
    assert found.largest.devices == 3
    assert cost.estimate(load("quickstart")).largest.devices is None


def test_designs_cost_what_they_promise():
    night = cost.estimate(load("laptop"), devices=2)
    assert 6 < night.hours < 10
    day = cost.estimate(load("single-gpu"), device="h200")
    assert 18 < day.hours < 24


def test_a_result_is_json_and_text(tiny_text: str):
    found = cost.estimate(parse(tiny_text, "tiny.toml"))
    held = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert held["runs"] == found.runs
    assert held["storage"]["total"] == found.storage.total
    assert "total" in str(found)


@pytest.fixture(scope="module")
def begun(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared study of which two runs are finished."""
    study = Study.create(tiny, tmp_path_factory.mktemp("begun") / "study")
    study.prepare()
    for name in [name for name in study.specs if name not in study.trunks][:2]:
        folder = study.finished(name)
        folder.mkdir(parents=True)
        (folder / "record.json").write_text("{}")
        (folder / "timing.json").write_text(json.dumps({"seconds": study.specs[name].flops / 5e9}))
    return study.folder


def test_what_is_done_is_told_with_its_measured_rate(tiny_text: str, begun: Path):
    design = parse(tiny_text, "tiny.toml")
    found = cost.estimate(design, folder=begun, devices=1)
    assert found.done is not None
    assert found.done.runs == 2
    assert found.done.throughput == pytest.approx(5e9, rel=1e-3)
    assert found.hours == pytest.approx(found.flops / 5e9 / 3600, rel=1e-2)
    assert 0 < found.done.hours_left < found.hours
    assert "2 runs finished" in str(found)
    assert cost.estimate(design, folder=begun / "nowhere").done is None


def test_a_damaged_timing_names_its_file(tiny_text: str, begun: Path, tmp_path: Path):
    folder = shutil.copytree(begun, tmp_path / "study")
    next(folder.glob("finished/*/timing.json")).write_text("{")
    with pytest.raises(InputError, match=r"timing\.json: the whole file: Invalid JSON"):
        cost.estimate(parse(tiny_text, "tiny.toml"), folder=folder)


def test_a_text_dealt_out_by_passages_gives_tokens_by_weight():
    design = load("atlas-miniature")
    sizes, (told,) = cost.unique_tokens(design)
    assert sizes["en"] / sizes["sv"] == pytest.approx(7.4 / 2)
    assert sum(sizes.values()) == pytest.approx(4.4e6 * (1 - 0.016) / 2.15)
    assert "weights of its passages" in told


def test_prepared_text_is_counted_and_must_hold_every_language(tiny_text: str, begun: Path):
    design = parse(tiny_text, "tiny.toml")
    sizes, (told,) = cost.unique_tokens(design, begun)
    assert sizes == dict(TokenStore.open(begun / "corpus").unique_tokens)
    assert "counted in the prepared text" in told
    assert told in cost.estimate(design, folder=begun).assumptions
    assert cost.unique_tokens(design, begun / "nowhere") == cost.unique_tokens(design)
    other = design.model_copy(update={"languages": (*design.languages, "yo")})
    with pytest.raises(InputError, match=r"store\.json: no language 'yo'"):
        cost.unique_tokens(other, begun)
