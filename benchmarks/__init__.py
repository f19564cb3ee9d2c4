"""What this repository claims, measured: each command prints its figures and fails if one is missed."""
