"""Scaling laws: functions from an allocation to a loss. One file a law, its equation beside its code."""

from babelscale.laws import saturation
from babelscale.laws.adaptive_transfer import AdaptiveTransfer
from babelscale.laws.base import Parameter, Restriction, ScalingLaw, Term
from babelscale.laws.chinchilla import Chinchilla
from babelscale.laws.crossover import Crossover
from babelscale.laws.data_constrained import DataConstrained
from babelscale.laws.multilingual import Multilingual
from babelscale.laws.multilinguality import Multilinguality
from babelscale.laws.naming import LAWS, by_name, from_dict, names, to_dict
from babelscale.laws.saturation import effective_tokens

__all__ = [
    "LAWS",
    "AdaptiveTransfer",
    "Chinchilla",
    "Crossover",
    "DataConstrained",
    "Multilingual",
    "Multilinguality",
    "Parameter",
    "Restriction",
    "ScalingLaw",
    "Term",
    "by_name",
    "effective_tokens",
    "from_dict",
    "names",
    "saturation",
    "to_dict",
]
