"""Charts of what more languages cost draw, and show the numbers of the expansions and runs behind them."""

import json
import math

import numpy as np
import polars as pl
import pytest
import vl_convert

from babelscale import published
from babelscale.charts import adding_languages
from babelscale.planning import expand, rank_candidates
from babelscale.runs import Runs


def drawn(spec: dict) -> str:
    assert len(spec["description"]) > 20
    json.dumps(spec, allow_nan=False)
    svg = vl_convert.vegalite_to_svg(spec)
    assert "NaN" not in svg
    assert "undefined" not in svg
    return svg


@pytest.mark.parametrize("size", [{}, {"params": 2e9, "tokens": 3e11}])
def test_the_frontier_is_that_of_the_expansions_and_its_dot_the_cheapest(size: dict) -> None:
    sizes = tuple(np.geomspace(0.5, 5, 21))
    found = [expand(4, to, **size, sizes=sizes) for to in (4, 16)]
    rows = adding_languages.frontier_rows(found)
    N, D, C = found[0].now or (1, 1, 1)
    for end in found:
        own = [row for row in rows if row["to"] == end.to]
        best = next(row for row in own if row["cheapest"])
        assert best["C"] == pytest.approx(min(row["C"] for row in own), rel=1e-9)
        assert end.cheapest is not None
        assert best["N"] == pytest.approx(N * end.cheapest.params)
        assert best["D"] == pytest.approx(D * end.cheapest.tokens.value)
        assert all(row["low"] <= row["D"] <= row["high"] for row in own)
        assert all(row["N"] / N * row["D"] / D == pytest.approx(row["C"] / C) for row in own)
    assert "16" in drawn(adding_languages.frontier.spec(found))
    assert adding_languages.frontier.spec(found) == adding_languages.frontier(found).to_dict()


def test_multipliers_are_the_printed_ones() -> None:
    found = [expand(2, to) for to in (2, 4, 8, 16, 32)]
    rows = {(row["ratio"], row["quantity"]): row for row in adding_languages.multiplier_rows(found)}
    for ratio, (params, tokens) in published.figures.PRINTED_MULTIPLIERS.items():
        assert rows[ratio, "parameters N"]["value"] == pytest.approx(params, abs=0.01)
        assert rows[ratio, "total tokens D"]["value"] == pytest.approx(tokens, abs=0.01)
    drawn(adding_languages.multipliers.spec(found))
    assert adding_languages.multipliers.spec(found) == adding_languages.multipliers(found).to_dict()


def test_additions_draw_in_their_order() -> None:
    first = rank_candidates(published.transfer_matrix(), ["sw", "en"], most=4, rounding=0.05)
    rows = adding_languages.addition_rows(first)
    assert [row["language"] for row in rows[::2]] == [one.language for one in first]
    svg = drawn(adding_languages.additions.spec(first))
    assert svg.index("Indonesian") < svg.index("Malay")
    drawn(adding_languages.additions.spec(()))


def test_losses_by_width_hold_the_final_losses_of_runs_from_scratch(runs: Runs) -> None:
    frame = adding_languages.width_frame(runs)
    assert set(frame["languages"]) == {1, 2, 4}
    assert "small-sw-continued" not in set(frame["run"])
    one = frame.filter(run="tiny-sv-3e+05").row(0, named=True)
    seen = runs.observations("sv")
    assert one["loss"] == pytest.approx(seen.loss[list(seen.run).index("tiny-sv-3e+05")])
    assert (frame.filter(languages=4)["total_tokens"] / frame.filter(languages=4)["tokens"]).to_list() == pytest.approx(
        [4.0] * frame.filter(languages=4).height
    )
    assert "Swahili" in drawn(adding_languages.losses_by_width(frame, runs.metric).to_dict())
    assert not frame.filter(pl.col("loss").is_null()).height


def test_where_no_data_would_do_nothing_is_drawn() -> None:
    found = expand(4, 16, sizes=(0.01, 1.0))
    assert math.isinf(found.frontier[0].tokens.value)
    assert len(adding_languages.frontier_rows([found])) == 2
