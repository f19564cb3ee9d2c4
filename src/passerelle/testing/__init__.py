"""Testing: in-memory twins of every seam, and the conformance checks that every implementation passes."""
