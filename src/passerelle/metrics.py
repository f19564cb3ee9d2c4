"""Losses, scores, calibration and cost: pure functions of plain arrays."""
