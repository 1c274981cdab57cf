"""Colours that carry a meaning stay apart for eyes that miss a kind of cone.

Simulated after Machado, Oliveira and Fernandes (2009, IEEE TVCG 15(6), table 1, severity 1.0, on linear RGB); distances
are those of CIELAB under D65 (CIE76).
"""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from babelscale.charts import monitor, style

SEEN = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.119192, 0.9503041]]
)


def linear(colour: str) -> NDArray[np.float64]:
    value = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(colour: str, cones: str = "all cones") -> NDArray[np.float64]:
    """L*, a*, b* of a colour as it is seen."""
    light = np.clip(SEEN[cones] @ linear(colour), 0, 1)
    share = TO_XYZ @ light / (TO_XYZ @ np.ones(3))
    f = np.where(share > (6 / 29) ** 3, np.cbrt(share), share * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def apart(one: str, two: str, cones: str) -> float:
    return float(np.linalg.norm(lab(one, cones) - lab(two, cones)))


def test_the_simulation_is_the_known_one() -> None:
    assert lab("#ffffff") == pytest.approx([100, 0, 0], abs=1e-3)
    assert lab("#ff0000") == pytest.approx([53.24, 80.09, 67.20], abs=0.05)
    for cones in SEEN:
        # Greys stay grey, and a red and a green that cannot be told apart come together.
        assert np.abs(lab("#808080", cones)[1:]).max() < 0.5
    assert apart("#bb4400", "#667700", "deuteranopia") < 0.35 * apart("#bb4400", "#667700", "all cones")


@pytest.mark.parametrize("cones", SEEN)
def test_the_palette_stays_apart(cones: str) -> None:
    """A difference of 2.3 is just noticeable (Mahy et al. 1994) side by side on large patches; thin lines that are far
    from their legend need several times that: 6 times here, 10 times with all cones."""
    least = min(apart(one, two, cones) for one, two in itertools.combinations(style.PALETTE, 2))
    assert least > (23 if cones == "all cones" else 13.8)


@pytest.mark.parametrize("cones", SEEN)
def test_the_states_of_runs_stay_far_apart(cones: str) -> None:
    """They are looked for at a glance: eight times the just noticeable."""
    assert min(apart(one, two, cones) for one, two in itertools.combinations(monitor._COLOURS, 2)) > 18.4


@pytest.mark.parametrize("cones", SEEN)
def test_the_diverging_scale_tells_its_ends_and_its_steps(cones: str) -> None:
    colours = style.DIVERGING
    lightness = [lab(colour, cones)[0] for colour in colours]
    middle = len(colours) // 2
    # The further from the middle, the darker, on both sides: the size of a score is read in grey too.
    assert lightness[: middle + 1] == sorted(lightness[: middle + 1])
    assert lightness[middle:] == sorted(lightness[middle:], reverse=True)
    assert min(apart(one, two, cones) for one, two in itertools.pairwise(colours)) > 6.9
    # The sign is a colour: the same step on either side.
    for k in range(middle):
        assert apart(colours[k], colours[-1 - k], cones) > 11.5, (k, cones)


def test_marks_stand_out_from_both_pages() -> None:
    """WCAG 2.2, 1.4.11 asks 3:1 of graphics; the palette is as dark as a dark page allows, so lines keep 2:1 there and
    every chart has its numbers in a table."""

    def bright(colour: str) -> float:
        return float(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour))

    for page in ("#ffffff", "#14171b"):
        for colour in style.PALETTE:
            high, low = sorted((bright(colour), bright(page)), reverse=True)
            assert (high + 0.05) / (low + 0.05) > 2, (colour, page)
