"""Laws by name, and to and from JSON."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from babelscale.errors import InputError
from babelscale.laws.adaptive_transfer import AdaptiveTransfer
from babelscale.laws.base import ScalingLaw
from babelscale.laws.chinchilla import Chinchilla
from babelscale.laws.crossover import Crossover
from babelscale.laws.data_constrained import DataConstrained
from babelscale.laws.multilingual import Multilingual
from babelscale.laws.multilinguality import Multilinguality
from babelscale.runs import Runs

LAWS: dict[str, type[ScalingLaw]] = {
    law.name: law for law in (Chinchilla, DataConstrained, Multilingual, AdaptiveTransfer, Multilinguality)
}


def names() -> tuple[str, ...]:
    """Every name that `by_name` knows: the laws of `LAWS`, those added to it by others, and the crossover law."""
    return (*LAWS, Crossover.name)


def by_name(name: str, target: str, runs: Runs) -> ScalingLaw:
    """A law with the study's defaults: ATLAS takes the three languages most co-sampled with the target as sources.

    A law that others add to `LAWS` is built from its target alone.

    Raises:
        InputError: no such law.
    """
    match name:
        case "adaptive-transfer":
            beside = len(set(runs.languages) - {target})
            sources = runs.cosampled(target, most=3)
            return AdaptiveTransfer(target, sources, other=beside > len(sources))
        case "multilingual":
            return Multilingual(target)
        case "chinchilla":
            return Chinchilla(target)
        case "data-constrained":
            return DataConstrained(target)
        case "multilinguality":
            return Multilinguality(target)
        case "crossover":
            raise InputError(
                "the crossover law gives a compute and no loss, so it cannot be fitted to losses",
                hint="use laws.Crossover, or published.crossover()",
            )
    if name in LAWS:
        return LAWS[name](target)
    raise InputError(f"no law is called {name!r}", hint=f"laws: {', '.join(LAWS)}")


def to_dict(law: ScalingLaw | Crossover) -> dict[str, Any]:
    """The law's name and options, ready for JSON."""
    options = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(law).items()}  # pyright: ignore[reportArgumentType]
    return {"name": law.name, **options}


def from_dict(data: Mapping[str, Any]) -> ScalingLaw:
    """The law that `to_dict` described.

    Raises:
        InputError: the name or an option is unknown.
    """
    options: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key != "name"
    }
    law = LAWS.get(data.get("name", ""))
    if law is None:
        raise InputError(
            f"no law is called {data.get('name')!r}", hint="a law of your own is passed to Fit.load(path, law=...)"
        )
    try:
        return law(**options)
    except TypeError as error:
        raise InputError(f"law {data['name']!r}: {error}") from None
