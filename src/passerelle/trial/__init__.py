"""Trial: is the challenger really no worse than the champion? Evidence, verdict, and its recomputation.

The four tests are here by name, since a module and its function share it: ``from passerelle.trial import blocks``.
"""

from passerelle.trial.betting import paired
from passerelle.trial.blocks import blocks
from passerelle.trial.ratio import ratio
from passerelle.trial.split import split

__all__ = ["blocks", "paired", "ratio", "split"]
