"""check_law: whether a law keeps what every law must keep, for the tests of laws of your own.

from babelscale.testing import check_law

def test_my_law():
    check_law(MyLaw("sw"))
"""

import json
from collections.abc import Callable, Iterator, Mapping

import numpy as np
from numpy.typing import ArrayLike

from babelscale import laws
from babelscale.allocation import Allocation
from babelscale.errors import DomainError, InputError
from babelscale.laws import ScalingLaw, Term
from babelscale.laws.base import Array
from babelscale.laws.sensitivity import agree, by_complex_steps, by_differences, complex_steps_hold

_STEP = 1e-30
_CLOSE, _TINY = 1e-8, 1e-10
_SLACK = 1e-12  # rounding alone may move a loss by this share of it
_LARGEST = 300.0  # terms whose logarithms are larger than this overflow when they are scaled to a loss
_TRIES = 20


def check_law(law: ScalingLaw, *, draws: int = 12, seed: int = 0) -> None:
    """Check a law at its defaults and at parameters drawn from their ranges.

    Checked are: bounds, meanings and starts of the parameters; the JSON form; losses of many draws at once and of one
    allocation; the derivatives of the terms; a finite loss everywhere in the domain (`in_domain`) and none outside; a
    loss that never rises with what `falls_with` names; default parameters; derivatives by N and tokens; and where the
    law has a separable form, that it gives the law's losses.

    Args:
        draws: parameters drawn. seed: of the draws.

    Raises:
        AssertionError: naming the law, what is wrong, and at which parameters.
    """
    _declared(law)
    _json(law)
    every = list(_parameters(law, draws, np.random.default_rng(seed)))
    for check in (_finite, _vectorised, _derivatives, _falls, _sensitive, _separable):
        for parameters in every:
            check(law, parameters)
    _refuses(law, every[0])


def _require(holds: object, law: ScalingLaw, what: str, at: Mapping[str, float] | None = None) -> None:
    if not holds:
        where = "" if at is None else f" at {', '.join(f'{name}={value:.6g}' for name, value in at.items())}"
        raise AssertionError(f"law {law.name!r}: {what}{where}")


def _languages(law: ScalingLaw) -> tuple[str, ...]:
    """The law's own languages and two others, four at least."""
    codes = law.languages or ("sw",)
    return (*codes, *[code for code in ("en", "fr", "de", "hi") if code not in codes][: max(2, 4 - len(codes))])


def _allocation(law: ScalingLaw) -> Allocation:
    """Six allocations with and without further languages and repetition; the first language is always trained."""
    codes = _languages(law)
    N = np.array([1e7, 5e8, 2e9, 3e8, 1e8, 4e7])
    tokens = {codes[0]: np.array([2e9, 4e9, 3e9, 1e8, 2e10, 5e9])}
    for k, code in enumerate(codes[1:]):
        tokens[code] = np.array([1e9, 3e8 * k, 2e9, 1e8, 0.0, 4e9 / (k + 1)])
    return Allocation(N, tokens, {codes[0]: 1e9, codes[1]: 5e8}, _covariates(law, np.geomspace(1e3, 1e5, 6)))


def _covariates(law: ScalingLaw, values: ArrayLike) -> dict[str, ArrayLike]:
    return dict.fromkeys(law.covariates, values)


def _parameters(law: ScalingLaw, draws: int, rng: np.random.Generator) -> Iterator[dict[str, float]]:
    """The defaults, and parameters from their ranges with coefficients that make every term of a loss's order."""
    allocation = _allocation(law)
    defaults = law.defaults(allocation)
    _require(set(defaults) == set(law.parameter_names), law, f"defaults give {', '.join(defaults)}")
    for name, (low, high) in law.bounds.items():
        _require(low <= defaults[name] <= high, law, f"default of {name} is {defaults[name]}, outside its bounds")
    yield defaults
    x, found = law.prepare(allocation), 0
    for _ in range(_TRIES * draws):
        p = {parameter.name: _drawn(parameter, rng) for parameter in law.shape}
        p |= {name: p[other] for name, other in law.ties.items()}
        with np.errstate(all="ignore"):
            terms = law.terms({name: np.asarray(value) for name, value in p.items()}, x)
        middle = {
            name: float(np.nanmean(term.value)) if np.isfinite(term.value).any() else np.nan
            for name, term in terms.items()
        }
        if not all(abs(value) < _LARGEST for value in middle.values()):
            continue
        found += 1
        yield {**{name: float(rng.uniform(0.1, 2)) * float(np.exp(-t)) for name, t in middle.items()}, **p}
        if found == draws:
            return
    _require(found, law, "its terms overflow nearly everywhere in the ranges of its parameters")


