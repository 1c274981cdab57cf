"""Exporters: a plan's mixture in the syntax of a trainer, one function a trainer."""

from babelscale.exporters.mixtures import TRAINERS, MixtureEntry, entries, export_mixture

__all__ = ["TRAINERS", "MixtureEntry", "entries", "export_mixture"]
