"""Laws by name, and to and from JSON."""

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from babelscale.errors import InputError
from babelscale.languages import is_well_formed
from babelscale.laws.adaptive_transfer import AdaptiveTransfer
from babelscale.laws.base import ScalingLaw
from babelscale.laws.chinchilla import Chinchilla
from babelscale.laws.coupled import Coupled, CoupledTransfer
from babelscale.laws.crossover import Crossover
from babelscale.laws.data_constrained import DataConstrained
from babelscale.laws.farseer import Farseer
from babelscale.laws.multilingual import Multilingual
from babelscale.laws.multilinguality import Multilinguality
from babelscale.runs import Runs

Law = TypeVar("Law", bound=ScalingLaw)
_BUILT_IN: tuple[type[ScalingLaw], ...] = (
    Chinchilla,
    DataConstrained,
    Multilingual,
    AdaptiveTransfer,
    Multilinguality,
    Coupled,
    CoupledTransfer,
    Farseer,
)
_laws: dict[str, type[ScalingLaw]] = {law.name: law for law in _BUILT_IN}
LAWS: Mapping[str, type[ScalingLaw]] = MappingProxyType(_laws)
"""The registered laws by name, read-only; `register` adds to them."""


def register(law: type[Law]) -> type[Law]:
    """Let commands, forecasts and saved fits find a law by its name; also a class decorator.

    A law of the same name and module replaces the former one, so that a notebook cell can be run again.

    Raises:
        InputError: the class is no law, or another law has its name.
    """
    name = getattr(law, "name", None)
    if not (isinstance(law, type) and issubclass(law, ScalingLaw) and is_dataclass(law) and isinstance(name, str)):
        raise InputError(
            f"{law!r} is not a law", hint="derive a frozen dataclass from laws.ScalingLaw and give it a name"
        )
    held = Crossover if name == Crossover.name else _laws.get(name, law)
    if (held.__module__, held.__qualname__) != (law.__module__, law.__qualname__):
        raise InputError(f"a law is called {name!r} already", hint=f"names taken: {', '.join(names())}")
    _laws[name] = law
    return law


def built_in(law: ScalingLaw) -> bool:
    """Whether a process that imports this package alone can build the law from `to_dict`."""
    return type(law) in _BUILT_IN


def names() -> tuple[str, ...]:
    """Every name that `by_name` knows: the registered laws and the crossover law."""
    return (*LAWS, Crossover.name)


def by_name(name: str, target: str, runs: Runs) -> ScalingLaw:
    """A registered law with the options that suit the runs (see `ScalingLaw.for_runs`).

    Raises:
        InputError: no such law.
    """
    if name == Crossover.name:
        raise InputError(
            "the crossover law gives a compute and no loss, so it cannot be fitted to losses",
            hint="use laws.Crossover, or published.crossover()",
        )
    if name not in LAWS:
        raise InputError(f"no law is called {name!r}", hint=f"laws: {', '.join(LAWS)}")
    return LAWS[name].for_runs(target, runs)


def to_dict(law: ScalingLaw | Crossover) -> dict[str, Any]:
    """The law's name and options, ready for JSON."""
    options = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(law).items()}  # pyright: ignore[reportArgumentType]
    return {"name": law.name, **options}


def from_dict(data: Mapping[str, Any], law: type[ScalingLaw] | None = None) -> ScalingLaw:
    """The law that `to_dict` described; `law` is its class where that is not registered.

    Raises:
        InputError: the name or an option is unknown.
    """
    options: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key != "name"
    }
    law = law or LAWS.get(data.get("name", ""))
    if law is None:
        raise InputError(
            f"no law is called {data.get('name')!r}",
            hint="register your own law with laws.register, or pass it to Fit.load(path, law=...)",
        )
    for field in ("target", "sources"):
        value = options.get(field)
        for code in value if isinstance(value, tuple) else () if value is None else (value,):
            if not is_well_formed(code):
                raise InputError(
                    f"law {data.get('name')!r}: {field} {str(code)[:40]!r} is not a language code",
                    hint="codes are BCP-47, such as sw or fil",
                )
    try:
        return law(**options)
    except TypeError as error:
        raise InputError(f"law {data['name']!r}: {error}") from None
