"""Bundle: the sealed model, its proofs, and the scorers that answer with it."""
