"""Data: deliveries become accepted batches or are quarantined; what is accepted is read as snapshots."""
