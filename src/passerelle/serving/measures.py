"""Measures: what the endpoint says of itself to Prometheus, summed over its workers.

With more than one process behind a port, each keeps its counts in files of one folder (prometheus-client's
multiprocess mode, which the supervisor turns on for its workers by PROMETHEUS_MULTIPROC_DIR), and any of them
answers /metrics for all.
"""

from __future__ import annotations

import os

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = CONTENT_TYPE_LATEST

#: Upper bounds of a request's time.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Measures:
    """The measures of one process, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.events = Counter(
            "passerelle_events",
            "Events recorded, by version, role (live, shadow) and status (scored, failed, timed_out)",
            ["version", "role", "status"],
            registry=self._registry,
        )
        self.shadow_dropped = Counter(
            "passerelle_shadow_dropped",
            "Events that a shadow was too busy to score; the control plane scores them later",
            ["version"],
            registry=self._registry,
        )
        self.outcomes = Counter("passerelle_outcomes", "Outcomes recorded", registry=self._registry)
        self.requests = Counter(
            "passerelle_requests",
            "Requests answered, by route and status code",
            ["route", "code"],
            registry=self._registry,
        )
        self.seconds = Histogram(
            "passerelle_request_seconds",
            "Time from a request's head to its answer",
            ["route"],
            buckets=SECONDS,
            registry=self._registry,
        )
        self.batch_rows = Histogram(
            "passerelle_batch_rows",
            "Rows scored together, by version",
            ["version"],
            buckets=_ROWS,
            registry=self._registry,
        )
        self.revision = Gauge(
            "passerelle_revision",
            "The deployment's revision that answers (the oldest among the workers)",
            registry=self._registry,
            multiprocess_mode="livemin",
        )
        self.refused = Gauge(
            "passerelle_revision_refused",
            "A newer revision that could not be loaded, 0 if there is none; /ready says why",
            registry=self._registry,
            multiprocess_mode="livemax",
        )

    def exposition(self) -> bytes:
        """All measures in Prometheus's text format, of every worker where there are several."""
        if FOLDER_VARIABLE not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
