"""Verdict: the values that a trial is made of. Its plan holds from start to end; its blocks are never changed."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec

from passerelle.ledger.position import Position
from passerelle.project.settings import Guarded, Guardrail, Loss, TaskKind
from passerelle.trial.counts import Arm, Clusters, Stage, Tally

Kind = Literal["PROMOTE", "ROLL_BACK", "KEEP_GOING", "INCONCLUSIVE", "INVALID", "BROKEN"]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial says when it starts, and holds to its end: any change would be another trial."""

    #: <environment>-<challenger>-<revision that began it>: found before it is made.
    id: str
    environment: str
    champion: int
    challenger: int
    mode: Literal["shadow", "split"]
    #: The challenger's share of the units in a split.
    share: float
    task: TaskKind
    #: Of the champion: what the positions of the truth mean; () for numbers.
    classes: tuple[Any, ...]
    loss: Loss
    #: The largest loss of one event that counts in full; None: no cap.
    cap: float | None
    #: The worsening that is accepted, in units of the loss: the setting's share times ``reference``.
    margin: float
    #: The champion's mean loss when the trial starts, and where it comes from, for people.
    reference: float
    reference_source: str
    alpha: float
    #: The unit of evidence: a row (declared independent), a unit's mean over its first days, a day's or a week's mean.
    unit: Literal["row", "day", "unit", "week"]
    min_days: int
    max_days: int
    #: Hours after an event when its outcome in force is taken as the truth.
    horizon_hours: float
    #: A challenger proven to be worse than this is rolled back: 0 in a split, the margin in a shadow.
    rollback_above: float
    #: Rows at which the bets of a trial of rows are aimed; see betting.
    planned_n: int
    started_at: datetime
    #: Of units: so many days, from that of its first event, are a unit's value.
    unit_days: int = 7
    #: Of rows and units: the most values that a day may keep; of more, neighbours share one. None: no limit.
    values_a_day: int | None = None
    guardrails: tuple[Guardrail, ...] = ()
    #: The shares that a split goes through, ``share`` the last of them, and the days that each holds; (): no steps.
    steps: tuple[float, ...] = ()
    hold_days: float = 1.0
    #: A challenger that fails on more than so much of its last answers is taken away; None: as before there was one.
    breaker_percent: float | None = None


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A closed day of evidence. Losses are means over its mature rows; differences are challenger - champion."""

    #: From here for 24 h, in event time.
    start: datetime
    #: Mature rows that count: of both versions in a shadow, of either in a split.
    rows: int
    #: The day's evidence: mean of the differences (shadow) or of the pseudo-outcomes (split); None without rows. In a
    #: trial of units, of those whose last day this is.
    difference: float | None
    champion_loss: float | None
    challenger_loss: float | None
    #: Rows whose outcome had not come by the horizon: not counted.
    unlabelled: int
    #: Rows that the challenger (the champion) failed on: counted as the largest loss.
    challenger_failed: int
    champion_failed: int
    #: In a split: units that the trial saw for the first time this day, answered by (champion, challenger).
    units: tuple[int, int] = (0, 0)
    #: In a split: rows without an outcome, and those units of which one had an outcome on this same day, answered by
    #: (champion, challenger). None: in a shadow, and in blocks that were kept before these were counted.
    unlabelled_arms: tuple[int, int] | None = None
    labelled_units: tuple[int, int] | None = None
    #: In a shadow: live events that are not compared, since the challenger's score was not there (its own failure is).
    unpaired: int = 0
    #: In a shadow: live events that are not compared, since the champion's own answer was too late to be one.
    champion_late: int = 0
    #: How far the ledger was read when it closed: later records are counted as late and change nothing.
    position: Position
    #: For trials of rows and units: each one's difference, in the order of event time and id, or the means of as many
    #: neighbours as the plan's limit asks for. Empty for trials of days and weeks.
    values: tuple[float, ...] = ()
    #: The observations behind the difference (rows, or units), and the sum of their squared distances from it.
    observations: int | None = None
    squares: float | None = None
    #: From here on None in blocks that were kept before these were counted. Champion's and challenger's events.
    arms: tuple[Arm, Arm] | None = None
    #: Where the project has units: those that the trial saw for the first time this day, and how alike their rows are.
    arrived: int | None = None
    clusters: Clusters | None = None
    #: In a split: the units by the share at which they came; empty where that was the plan's.
    stages: tuple[Stage, ...] = ()
    #: In a split: the smallest chance of an arm, where that is not the plan's.
    least_chance: float | None = None
    #: Of each of the plan's guardrails, its tallies.
    guards: tuple[tuple[Tally, ...], ...] = ()
    #: How much more often events of the highest (lowest) scores have an outcome than the others: parts of the day.
    selective: tuple[tuple[float, ...], tuple[float, ...]] | None = None


class Guarding(msgspec.Struct, frozen=True, kw_only=True):
    """What a guardrail says after some blocks."""

    watch: Guarded
    margin: float
    #: Of the difference of the shares, challenger - champion: as measured, with its running bounds.
    estimate: float | None
    lower: float
    upper: float
    #: pass: proven within the margin; fail: proven beyond what is borne; else pending.
    state: Literal["pass", "pending", "fail"]
    events: int
    #: Of latency: the objective, and the events that do not count, since the ledger has no latency of theirs.
    limit_ms: float | None = None
    unmeasured: int = 0


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """What the circuit breaker saw: no test, but a count of the challenger's last answers."""

    #: The answers that were looked at: its last ones, as they were received.
    answers: int
    #: Of these, the ones on which it failed, came too late, or said what is no finite number.
    failed: int
    #: From when on, in event time, answers were looked for, and how far the ledger was read.
    since: datetime
    position: Position


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """What was signed when a trial ended; see signing."""

    #: Plan, verdict, digests, moments, versions: values of JSON, as they were then.
    statement: dict[str, Any]
    #: The Ed25519 public key and the signature, in hex.
    key: str
    signature: str


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What a guardrail failed on before the days had closed: it needs no outcome, and waits for none."""

    #: Up to this moment, in event time, and how far the ledger was read.
    until: datetime
    position: Position


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial says after some blocks, with its reason in one sentence."""

    kind: Kind
    trial: str
    #: Blocks with evidence, and mature rows in them.
    blocks: int
    rows: int
    #: Mean difference over the blocks (rows), and running bounds of the (1 - 2 alpha) confidence sequence.
    estimate: float | None
    lower: float | None
    upper: float | None
    #: Evidence against "worse than the margin" and against "no worse than rollback_above": decided at 1 / alpha.
    promote_evidence: float
    rollback_evidence: float
    #: Lag-1 autocorrelation of the blocks' means; None for fewer than 8.
    autocorrelation: float | None
    #: The block (its start) that decided; None while nothing is decided.
    decided_by: datetime | None
    #: For people, with the figures.
    sentence: str
    #: How many rows (units) carry the evidence of one: 1 if they are independent within days and units. None: unknown.
    design_effect: float | None = None
    #: The unit of evidence that would not flatter, where the chosen one does.
    better_unit: Literal["units", "days", "weeks"] | None = None
    #: Champion's and challenger's share of labelled events whose loss was cut at the cap; None: no cap.
    capped: tuple[float, float] | None = None
    #: Champion's and challenger's share of events whose outcome came in time; None: not counted.
    coverage: tuple[float, float] | None = None
    guardrails: tuple[Guarding, ...] = ()
    #: Of a roll-back by a guardrail before its days had closed.
    watched: Watched | None = None
    #: Of BROKEN: the count that ended the trial.
    breaker: Broken | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A trial as the state keeps it: what an auditor needs to recompute its verdict."""

    plan: Plan
    #: running; decided: its verdict waits to be executed (or for a person); ended.
    status: Literal["running", "decided", "ended"]
    #: The verdict that decided; None while it runs.
    verdict: Verdict | None = None
    #: When it was decided, and when the verdict was executed or set aside.
    decided_at: datetime | None = None
    ended_at: datetime | None = None
    #: Ledger table → its Delta version when it was decided.
    delta: dict[str, int] = {}
    #: sha256 of the plan and the block table, as JSON.
    digest: str | None = None
    #: The revision that executed the verdict; None if none was needed or a person decided otherwise.
    revision: int | None = None
    #: What was done with the verdict, in one sentence: "version 4 answers from revision 7".
    execution: str | None = None
    #: The version of Passerelle that decided; None: one that signed nothing yet.
    software: str | None = None
    #: Its signature, once it has ended.
    signed: Signed | None = None
