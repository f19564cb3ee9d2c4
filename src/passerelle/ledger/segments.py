"""Segments: the write-ahead form of the ledger."""
