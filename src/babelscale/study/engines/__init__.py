"""Engines train the missing runs of a study: on this machine, on a Ray cluster, or through SLURM.

An engine decides what runs where and when. That each run is there once in the end is not its business: a worker trains
in a folder of its own and publishes by an exclusive rename (`study.record`), so an engine may die at any moment, start
a run again or start it twice.
"""

from babelscale.study.engines.common import ENVIRONMENT, Engine, Event, stopped
from babelscale.study.engines.local import run_local
from babelscale.study.engines.ray import run_ray
from babelscale.study.engines.slurm import submit, write_array
