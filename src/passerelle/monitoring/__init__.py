"""Monitoring: what production does, day by day, against what it did; alerts that name their next action.

The test of drift is here by name, since a module and its function share it:
``from passerelle.monitoring import drift``.
"""

from passerelle.monitoring.drift import drift

__all__ = ["drift"]
