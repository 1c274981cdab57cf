"""Features of languages and of their pairs, from which scores are predicted.

The table of languages gives script, family, branch, place and amount of text. Measured features (overlap of words,
shares of the vocabulary, adaptation scores) are added by the caller.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from babelscale import files
from babelscale.errors import InputError
from babelscale.formatting import json_ready
from babelscale.languages import Language, lookup
from babelscale.result import read_json

Array = NDArray[np.float64]

# Distance over which neighbourhood fades, in km, and the earth's radius.
_REACH, _RADIUS = 2000.0, 6371.0
# Directions in which languages are laid out by script, branch and place together.
_KIN = 12
# Family and two levels under it.
_BRANCH = 3

Trait = Literal["script", "family", "branch"]
TRAITS: tuple[Trait, ...] = get_args(Trait)


@dataclass(frozen=True)
class Relations:
    """Features of n languages and of their pairs.

    Args:
        languages: n codes.
        pairs: by name, shape (n, n), row = target, column = source; NaN where unknown.
        traits: by name, shape (n,), of a language whatever it is paired with; NaN where unknown.
        kin: shape (n, r): languages as points, near where script, branch and place are alike.
    """

    languages: tuple[str, ...]
    pairs: Mapping[str, Array]
    traits: Mapping[str, Array]
    kin: Array

    @classmethod
    def of(
        cls,
        languages: Sequence[str],
        *,
        pairs: Mapping[str, Array] | None = None,
        traits: Mapping[str, Array] | None = None,
    ) -> "Relations":
        """Relations from the table of languages, and from what was measured.

        Args:
            pairs, traits: further features, in the order of `languages`.

        Raises:
            InputError: a code is unknown, or a feature has another shape.
        """
        codes, n = tuple(languages), len(languages)
        known = [lookup(code) for code in codes]
        features = {trait: same(codes, trait).astype(np.float64) for trait in TRAITS}
        script, lineage, place = features["script"], _lineage(known), _place(known)
        features |= {"lineage": lineage, "place": place}
        amount = {"text": np.log10([each.unique_tokens or np.nan for each in known])}
        values, vectors = np.linalg.eigh((script + lineage + np.nan_to_num(place)) / 3)
        order = np.argsort(-values)[:_KIN]
        kin = vectors[:, order] * np.sqrt(np.maximum(values[order], 0))
        # The sign of an eigenvector is arbitrary: the largest entry is made positive.
        kin = kin * np.sign(kin[np.abs(kin).argmax(0), np.arange(kin.shape[1])])
        return cls(codes, features | _checked(pairs, (n, n)), amount | _checked(traits, (n,)), kin)

    def at(self, codes: Sequence[str]) -> "Relations":
        """Some of the languages, in the order given."""
        at = np.array([self.languages.index(code) for code in codes])
        pairs = {name: grid[np.ix_(at, at)] for name, grid in self.pairs.items()}
        return Relations(tuple(codes), pairs, {name: row[at] for name, row in self.traits.items()}, self.kin[at])

    def joined(self, other: "Relations") -> "Relations":
        """The same languages with the features that another set adds; NaN for languages it does not hold."""
        place = {code: k for k, code in enumerate(other.languages)}
        at = np.array([place.get(code, -1) for code in self.languages])
        pairs, traits = dict(self.pairs), dict(self.traits)
        for name in other.pairs.keys() - pairs.keys():
            grid = other.pairs[name][np.ix_(at, at)]
            grid[at < 0] = grid[:, at < 0] = np.nan
            pairs[name] = grid
        for name in other.traits.keys() - traits.keys():
            traits[name] = np.where(at < 0, np.nan, other.traits[name][at])
        return Relations(self.languages, pairs, traits, self.kin)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for strict JSON: null for what is unknown."""
        return {
            "kind": "relations",
            "languages": list(self.languages),
            "pairs": json_ready(self.pairs),
            "traits": json_ready(self.traits),
        }

    def save(self, path: str | Path) -> Path:
        """Write JSON, atomically."""
        return files.write_text(Path(path), json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> "Relations":
        """Read what `save` wrote.

        Raises:
            InputError: naming the file and the field.
        """
        data = read_json(path, "a file written by Relations.save")
        try:
            pairs, traits = (_arrays(data, name) for name in ("pairs", "traits"))
            return cls.of(_languages(data), pairs=pairs, traits=traits)
        except InputError as error:
            raise InputError(f"{path}: {error.message}", hint=error.hint) from None


def _languages(data: Mapping[str, Any]) -> list[str]:
    codes = data.get("languages")
    if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
        raise InputError("languages is no list of codes", hint='write "languages": ["sw", "yo"]')
    if twice := [code for code in codes if codes.count(code) > 1]:
        raise InputError(f"languages: {twice[0]!r} stands twice", hint="keep one of them")
    return codes


def _arrays(data: Mapping[str, Any], field: str) -> dict[str, Array]:
    """Features by name, each an array of numbers; null is NaN."""
    features = data.get(field)
    if not isinstance(features, dict):
        raise InputError(f"{field} is no table of features by name", hint=f'write "{field}": {{"NAME": [...]}}')
    found = {}
    for name, values in features.items():
        try:
            found[name] = np.array(values, np.float64)
        except (ValueError, TypeError, OverflowError) as error:
            raise InputError(f"{field}.{name} holds no numbers ({error})", hint="unknown values are null") from None
        if np.isinf(found[name]).any():
            raise InputError(f"{field}.{name} holds an infinite number", hint="unknown values are null")
    return found


def same(languages: Sequence[str], trait: Trait) -> NDArray[np.bool_]:
    """Which pairs share a script, family or branch, shape (n, n).

    Branches are the two broadest levels under the family (Germanic, Italic, ... in Glottolog's Indo-European).
    """
    known = [lookup(code) for code in languages]
    match trait:
        case "script":
            keys = [each.script for each in known]
        case "family":
            keys = [_path(each)[0] for each in known]
        case "branch":
            keys = [" > ".join(_path(each)[:_BRANCH]) for each in known]
    _, number = np.unique(keys, return_inverse=True)
    return number[:, None] == number


def _path(language: Language) -> tuple[str, ...]:
    return (language.family or language.code, *language.branch)


def _lineage(known: Sequence[Language]) -> Array:
    """Twice the levels of the family tree shared over the levels of both (Dice): 0 for languages of two families."""
    paths = [_path(each) for each in known]
    grid = np.eye(len(paths))
    for i, a in enumerate(paths):
        for j, b in enumerate(paths[:i]):
            shared = next((k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
            grid[i, j] = grid[j, i] = 2 * shared / (len(a) + len(b))
    return grid


def _place(known: Sequence[Language]) -> Array:
    """exp(-distance / 2000 km), great circles; NaN where a place is unknown."""
    degrees = [(np.nan if e.latitude is None or e.longitude is None else (e.latitude, e.longitude)) for e in known]
    latitude, longitude = np.radians([np.broadcast_to(pair, 2) for pair in degrees]).T
    across = np.cos(latitude)[:, None] * np.cos(latitude) * np.cos(longitude[:, None] - longitude)
    angle = np.arccos(np.clip(np.sin(latitude)[:, None] * np.sin(latitude) + across, -1, 1))
    return np.exp(-_RADIUS * angle / _REACH)


def _checked(features: Mapping[str, Array] | None, shape: tuple[int, ...]) -> dict[str, Array]:
    found = {}
    for name, value in (features or {}).items():
        found[name] = np.asarray(value, np.float64)
        if found[name].shape != shape:
            raise InputError(f"relation {name!r} has shape {found[name].shape}, not {shape}")
    return found
