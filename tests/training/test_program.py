"""The compiled step: microbatches, dropout, populations."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from babelscale.model import Shape
from babelscale.model.execution import Execution
from babelscale.training import memory
from babelscale.training.mesh import make_mesh
from babelscale.training.program import program
from babelscale.training.recipe import Recipe

SHAPE = Shape(layers=2, heads=2, d_model=16, d_ff=32, d_head=8, vocabulary=64)
RECIPE = Recipe(batch_size=8, sequence_length=16)


def steps(recipe: Recipe, execution: Execution, seed: int = 0, first: int = 1) -> list[float]:
    made = program(SHAPE, recipe, execution, make_mesh(1))
    state = made.initial(np.uint32(seed))
    losses = []
    for step in range(first, first + 3):
        batch = np.random.default_rng(step).integers(0, 64, (8, 17)).astype(np.int32)
        state, metrics = made.update(state, batch, np.float32(1e-2), np.uint32(step), np.uint32(seed))
        losses += [float(metrics["loss"]), float(metrics["gradient_norm"])]
    return losses


@pytest.mark.parametrize("parts", [pytest.param(2, marks=pytest.mark.slow), 8])
def test_microbatches_add_up_to_the_batch(parts: int):
    np.testing.assert_allclose(steps(RECIPE, Execution(microbatches=parts)), steps(RECIPE, Execution()), rtol=1e-5)


def test_what_is_dropped_follows_seed_and_step():
    dropping = replace(RECIPE, dropout=0.2)
    assert steps(dropping, Execution()) == steps(dropping, Execution()) != steps(RECIPE, Execution())
    made = program(SHAPE, dropping, Execution(), make_mesh(1))
    batch = np.zeros((8, 17), np.int32)
    losses = {
        float(
            made.update(made.initial(np.uint32(0)), batch, np.float32(0), np.uint32(step), np.uint32(seed))[1]["loss"]
        )
        for step, seed in ((1, 0), (2, 0), (1, 1))
    }
    assert len(losses) == 3


def test_a_norm_vector_is_not_decayed_and_the_z_loss_is_not_logged():
    plain, weighed = (steps(replace(RECIPE, z_loss=z), Execution()) for z in (0.0, 0.1))
    assert plain[0] == pytest.approx(weighed[0], rel=1e-6)
    assert plain[2:] != weighed[2:]
    made = program(SHAPE, replace(RECIPE, weight_decay=1000.0, learning_rate=1.0), Execution(), make_mesh(1))
    state, _ = made.update(
        made.initial(np.uint32(0)), np.zeros((8, 17), np.int32), np.float32(1e-3), np.uint32(1), np.uint32(0)
    )
    before = made.initial(np.uint32(0))
    norm, matrix = (
        float(np.abs(np.asarray(state["parameters"][name]) - np.asarray(before["parameters"][name])).max())
        for name in ("norm", "embedding")
    )
    assert norm < 2e-3 < matrix


def test_a_population_starts_each_member_from_its_own_seed():
    made, alone = (program(SHAPE, RECIPE, Execution(), make_mesh(1), members) for members in (3, None))
    seeds = np.array([5, 0, 7], np.uint32)
    together = made.initial(seeds)["parameters"]
    for k, seed in enumerate(seeds):
        for name, value in alone.initial(seed)["parameters"].items():
            np.testing.assert_array_equal(together[name][k], value)


def test_a_cpu_works_off_large_batches_in_parts():
    mesh = make_mesh(1)
    assert memory.choose(SHAPE, RECIPE, mesh) == Execution.on("cpu", SHAPE)
    large = replace(RECIPE, batch_size=256, sequence_length=2048)
    chosen = memory.choose(SHAPE, large, mesh)
    assert large.tokens_per_step / chosen.microbatches == large.sequence_length
    assert large.batch_size % chosen.microbatches == 0


def test_on_an_accelerator_products_are_bfloat16_and_attention_is_fused_where_the_head_allows():
    assert Execution.on("gpu", SHAPE) == Execution("bfloat16", "cudnn", loss_tokens=8192)
    assert Execution.on("gpu", replace(SHAPE, d_head=6)).attention == "plain"
    assert Execution.on("tpu", SHAPE).attention == "plain"
    assert Execution.on("cpu", SHAPE).dtype == "float32"
    assert jax.devices()[0].platform != "cpu" or memory.choose(SHAPE, RECIPE, make_mesh(1)).attention == "plain"
