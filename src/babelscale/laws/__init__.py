"""Scaling laws: functions from an allocation to a loss. One file a law, its equation beside its code."""

from babelscale.laws import saturation
from babelscale.laws.adaptive_transfer import AdaptiveTransfer
from babelscale.laws.base import IdentifiabilityConstraint, Parameter, ScalingLaw, Support, Term
from babelscale.laws.chinchilla import Chinchilla
from babelscale.laws.coupled import Coupled, CoupledTransfer
from babelscale.laws.crossover import Crossover
from babelscale.laws.data_constrained import DataConstrained
from babelscale.laws.farseer import Farseer
from babelscale.laws.multilingual import Multilingual
from babelscale.laws.multilinguality import Multilinguality
from babelscale.laws.naming import LAWS, built_in, by_name, from_dict, names, register, to_dict
from babelscale.laws.saturation import effective_tokens
from babelscale.laws.separable import SeparableForm

__all__ = [
    "LAWS",
    "AdaptiveTransfer",
    "Chinchilla",
    "Coupled",
    "CoupledTransfer",
    "Crossover",
    "DataConstrained",
    "Farseer",
    "IdentifiabilityConstraint",
    "Multilingual",
    "Multilinguality",
    "Parameter",
    "ScalingLaw",
    "SeparableForm",
    "Support",
    "Term",
    "built_in",
    "by_name",
    "effective_tokens",
    "from_dict",
    "names",
    "register",
    "saturation",
    "to_dict",
]
