"""Training: the same bytes from the same seed, whether or not it was interrupted."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from babelscale.errors import InputError, StudyError
from babelscale.mixture import Mixture
from babelscale.model import Shape
from babelscale.training.batches import Batches, Stage
from babelscale.training.evaluation import HeldOut
from babelscale.training.loop import Job, train
from babelscale.training.recipe import Recipe

SHAPE = Shape(layers=1, heads=2, d_model=16, d_ff=32, d_head=8, vocabulary=64)
RECIPE = Recipe(batch_size=4, sequence_length=16, evaluations=3, evaluation_tokens=160, checkpoint_every=25)
MIXTURE = Mixture({"sw": 0.5, "yo": 0.5})


def job(steps: int = 60, **changes) -> Job:
    rng = np.random.default_rng(0)
    tokens = {code: rng.integers(0, 64, 1000).astype(np.uint16) for code in MIXTURE.languages}
    batches = Batches(tokens, MIXTURE, 0, RECIPE.batch_size, RECIPE.sequence_length)
    held_out = tuple(
        HeldOut.of(code, tokens[code], np.full(64, 3, np.uint16), np.full(64, np.log(64)), 16, 160)
        for code in MIXTURE.languages
    )
    return replace(Job(SHAPE, RECIPE, steps, 0, batches, held_out), **changes)


def two_stages() -> Batches:
    """Both languages, and Yoruba alone from step 35 on."""
    batches = job().batches
    second = Stage(35, Mixture({"yo": 1.0}))
    return Batches(batches.tokens, MIXTURE, 0, RECIPE.batch_size, RECIPE.sequence_length, second)


class Stopped(Exception):
    pass


def test_two_runs_of_one_seed_leave_the_same_bytes(tmp_path: Path):
    first, second, other = (tmp_path / name for name in ("a", "b", "c"))
    assert train(job(), first).read_bytes() == train(job(), second).read_bytes()
    assert train(job(seed=1), other).read_bytes() != (first / "log.jsonl").read_bytes()


@pytest.mark.parametrize("when", [10, 30, 55])
@pytest.mark.parametrize("changes", [{}, {"batches": two_stages()}], ids=["one stage", "two stages"])
def test_an_interrupted_run_goes_on_to_the_same_bytes(tmp_path: Path, when: int, changes: dict):
    def stop(step: int, loss: float) -> None:
        if step >= when:
            raise Stopped

    whole = train(job(**changes), tmp_path / "whole").read_bytes()
    with pytest.raises(Stopped):
        train(job(**changes), tmp_path / "cut", progress=stop)
    # A kill may cut the last line short.
    with (tmp_path / "cut" / "log.jsonl").open("a") as log:
        log.write('{"step": 3')
    assert train(job(**changes), tmp_path / "cut").read_bytes() == whole


def test_a_second_stage_changes_what_follows_its_boundary_alone(tmp_path: Path):
    one, two = (train(made, tmp_path / name) for name, made in (("a", job()), ("b", job(batches=two_stages()))))
    first, second = ([json.loads(line) for line in log.read_text().splitlines()] for log in (one, two))
    assert [e for e in first if e["step"] <= 35] == [e for e in second if e["step"] <= 35]
    assert all(a != b for a, b in zip(first, second, strict=True) if a["step"] > 36)
    # One learning-rate schedule over both.
    assert [e.get("learning_rate") for e in first] == [e.get("learning_rate") for e in second]


def test_the_log_holds_every_step_and_every_evaluation(tmp_path: Path):
    entries = [json.loads(line) for line in train(job(), tmp_path).read_text().splitlines()]
    assert [entry["step"] for entry in entries if "loss" in entry] == list(range(1, 61))
    evaluated = [entry for entry in entries if "language" in entry]
    assert [(e["step"], e["lr_state"]) for e in evaluated if e["language"] == "sw"] == [
        (step, "decayed" if step == 60 else "stable") for step in RECIPE.evaluation_steps(60)
    ]
    assert all(e["tokens"] == 160 and e["bytes"] == 480 for e in evaluated)
    assert evaluated[0]["unigram_nats"] == pytest.approx(160 * np.log(64))


def test_a_tiny_model_overfits_one_batch(tmp_path: Path):
    tokens = {"sw": np.random.default_rng(2).integers(0, 64, 65).astype(np.uint16)}
    alone = Mixture({"sw": 1.0})
    recipe = replace(RECIPE, learning_rate=1e-2, weight_decay=0.0, checkpoint_every=1000)
    one = job(400, recipe=recipe, batches=Batches(tokens, alone, 0, 4, 16), held_out=())
    losses = [json.loads(line)["loss"] for line in train(one, tmp_path).read_text().splitlines()]
    assert losses[0] > 3
    assert losses[-1] < 0.05


def test_a_run_continues_from_another_with_a_fresh_schedule(tmp_path: Path):
    train(job(), tmp_path / "base", keep_state=True)
    log = train(job(20, base=tmp_path / "base" / "state"), tmp_path / "next").read_text().splitlines()
    fresh = train(job(20), tmp_path / "fresh").read_text().splitlines()
    assert json.loads(log[0])["loss"] < json.loads(fresh[0])["loss"] - 0.1


def test_a_base_of_another_shape_is_refused(tmp_path: Path):
    train(job(), tmp_path / "base", keep_state=True)
    with pytest.raises(StudyError, match=r"has .* of shape .*, this run needs"):
        train(job(20, base=tmp_path / "base" / "state", shape=replace(SHAPE, d_model=24)), tmp_path / "next")


def test_a_damaged_state_is_named(tmp_path: Path):
    train(job(), tmp_path / "base", keep_state=True)
    for file in (tmp_path / "base" / "state").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(StudyError, match=r"step 60 cannot be restored"):
        train(job(20, base=tmp_path / "base" / "state"), tmp_path / "next")


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path):
    with pytest.raises(StudyError, match="the loss is"):
        train(job(recipe=replace(RECIPE, learning_rate=1e30)), tmp_path)


def test_too_little_held_out_text_names_the_language():
    with pytest.raises(InputError, match="'sw' has 9 held-out tokens"):
        HeldOut.of("sw", np.zeros(9, np.uint16), np.ones(4, np.uint16), np.ones(4), 16, 100)


def test_totals_do_not_depend_on_how_sequences_are_batched():
    tokens = np.arange(17 * 7, dtype=np.uint16) % 64
    part = HeldOut.of("sw", tokens, np.ones(64, np.uint16), np.ones(64), 16, 1000)

    def nats(sequences):
        return sequences[:, 1:].sum(axis=1).astype(float)

    assert part.measure(nats, 2) == part.measure(nats, 5)
