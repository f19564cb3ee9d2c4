"""Figures: what report.json holds, and how it reads to a person."""

from __future__ import annotations

from datetime import datetime

import msgspec

from passerelle.schema import TOLERANCE


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Events against records. Lost and duplicated must be 0."""

    events_sent: int
    predictions_in_ledger: int
    outcomes_in_ledger: int
    lost: int
    duplicated: int
    #: Scores of challengers in shadow, those that were made later from the recorded inputs included.
    shadow_scores: int = 0
    #: Events of requests that were sent again, since they were not answered: their repeats are no duplicates.
    sent_again: int = 0


class ServedParity(msgspec.Struct, frozen=True, kw_only=True):
    """What was served against what the notebook's functions say about the same rows in one piece."""

    rows: int
    #: Of numbers beyond 1, as a share of what was expected: see bundle.parity.differences.
    max_abs_diff: float
    flips: int


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """How the endpoint answered: events a second, and milliseconds of whole requests."""

    rate: float
    p50_ms: float
    p99_ms: float
    errors: int


class Month(msgspec.Struct, frozen=True, kw_only=True):
    """A lived period, from the landing of one delivery to the next, and what was tried in it; one for each trial."""

    #: The delivery that was answered: "2013-02".
    month: str
    #: The version that answered when the period began, and the one that was tried; None: none was.
    champion: int
    challenger: int | None
    mode: str | None
    events: int
    #: "champion" and "challenger" → the metric on this period's events that it answered; while a shadow was tried, of
    #: both on the same events.
    brier: dict[str, float] = {}
    log_loss: dict[str, float] = {}
    auc: dict[str, float] = {}
    #: For numbers.
    rmse: dict[str, float] = {}
    mae: dict[str, float] = {}
    #: Days of evidence when the verdict fell.
    blocks: int = 0
    verdict: str | None = None
    #: Did the challenger become the champion? A verdict may wait for a person, or be refused by one.
    promoted: bool = False
    reason: str = ""
    decided_at: datetime | None = None
    #: What happened on the way, and the alerts that opened: a sentence each.
    incidents: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """Mean loss (log loss; squared error for numbers) from a period on: what the loop was worth."""

    since: str
    events: int
    #: The first version, never retrained.
    frozen: float
    #: What was answered.
    loop: float
    #: Retrained at each delivery and used at once, as a script of the project computes it apart; None without one.
    instant: float | None = None

    @property
    def kept(self) -> float | None:
        """The share of the gain of instant over frozen that the loop kept."""
        if self.instant is None or self.frozen == self.instant:
            return None
        return (self.frozen - self.loop) / (self.frozen - self.instant)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """An alert of the period that was lived."""

    watch: str
    level: str
    opened_at: datetime
    closed_at: datetime | None
    first_day: datetime | None
    last_day: datetime | None
    sentence: str
    action: str


class TourReport(msgspec.Struct, frozen=True, kw_only=True):
    """report.json."""

    totals: Totals
    parity: ServedParity
    service: Service
    #: Metrics of the live predictions against their outcomes, and baseline_auc: the best single column, as a table.
    model: dict[str, float]
    months: tuple[Month, ...]
    value: Worth | None
    #: The share of the gain that the loop kept; None where it cannot be said.
    gain_kept: float | None
    alerts: tuple[Page, ...]
    seconds: float
    #: The largest memory of all processes together, looked at once a second, in MiB; 0 where it cannot be read.
    memory_mib: int = 0
    #: How often the tour was cut and begun again (its seconds are of all attempts then), and how often the endpoint.
    cuts: int = 0
    endpoint_restarts: int = 0

    @property
    def holds(self) -> bool:
        """Nothing lost, nothing doubled, nothing different from the notebook."""
        same = self.parity.max_abs_diff <= TOLERANCE and self.parity.flips == 0
        return same and self.totals.lost == 0 and self.totals.duplicated == 0 and self.service.errors == 0

    @property
    def pages(self) -> int:
        """How often somebody was called."""
        return sum(alert.level == "page" for alert in self.alerts)

    def lines(self) -> list[str]:
        """The report, for a person."""
        totals, parity, service = self.totals, self.parity, self.service
        judged = "  ".join(f"{name} {value:.4g}" for name, value in self.model.items())
        sent = f"{totals.events_sent:,} events answered, {totals.lost} lost, {totals.duplicated} doubled"
        same = f"{parity.rows:,} rows, largest difference {parity.max_abs_diff:.3g}, {parity.flips} flips"
        fast = f"{service.rate:,.0f} events/s, p50 {service.p50_ms:.1f} ms, p99 {service.p99_ms:.1f} ms"
        lines = [
            f"{sent}; {totals.outcomes_in_ledger:,} outcomes.",
            f"Served against the notebook: {same}.",
            f"In requests of up to 50: {fast}, {service.errors} errors.",
            f"Against the truth that came later: {judged}.",
            "",
            *(_line(month) for month in self.months),
            "",
            f"{_count(self.pages, 'page')}, {_count(len(self.alerts) - self.pages, 'ticket')}.",
        ]
        if self.value is not None:
            instant = "" if self.value.instant is None else f", retrained at once {self.value.instant:.4f}"
            kept = "" if self.gain_kept is None else f": {self.gain_kept:.0%} of the gain kept"
            lines.append(
                f"Mean loss since {self.value.since}: never retrained {self.value.frozen:.4f}, the loop "
                f"{self.value.loop:.4f}{instant}{kept}."
            )
        cut = f"; cut {self.cuts} times, {self.totals.sent_again:,} events sent again" if self.cuts else ""
        return [*lines, f"{self.seconds:.0f} seconds, {self.memory_mib:,} MiB at most{cut}."]


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def _line(month: Month) -> str:
    tried = "nothing was tried" if month.challenger is None else f"{month.challenger} {month.mode or ''}"
    verdict = month.verdict or ("-" if month.challenger is None else "not yet")
    alerts = _count(len(month.alerts), "alert")
    return f"{month.month}  champion {month.champion:<3} tried: {tried:<18} {verdict:<13} {alerts}"
