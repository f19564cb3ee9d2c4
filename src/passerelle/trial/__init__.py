"""Trial: is the challenger really no worse than the champion? Evidence, verdict, and its recomputation."""