def _drawn(parameter: laws.Parameter, rng: np.random.Generator) -> float:
    if parameter.log:
        return float(np.exp(rng.uniform(np.log(parameter.low), np.log(parameter.high))))
    return float(rng.uniform(parameter.low, parameter.high))


def _declared(law: ScalingLaw) -> None:
    names = law.parameter_names
    _require(names and len(set(names)) == len(names), law, f"parameter names {', '.join(names)} are not distinct")
    for parameter in law.parameters:
        _require(parameter.meaning, law, f"parameter {parameter.name} has no meaning")
        _require(parameter.low < parameter.high, law, f"the bounds of {parameter.name} are crossed")
    for parameter in law.shape:
        inside = [parameter.low <= start <= parameter.high for start in parameter.starts]
        _require(inside and all(inside), law, f"{parameter.name} has no starts, or starts outside its bounds")
        _require(not parameter.log or parameter.low > 0, law, f"{parameter.name} is logarithmic with a low of 0")
    for name, other in law.ties.items():
        _require({name, other} <= set(names), law, f"ties {name} to {other}, and one is no parameter")


def _json(law: ScalingLaw) -> None:
    data = json.loads(json.dumps(laws.to_dict(law)))
    _require(laws.from_dict(data, type(law)) == law, law, "does not come back from its JSON form")


def _finite(law: ScalingLaw, p: Mapping[str, float]) -> None:
    allocation = _allocation(law)
    loss = law.evaluate(p, allocation)
    inside = law.in_domain(p, allocation)
    _require(
        np.isfinite(loss[inside]).all() and (loss[inside] > 0).all(), law, "no finite positive loss in its domain", p
    )
    outside = ~inside & law.defined(allocation)
    _require(not np.isfinite(loss[outside]).any(), law, "a loss outside its domain", p)


def _vectorised(law: ScalingLaw, p: Mapping[str, float]) -> None:
    allocation = _allocation(law)
    many = {name: value * np.linspace(1, 1.01, 3)[:, None] for name, value in p.items()}
    together = law.evaluate(many, allocation)
    _require(together.shape == (3, *allocation.shape), law, f"three draws give losses of shape {together.shape}", p)
    for k in range(3):
        alone = law.evaluate({name: value[k, 0] for name, value in many.items()}, allocation)
        _require(np.allclose(together[k], alone, rtol=1e-12, equal_nan=True), law, "draws change each other's loss", p)
    one = law.evaluate(p, allocation.at(0))
    _require(one.shape == (), law, f"one allocation gives losses of shape {one.shape}", p)


def _derivatives(law: ScalingLaw, p: Mapping[str, float]) -> None:
    """Gradients and second derivatives of the terms against complex steps."""
    allocation = _allocation(law)
    allocation = allocation.at(law.in_domain(p, allocation))
    if not len(allocation.params):
        return
    x, at = law.prepare(allocation), {parameter.name: np.asarray(p[parameter.name]) for parameter in law.shape}
    terms = law.terms(at, x)
    for a in at:
        stepped = law.terms({**at, a: at[a] + 1j * _STEP}, x)
        for name, term in terms.items():
            if term.gradient is None:
                continue
            first = np.imag(stepped[name].value) / _STEP
            what = f"the derivative of term {name} by {a} is not the one of its value"
            _require(_near(term.gradient.get(a, 0 * first), first), law, what, p)
            for b in at:
                _second(law, p, (name, a, b), term, stepped[name])


def _second(law: ScalingLaw, p: Mapping[str, float], which: tuple[str, str, str], term: Term, stepped: Term) -> None:
    name, a, b = which
    zero = 0 * np.real(stepped.value)
    slope = (stepped.gradient or {}).get(b, zero)
    stated = term.hessian.get((a, b), term.hessian.get((b, a), zero))
    what = f"the second derivative of term {name} by {a} and {b} is not the one of its gradient"
    # Where a step's derivative is a small difference of large parts, it is only as exact as these are.
    parts = np.max(np.abs(np.real(slope)), initial=0.0) / abs(p[a]) if p[a] else 0.0
    _require(_near(stated + zero, np.imag(slope + zero) / _STEP, parts), law, what, p)


