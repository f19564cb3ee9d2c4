"""Trial: is the challenger really no worse than the champion? Evidence, verdict, and its recomputation.

The four tests and the planner are here by name; a module and its function may share it:
``from passerelle.trial import blocks`` is the function.
"""

from passerelle.trial.betting import paired
from passerelle.trial.blocks import blocks
from passerelle.trial.planner import plan
from passerelle.trial.ratio import ratio
from passerelle.trial.split import split

__all__ = ["blocks", "paired", "plan", "ratio", "split"]
