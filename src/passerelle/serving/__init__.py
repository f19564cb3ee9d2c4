"""Serving: the one path that every event takes, and its doors."""
