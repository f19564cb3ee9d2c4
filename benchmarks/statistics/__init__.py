"""The statistics' bars: each promise simulated, with ours and with a naive method that must fail it.

    python -m benchmarks.statistics                  every bar at full size
    python -m benchmarks.statistics --small --bar 7  one of them, small
    python -m benchmarks.statistics --naive          the naive methods: they fail

A bar is a module ``barNN_name.py`` with ``FULL`` and ``SMALL`` (replications) and
``run(*, replications, test) -> list[Figure]``. Seeds are fixed: the same size gives the same figures.
"""
