"""Living: a recorded year through the real parts, in lock-step.

The first delivery makes the first version. From then on each event of the next delivery is sent to the endpoint when it
is due, never after its outcome; outcomes follow when they are known; once a day, at noon, the ledger is compacted and
the loop ticks; when the next delivery lands the clock stops while the loop retrains. What is *now* is said by the
events alone, so that a year passes in minutes and is the same every time.

Everything is found before it is made again: cut short at any point, the same command goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec

from passerelle.bundle.keys import throwaway_key
from passerelle.errors import KilledError, ServingError
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.views import ask
from passerelle.loop.recorded import Period, first_moment, read_period
from passerelle.loop.replay import Asked, Told, replay
from passerelle.loop.rollout import PRODUCTION, revisions
from passerelle.loop.train import registry_of
from passerelle.loop.workflows import Loop, open_loop
from passerelle.project.settings import Project
from passerelle.registry.versions import Version
from passerelle.serving.endpoint import Endpoint, start_endpoint
from passerelle.tour.apart import compute_apart
from passerelle.tour.baseline import Baseline, choose_baseline
from passerelle.tour.figures import TourReport
from passerelle.tour.measured import Progress, keep_progress, note, note_repeat, read_progress
from passerelle.tour.memory import Memory
from passerelle.tour.report import judge, write_report
from passerelle.tour.saying import Saying
from passerelle.tour.script import Incident, Script
from passerelle.tour.setting import UNFINISHED, Delivery, change, deliveries, land, prepare
from passerelle.tour.stages import keep_stage, stage_path

#: The hour (UTC) at which the loop ticks.
NOON = 12
Answer = TypeVar("Answer")

#: How often what the tour computes in a process of its own is taken again, if that is killed.
_KILLS = 3
#: The tour's own salt: two tours give a unit the same variant, so that they can be compared.
SALT = "tour"


def live(source: Path, out: Path, *, workers: int | None, months: int | None, saying: Saying) -> TourReport:
    """Live the project in ``source``, in a copy of it below ``out``; write out/report.json and out/report.html.

    ``months``: only the first so many deliveries. Raises DataError if there are not two deliveries of the main table,
    one to learn from and one to answer, or if the project has no time column.
    """
    project, script, goes_on = prepare(source, out, months=months)
    if goes_on:
        saying.skip(project)
    saying.say("An earlier tour was cut here: it goes on." if goes_on else f"{project.name} is lived in {out}")
    there = deliveries(project, out)
    if months is not None and months > len(there):
        saying.say(f"there are {len(there)} deliveries, and so many are lived")
    stages = there[:months]
    apart = compute_apart(project, script, periods=[stage.stamp for stage in stages])
    with Memory() as memory, apart:
        with open_loop(project, key=throwaway_key(), salt=SALT, on_step=saying.step) as loop:
            attempt = _Attempt(out, memory, goes_on=goes_on)
            year = _Year(project, script, out, loop=loop, workers=workers, saying=saying, attempt=attempt)
            year.live(stages)
        saying.say("everything was lived: it is counted and compared")
        report = judge(project, script, stages, out, instant=apart.instant())
    spent = attempt.spent()
    report = msgspec.structs.replace(
        report,
        seconds=round(spent.seconds, 1),
        memory_mib=spent.memory_mib,
        cuts=spent.cuts,
        endpoint_restarts=spent.endpoint_restarts,
    )
    write_report(report, project, out)
    (out / UNFINISHED).unlink(missing_ok=True)
    return report


class _Attempt:
    """What this attempt and those that were cut before it have cost."""

    def __init__(self, out: Path, memory: Memory, *, goes_on: bool) -> None:
        self.goes_on = goes_on
        self._started = time.monotonic()
        self._memory = memory
        self._before = read_progress(out)
        self._cuts = (self._before.cuts if self._before else 0) + goes_on
        self.endpoint_restarts = self._before.endpoint_restarts if self._before else 0
        self.ticked = self._before.ticked if self._before else None

    def spent(self) -> Progress:
        """All of it, up to the last tick."""
        before = self._before
        return Progress(
            ticked=self.ticked or datetime.min.replace(tzinfo=UTC),
            seconds=(before.seconds if before else 0.0) + time.monotonic() - self._started,
            memory_mib=max(before.memory_mib if before else 0, self._memory.peak_mib),
            cuts=self._cuts,
            endpoint_restarts=self.endpoint_restarts,
        )


class _Year:
    """The lived part: a clock that only events move."""

    def __init__(
        self,
        project: Project,
        script: Script,
        out: Path,
        *,
        loop: Loop,
        workers: int | None,
        saying: Saying,
        attempt: _Attempt,
    ) -> None:
        self.project = project
        self.script = script
        self.out = out
        self.loop = loop
        self.workers = workers or project.serving.workers
        self.attempt = attempt
        self.saying = saying
        self.registry = registry_of(project)
        self.ledger = ledger_folder(project.state, PRODUCTION)
        self._endpoint: Endpoint | None = None
        # What was lived is compared with the notebook beside the next training, which leaves a core idle.
        self._comparing = ThreadPoolExecutor(max_workers=1)
        self._compared: list[Future[None]] = []
        self._waiting: list[Told] = []

    def live(self, stages: list[Delivery]) -> None:
        """Land the first, then answer each of the others, and land it when the one after begins."""
        begins = [first_moment(self.project, stage.files) for stage in stages[1:]]
        try:
            baseline = None
            for number, stage in enumerate(stages[1:]):
                self._land(stages[number], begins[number], self.script.of(stage.stamp))
                if baseline is None:
                    baseline = choose_baseline(self.project, self.registry)
                until = begins[number + 1] if number + 1 < len(begins) else None
                self._answer(stage, begins[number], until, baseline)
            for one in self._compared:
                one.result()
        finally:
            self._comparing.shutdown(cancel_futures=True)
            if self._endpoint is not None:
                self._endpoint.stop()

    def _land(self, stage: Delivery, now: datetime, incidents: Sequence[Incident]) -> None:
        """A delivery lands, with what else happens then; the clock stops until the loop has dealt with it."""
        if self._is_done(now):
            if self.attempt.ticked == now:  # cut just after it: what it changed is put back
                change(self.project, self.out, ())
            return
        for incident in incidents:
            self.saying.say(f"{now:%d %B %Y}: {incident.sentence}")
        self.saying.say(f"{now:%d %B %Y}: the delivery {stage.stamp} lands")
        change(self.project, self.out, incidents)
        land(self.project, stage, incidents)
        self._tick(now, force_gate=any(incident.force_gate for incident in incidents))
        change(self.project, self.out, ())  # only now: a cut training goes on with what it began with

    def _answer(self, stage: Delivery, since: datetime, until: datetime | None, baseline: Baseline) -> None:
        """The events of a period, day by day; after the last period, the days until its outcomes are mature."""
        kept = stage_path(self.out, stage.stamp)
        period = _surely(partial(read_period, self.project, self._champion(), stage.files))
        self._waiting = sorted([*self._waiting, *period.told], key=lambda told: told.known_at)
        ends = max(one.at for one in period.asked) + timedelta(seconds=1)
        asked = sorted(period.asked, key=lambda one: one.at)
        if self._endpoint is None and until is not None and self._is_done(until) and kept.exists():
            self._waiting = [told for told in self._waiting if told.known_at >= until]
            return
        if self.attempt.goes_on:  # else nothing of this period can have been recorded
            asked, self._waiting = self._unrecorded(asked, self._waiting)
        last = until or ends + timedelta(hours=self.project.task.horizon_hours + 48)
        first = 0
        for begin, end in _days(since, last):
            upto = first
            while upto < len(asked) and asked[upto].at < end:
                upto += 1
            due = next((n for n, told in enumerate(self._waiting) if told.known_at >= end), len(self._waiting))
            self._send(begin, asked[first:upto], self._waiting[:due])
            first, self._waiting = upto, self._waiting[due:]
            if end != until:
                self._tick(end)
        if until is None:
            self._send(last, [], self._waiting)
            self._tick(last + timedelta(hours=1))
        if not kept.exists():
            keep = partial(self._keep, kept, period, since, max(ends, until or ends), baseline)
            self._compared.append(self._comparing.submit(_surely, keep))

    def _send(self, at: datetime, asked: list[Asked], told: list[Told]) -> None:
        """Some events and truths, in the order of their time, to an endpoint that lives."""
        if not asked and not told:
            return
        self.saying.at(at, len(asked))
        while True:
            try:
                replayed = replay(
                    self._url(), asked, told, on_repeat=lambda ids: note_repeat(self.out, ids), is_alive=self._is_alive
                )
            except ServingError:
                if self._is_alive():
                    raise
                # The endpoint was killed: another takes its place, and what was recorded is not asked again.
                asked, told = self._unrecorded(asked, told)
                continue
            note(self.out, at, replayed)
            return

    def _tick(self, now: datetime, *, force_gate: bool = False) -> None:
        if self._is_done(now):
            return
        self.loop.tick(now, force_gate=force_gate)
        self.saying.told(self.project, now)
        self.attempt.ticked = now
        keep_progress(self.out, self.attempt.spent())

    def _is_done(self, now: datetime) -> bool:
        return self.attempt.ticked is not None and now <= self.attempt.ticked

    def _champion(self) -> Version:
        current = revisions(self.project, PRODUCTION).current()
        if current is None:
            raise ServingError("the loop deployed nothing: passerelle trial status, and look at the timeline.")
        return self.registry.get(current.champion.version)

    def _is_alive(self) -> bool:
        return self._endpoint is not None and self._endpoint.process.poll() is None

    def _url(self) -> str:
        if self._endpoint is not None and not self._is_alive():
            self.saying.say("the endpoint ended: it is started again")
            self.attempt.endpoint_restarts += 1
            self._endpoint.stop()
            self._endpoint = None
        if self._endpoint is None:
            self._endpoint = start_endpoint(self.project, PRODUCTION, port=0, workers=self.workers)
        return self._endpoint.url

    def _unrecorded(self, asked: list[Asked], told: list[Told]) -> tuple[list[Asked], list[Told]]:
        """What the ledger does not hold yet."""
        if not self.ledger.exists():
            return asked, told
        predictions, outcomes = (
            {id_ for (id_,) in ask(self.ledger, f"SELECT DISTINCT id FROM {view}").rows}  # noqa: S608  (constants)
            for view in ("all_predictions", "all_outcomes")
        )
        return [one for one in asked if one.id not in predictions], [one for one in told if one.id not in outcomes]

    def _keep(self, kept: Path, period: Period, since: datetime, until: datetime, baseline: Baseline) -> None:
        keep_stage(
            kept,
            self.project,
            self.registry,
            period,
            ledger=self.ledger,
            since=since,
            until=until,
            baseline=baseline.scores(period.main),
        )


def _surely(act: Callable[[], Answer]) -> Answer:
    """Act, again if a process that was needed for it is killed from outside: it may be the memory's fault, or luck."""
    for _ in range(_KILLS):
        try:
            return act()
        except KilledError:
            continue
    return act()


def _days(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    """From noon to noon, the first and the last cut short."""
    begin = since
    while begin < until:
        noon = begin.astimezone(UTC).replace(hour=NOON, minute=0, second=0, microsecond=0)
        end = min(noon if noon > begin else noon + timedelta(days=1), until)
        yield begin, end
        begin = end
