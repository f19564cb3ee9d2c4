"""Loop: training, and what later issues make of it."""
