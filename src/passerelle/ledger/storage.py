"""Storage: where segments are kept; the seam."""
