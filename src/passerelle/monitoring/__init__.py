"""Monitoring: what production does, day by day, against what it did; alerts that name their next action."""