def _near(ours: Array, theirs: Array, scale: float = 0.0) -> bool:
    ours, theirs = np.broadcast_arrays(ours, theirs)
    inside = np.isfinite(theirs)
    scale += float(np.max(np.abs(theirs[inside]), initial=0.0))
    return bool(np.allclose(ours[inside], theirs[inside], rtol=_CLOSE, atol=_TINY * (1 + scale)))


def _falls(law: ScalingLaw, p: Mapping[str, float]) -> None:
    own, other = _languages(law)[:2]
    rest = {own: 1e9, other: 5e8}, _covariates(law, 1e4)
    steps: dict[str, list[Allocation]] = {
        "params": [Allocation(np.geomspace(1e6, 1e12, 40), {own: 3e9}, *rest)],
        "tokens": [
            Allocation(1e8, {own: np.geomspace(1e7, 1e12, 60)}, *rest),
            Allocation(1e8, {own: np.geomspace(1e7, 1e12, 60), other: 1e9}, *rest),
        ],
    }
    for what in law.falls_with(dict(p)):
        _require(what in steps, law, f"falls_with names {what!r}, which is neither params nor tokens")
        for allocation in steps[what]:
            with np.errstate(all="ignore"):
                loss = law.evaluate(p, allocation)
            loss = loss[law.in_domain(p, allocation) & np.isfinite(loss)]
            rises = (np.diff(loss) > _SLACK * np.abs(loss[1:])).any()
            _require(not rises, law, f"the loss rises with more {what}, and falls_with says that it never does", p)


def _sensitive(law: ScalingLaw, p: Mapping[str, float]) -> None:
    """Derivatives by N and tokens, as the general search of the planner reads them."""
    allocation, codes = _allocation(law), _languages(law)
    values = {name: np.asarray(value) for name, value in p.items()}
    if not complex_steps_hold(law, _defaults(law), allocation, codes):
        return  # the planner then takes differences, which are nobody's claim
    with np.errstate(all="ignore"):
        ours, theirs = (how(law, values, allocation, codes) for how in (by_complex_steps, by_differences))
    inside = law.in_domain(p, allocation)
    what = "complex steps and differences by N or tokens disagree"
    total = allocation.total_tokens
    for a, b in ((ours.by_log_N, theirs.by_log_N), (ours.by_tokens * total, theirs.by_tokens * total)):
        _require(agree(a[..., inside], b[..., inside], ours.loss[inside]), law, what, p)


def _defaults(law: ScalingLaw) -> dict[str, Array]:
    """The law's defaults on the allocations that laws are checked at, as arrays."""
    return {name: np.asarray(value) for name, value in law.defaults(_allocation(law)).items()}


def _separable(law: ScalingLaw, p: Mapping[str, float]) -> None:
    allocation = _allocation(law)
    trained = np.all([D > 0 for D in allocation.tokens.values()], axis=0)
    allocation = allocation.at(trained & law.in_domain(p, allocation))
    for k in range(len(allocation.params)):
        one = allocation.at(slice(k, k + 1))
        unique = {code: float(U[0]) for code, U in one.unique_tokens.items() if np.isfinite(U[0])}
        form = law.separable({name: np.array([value]) for name, value in p.items()}, one.languages, unique)
        if form is None:
            return
        same = np.allclose(form.loss(law.target, one)[0], law.evaluate(p, one), rtol=1e-9, equal_nan=True)
        _require(same, law, "the separable form and the law give different losses", p)


def _refuses(law: ScalingLaw, p: Mapping[str, float]) -> None:
    """No loss without tokens, and no loss without a parameter."""
    codes = _languages(law)
    first = law.parameter_names[0]
    partial = {name: value for name, value in p.items() if name != first}
    _require(_raises(InputError, lambda: law.loss(partial, _allocation(law))), law, f"a loss without {first}")
    none = Allocation(1e8, dict.fromkeys(codes, 0.0), None, _covariates(law, 1e4))
    _require(_raises(DomainError, lambda: law.loss(p, none)), law, "a loss without tokens")
    _require(law.domain, law, "its domain is not described")


def _raises(error: type[Exception], call: Callable[[], object]) -> bool:
    try:
        call()
    except error:
        return True
    return False
