"""What every law must keep, by `check_law`; and that `check_law` finds faults that are planted in a law."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from babelscale import laws
from babelscale.allocation import Allocation
from babelscale.errors import InputError
from babelscale.laws import (
    AdaptiveTransfer,
    Chinchilla,
    Coupled,
    CoupledTransfer,
    DataConstrained,
    Farseer,
    Multilingual,
    Multilinguality,
    ScalingLaw,
    Term,
)
from babelscale.laws.base import Array
from babelscale.laws.sensitivity import by_complex_steps, by_differences, complex_steps_hold
from babelscale.laws.separable import plain
from babelscale.runs import Runs
from babelscale.testing import check_law

LAWS = [
    Chinchilla("sw"),
    Chinchilla(),
    Chinchilla("sw", tied=True),
    DataConstrained("sw"),
    DataConstrained(),
    DataConstrained("sw", sizes=(1e-3, 1.1)),
    Multilingual("sw"),
    Multilinguality("sw"),
    AdaptiveTransfer("sw", other=False),
    AdaptiveTransfer("sw"),
    AdaptiveTransfer("sw", ("en", "fr"), tied=False),
    Coupled("sw"),
    Coupled(),
    CoupledTransfer("sw", other=False),
    CoupledTransfer("sw", ("en", "fr")),
    Farseer("sw"),
    Farseer(),
]
each_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.name}-{law.target}-{len(law.shape)}")
RUNS = Runs.from_columns([1e6, 1e7], [1e6, 1e7], [3.0, 2.0], language="sw")


@each_law
def test_every_law_keeps_what_laws_keep(law: ScalingLaw) -> None:
    check_law(law)
    assert law.equation
    assert law.latex


def test_every_registered_law_is_checked() -> None:
    assert {law.name for law in LAWS} >= set(laws.LAWS)
    assert {type(law) for law in LAWS} >= set(laws.LAWS.values())


@each_law
def test_complex_steps_go_through_every_law(law: ScalingLaw) -> None:
    tokens = {"sw": np.array([2e9, 4e10]), "en": np.array([1e9, 2e9]), "fr": np.array([3e9, 1e9])}
    allocation = Allocation([1e7, 5e8], tokens, {"sw": 1e9})
    p = {name: np.asarray(value) for name, value in law.defaults(allocation).items()}
    assert complex_steps_hold(law, p, allocation, ("sw", "en", "fr"))
    exact, near = (how(law, p, allocation, ("sw", "en", "fr")) for how in (by_complex_steps, by_differences))
    np.testing.assert_allclose(exact.by_log_N, near.by_log_N, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(exact.by_tokens * 1e9, near.by_tokens * 1e9, rtol=1e-4, atol=1e-8)


@dataclass(frozen=True)
class WrongDerivative(Chinchilla):
    name: ClassVar[str] = "wrong-derivative"

    def terms(self, shape: Mapping[str, Array], x: Any) -> Mapping[str, Term]:
        found = dict(super().terms(shape, x))
        return found | {"B": Term(found["B"].value, {"beta": -1.001 * x[1]})}


@dataclass(frozen=True)
class WrongSecondDerivative(Multilingual):
    name: ClassVar[str] = "wrong-second"

    def terms(self, shape: Mapping[str, Array], x: Any) -> Mapping[str, Term]:
        found = dict(super().terms(shape, x))
        return found | {"A": Term(found["A"].value, found["A"].gradient, {("alpha", "gamma"): 0.1 * x[0]})}


@dataclass(frozen=True)
class Rising(Chinchilla):
    """A loss with a bump in the token count, which `falls_with` denies."""

    name: ClassVar[str] = "rising"

    def terms(self, shape: Mapping[str, Array], x: Any) -> Mapping[str, Term]:
        bump = 0.3 * np.exp(-((x[1] - np.log(1e10)) ** 2))
        found = dict(super().terms(shape, x))
        return found | {"B": Term(found["B"].value + 10 * bump, found["B"].gradient)}

    def separable(self, parameters: Any, languages: Any, unique_tokens: Any) -> Any:
        return None


@dataclass(frozen=True)
class Holed(Chinchilla):
    """NaN for middle sizes, where the law says that it is defined."""

    name: ClassVar[str] = "holed"

    def terms(self, shape: Mapping[str, Array], x: Any) -> Mapping[str, Term]:
        found = dict(super().terms(shape, x))
        hole = np.where(np.abs(np.real(x[0]) - np.log(3e8)) < 0.1, np.nan, 1.0)
        return found | {"A": Term(hole * found["A"].value, found["A"].gradient)}


@dataclass(frozen=True)
class OtherForm(Chinchilla):
    name: ClassVar[str] = "other-form"

    def separable(self, parameters: Any, languages: Any, unique_tokens: Any) -> Any:
        form = plain(parameters, frozenset(languages if self.target is None else [self.target]))
        return form._replace(A=1.01 * form.A)


@pytest.mark.parametrize(
    ("law", "what"),
    [
        (WrongDerivative("sw"), "derivative of term B by beta is not"),
        (WrongSecondDerivative("sw"), "second derivative of term A by"),
        (Rising("sw"), "the loss rises with more tokens"),
        (Holed("sw"), "no finite positive loss in its domain"),
        (OtherForm("sw"), "the separable form and the law give different losses"),
    ],
    ids=lambda value: value.name if isinstance(value, ScalingLaw) else "",
)
def test_planted_faults_are_found(law: ScalingLaw, what: str) -> None:
    with pytest.raises(AssertionError, match=f"law '{law.name}': .*{what}"):
        check_law(law)


def test_the_laws_can_be_read_and_only_registered() -> None:
    with pytest.raises(TypeError):
        laws.LAWS["mine"] = Chinchilla  # type: ignore[index]  # pyright: ignore[reportIndexIssue]
    assert laws.register(Chinchilla) is Chinchilla
    for name in ("chinchilla", "crossover"):
        other = dataclass(frozen=True)(type("Other", (Chinchilla,), {"name": name, "__module__": __name__}))
        with pytest.raises(InputError, match=f"a law is called '{name}' already"):
            laws.register(other)
    with pytest.raises(InputError, match="is not a law"):
        laws.register(dict)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


def test_a_registered_law_is_built_by_its_name_and_in_this_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(laws.naming, "_laws", held := dict(laws.LAWS))
    monkeypatch.setattr(laws.naming, "LAWS", held)
    assert laws.register(Rising) is Rising
    made = laws.by_name("rising", "sw", RUNS)
    assert made == Rising("sw")
    assert laws.from_dict(laws.to_dict(made)) == made
    assert not laws.built_in(made)
    assert laws.built_in(Chinchilla("sw"))


def test_unknown_names_are_errors_with_the_known_ones() -> None:
    with pytest.raises(InputError, match="adaptive-transfer"):
        laws.by_name("nonsense", "sw", RUNS)
    with pytest.raises(InputError, match="nonsense"):
        laws.from_dict({"name": "nonsense"})
    with pytest.raises(InputError, match="chinchilla"):
        laws.from_dict({"name": "chinchilla", "colour": "red"})


def test_nothing_outside_the_laws_asks_for_a_laws_name_or_type() -> None:
    """No comparison with a law's name, no isinstance on a single law, no match on one."""
    source = Path(laws.__file__).parents[1]
    names = {law.__name__ for law in laws.LAWS.values()}
    for path in source.rglob("*.py"):
        if path.is_relative_to(source / "laws"):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            compared = any(f"law.name {sign}" in line for sign in ("==", "!=", "in ", "not in"))
            typed = any(f"isinstance({what}" in line and f", {name})" in line for name in names for what in ("", "law"))
            matched = any(f"case {name}(" in line for name in names)
            assert not any((compared, typed, matched)), f"{path}:{number}"
