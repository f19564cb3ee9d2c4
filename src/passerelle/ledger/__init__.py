"""Ledger: the durable record of predictions and outcomes."""
