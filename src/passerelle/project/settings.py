"""passerelle.toml → Project: every setting there is, with its default and its meaning."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from passerelle.decoding import prepared
from passerelle.errors import SettingsError
from passerelle.project.place import refuse_unfit
from passerelle.project.private import refuse_private
from passerelle.project.scope import Acceptance, Milestone
from passerelle.project.slips import in_words, refuse_unknown
from passerelle.project.targets import AnyTarget, Store, refuse_targets
from passerelle.project.thresholds import refuse_thresholds
from passerelle.project.triable import refuse_untriable

FILE = "passerelle.toml"
#: Beside it: what Passerelle keeps of a project.
STATE_FOLDER = ".passerelle"

TaskKind = Literal["binary", "multiclass", "regression"]
Metric = Literal["log_loss", "brier", "auc", "accuracy", "rmse", "mae"]
Privacy = Literal["keep", "hash", "drop"]
LedgerMode = Literal["durable", "async", "off"]
Evidence = Literal["days", "weeks", "units", "rows"]
Guarded = Literal["errors", "invalid", "latency"]
Loss = Literal["brier", "log_loss", "zero_one", "squared", "absolute"]
Watch = Literal[
    "performance",
    "score_drift",
    "input_drift",
    "volume",
    "latency",
    "errors",
    "silence",
    "quarantine",
    "ledger",
    "loop",
]

#: What the gate can compare, by kind of task; the first is the default.
METRICS: dict[TaskKind, tuple[Metric, ...]] = {
    "binary": ("log_loss", "brier", "auc", "accuracy"),
    "multiclass": ("log_loss", "brier", "accuracy"),
    "regression": ("rmse", "mae"),
}
#: What is measured besides.
OTHER_FIGURES: dict[TaskKind, tuple[str, ...]] = {
    "binary": ("calibration_error", "cost", "parity_max_abs_diff"),
    "multiclass": ("parity_max_abs_diff",),
    "regression": ("parity_max_abs_diff",),
}

#: The losses that a trial can compare, by kind of task; the first is the default.
LOSSES: dict[TaskKind, tuple[Loss, ...]] = {
    "binary": ("brier", "log_loss", "zero_one"),
    "multiclass": ("brier", "log_loss", "zero_one"),
    "regression": ("squared", "absolute"),
}

#: The name of an environment variable.
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"

Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,62}$")]
Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Percent = Annotated[float, msgspec.Meta(gt=0, le=100)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Notebook(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[notebook]: the training job."""

    #: The notebook, from the project's folder: .ipynb, or .py / .Rmd / .qmd as jupytext reads them.
    path: str = "notebooks/model.ipynb"
    #: The interpreter of the notebook's own environment; Passerelle's own where it is not given.
    python: str | None = None
    #: Seconds after which a cell is given up.
    timeout_s: Count = 3600
    #: What is written over the cell tagged "parameters".
    parameters: dict[str, str | int | float | bool] = {}


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[task]: what is predicted, for what, and how it is judged."""

    #: binary, multiclass or regression.
    kind: TaskKind
    #: The column of the outcomes table that holds the truth.
    target: str
    #: The columns that identify a row of the main table, and its outcome.
    key: tuple[str, ...]
    #: The main table's time column; None if time plays no part.
    time: str | None = None
    #: The input field that says who is randomised in an A/B test; None: each event by its id.
    unit: str | None = None
    #: For binary: the class whose probability is predicted, as JSON writes it.
    positive: str | int | bool = True
    #: The days held out for the gate (with a time column) ...
    holdout_days: Positive = 7
    #: ... or the share of keys (without one).
    holdout_share: Share = 0.2
    #: Hours before the event's time at which the prediction is asked.
    lead_hours: Annotated[float, msgspec.Meta(ge=0)] = 0
    #: Hours after an event when its outcome in force is taken as the truth.
    horizon_hours: Positive = 24


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[gate]: when a candidate is refused before it becomes a version."""

    #: What is compared on the holdout; None: log_loss for classes, rmse for numbers.
    metric: Metric | None = None
    #: The difference that matters, as a share of the champion's loss (for auc and accuracy: in points).
    margin: Positive = 0.03
    #: A candidate is refused if it is worse by more than this many margins.
    refuse_above: Positive = 2.0


class Costs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[costs]: what acting and not acting cost, in one unit of the user's choice."""

    #: Of acting on an event.
    action: Positive = 1.0
    #: Of an event that needed the action and did not get it.
    missed: Positive = 4.0


class Data(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[data]: which of the delivered tables play which part."""

    #: The table with a row per event.
    main: Name = "events"
    #: The table with the truth: the key, the target, and known_at; may be the same as main only if it has known_at.
    outcomes: Name = "outcomes"
    #: The folder that ``passerelle ingest`` looks through when it is given no file.
    inbox: str = "deliveries"
    #: Where new data lies in an object store (s3://, az://, gs://), fetched into the inbox; None: nowhere.
    bucket: Store | None = None


class Serving(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[serving]: the endpoint."""

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8700
    #: Processes that answer behind the one port.
    workers: Count = 1
    #: durable: answered after its record's fdatasync, or its PUT into an object store; async: up to 100 ms, in a store
    #: 1 s and a request, may be lost with the machine; off. None: durable, but async in an object store.
    ledger: LedgerMode | None = None
    #: Milliseconds after which a model that has not answered counts as timed out.
    deadline_ms: Count = 5000
    #: The most events in one request.
    max_rows: Count = 1000
    #: The largest request, in bytes.
    max_body_bytes: Count = 2_000_000


class Loop(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[loop]: what ``passerelle up`` does by itself."""

    #: Retrain when new mature outcomes are at least this share of those that the newest run learned from ...
    retrain_share: Share = 0.05
    #: ... and this many hours have passed since that run.
    cooldown_hours: Annotated[float, msgspec.Meta(ge=0)] = 12
    #: What a retraining costs, in the unit of [costs] (binary): it must be expected to bring that. None: not asked.
    retrain_cost: Positive | None = None
    #: Who executes a verdict: the loop itself, or a person with ``passerelle trial approve``.
    approval: Literal["automatic", "human"] = "automatic"
    #: Seconds between two looks (machine time).
    tick_s: Positive = 60
    #: The target whose jobs run the notebook, by the loop, the chain and ``passerelle train``; None: this machine.
    trains_at: str | None = None


class Guardrail(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[trial.guardrails]]: what must not get worse either, however good the answers are."""

    #: errors: events that the version failed on; invalid: answers that are no probabilities, or of another shape than
    #: the champion's; latency: events without an answer after ``limit_ms`` (a split's alone).
    watch: Guarded
    #: The worsening that is accepted, as a share of all events: 0.01 is one more in a hundred.
    margin: Share = 0.01
    #: Of latency, the objective: so many milliseconds, of the endpoint's own clock.
    limit_ms: Positive | None = None


class Trial(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[trial]: how a challenger is tried against the champion. What it says when a trial starts holds to its end."""

    #: shadow: scored beside the champion on the same events; split: answers a share of the units.
    mode: Literal["shadow", "split"] = "shadow"
    #: The challenger's share of the units in a split.
    share: Share = 0.5
    #: What is compared, per event; None: brier for classes, squared for numbers.
    loss: Loss | None = None
    #: The largest loss of one event that counts in full; needed for rows of an unbounded loss.
    cap: Positive | None = None
    #: The worsening that is accepted, as a share of the champion's loss when the trial starts.
    margin: Positive = 0.03
    #: The probability that a challenger worse than the margin is ever promoted.
    alpha: Share = 0.05
    #: One observation: a day's mean, a week's, a unit's (task.unit), or a row, if one tells nothing of the next.
    evidence: Evidence = "days"
    #: Of units: so many days from its first are a unit's value.
    unit_days: Count = 7
    #: The days of evidence before the first verdict.
    min_days: Count = 14
    #: The days after which a trial without a verdict is INCONCLUSIVE.
    max_days: Count = 60
    guardrails: tuple[Guardrail, ...] = ()
    #: The shares that a split goes through, instead of ``share``; (): it has its share from the first moment.
    steps: tuple[Share, ...] = ()
    #: So many days a step holds before the next.
    hold_days: Positive = 1
    #: A challenger that fails on more than so much of its last answers is taken away at once; 100: never.
    breaker_percent: Percent = 20


class Alerts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[alerts]: whom alerts reach."""

    #: Names of environment variables, each with the address of a channel (mailto://..., slack://..., https://...).
    channels: tuple[str, ...] = ()
    #: May a plain webhook (http://, https://) reach an address that is private or of this machine?
    private_addresses: bool = False


class Monitoring(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[monitoring]: what is measured of a mature day besides."""

    #: Input fields by whose values the loss is shown too; at most 5.
    slices: Annotated[tuple[str, ...], msgspec.Meta(max_length=5)] = ()
    #: The mature loss may be worse than the reference's by this share, and calls nobody; None: judged by days alone.
    tolerance: Positive | None = None


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[[rules]]: a change to one of the default rules (docs/monitoring.md lists them)."""

    watch: Watch
    #: page: somebody is called; ticket: it stands on the timeline and the dashboard; off: it is not watched.
    level: Literal["page", "ticket", "off"] | None = None
    #: In the unit of what is watched; None: the default.
    threshold: Positive | None = None
    #: The next action that the alert names, in the project's own words.
    action: str | None = None


class ProjectSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[project]: its name and the language of its papers."""

    name: Name
    #: Of the scoping note: en or fr.
    language: Literal["en", "fr"] = "en"


class Project(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A project: its settings, whole. ``root`` is the folder of its passerelle.toml."""

    project: ProjectSection
    task: Task
    notebook: Notebook = Notebook()
    gate: Gate = Gate()
    #: None: the project declares none; see ``assumed_costs``.
    costs: Costs | None = None
    data: Data = Data()
    serving: Serving = Serving()
    loop: Loop = Loop()
    trial: Trial = Trial()
    alerts: Alerts = Alerts()
    monitoring: Monitoring = Monitoring()
    rules: tuple[Rule, ...] = ()
    #: Name → where the deployments of an environment are applied besides this machine.
    targets: dict[Name, AnyTarget] = {}
    #: Column → keep, hash or drop, in the ledger, in golden rows, reports and images; keep where it is not named.
    privacy: dict[str, Privacy] = {}
    milestones: tuple[Milestone, ...] = ()
    acceptance: tuple[Acceptance, ...] = ()
    root: Path = Path()

    @property
    def name(self) -> str:
        """The project's name."""
        return self.project.name

    @property
    def state(self) -> Path:
        """The folder of everything that Passerelle keeps for the project: never edited by hand, never committed."""
        return self.root / STATE_FOLDER

    @property
    def assumed_costs(self) -> Costs:
        """[costs], or what is assumed of them where the project declares none."""
        return self.costs or Costs()

    @property
    def metric(self) -> Metric:
        """What the gate compares."""
        return self.gate.metric or METRICS[self.task.kind][0]

    @property
    def loss(self) -> Loss:
        """What a trial compares, per event."""
        return self.trial.loss or LOSSES[self.task.kind][0]


def find_project(start: Path) -> Project:
    """The project that a folder belongs to: the nearest passerelle.toml, here or above."""
    for folder in (start.resolve(), *start.resolve().parents):
        if (folder / FILE).is_file():
            refuse_unfit(folder)
            return load_project(folder / FILE)
    raise SettingsError(
        f"no {FILE} in {start.resolve()} or above: go to your project's folder, or make one: passerelle new NAME"
    )


def load_project(path: Path) -> Project:
    """Read a passerelle.toml. Raises SettingsError, naming the key, the value and, for a typing error, the near one."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not TOML: {error}. Correct that line.") from error
    refuse_unknown(raw, Project, "", path)
    refuse_targets(raw.get("targets"), path)
    try:
        project = msgspec.convert(raw, prepared(Project))
    except msgspec.ValidationError as error:
        said = in_words(error, Project)
        raise SettingsError(f"{path}: {said}. Correct it and run the command again.") from error
    _refuse_misfits(project, path)
    return msgspec.structs.replace(project, root=path.resolve().parent)


def _refuse_misfits(project: Project, path: Path) -> None:
    """Values that are right each by itself, and wrong together."""
    metrics = METRICS[project.task.kind]
    if project.gate.metric is not None and project.gate.metric not in metrics:
        raise SettingsError(
            f"{path}: gate.metric is {project.gate.metric!r}, which a {project.task.kind} task has not: "
            f"name one of {', '.join(metrics)}."
        )
    figures = (*metrics, *OTHER_FIGURES[project.task.kind])
    for acceptance in project.acceptance:
        if acceptance.figure not in figures:
            raise SettingsError(
                f"{path}: the acceptance figure {acceptance.figure!r} of {acceptance.name!r} is never measured in a "
                f"{project.task.kind} task: name one of {', '.join(figures)}."
            )
    losses = LOSSES[project.task.kind]
    if project.loss not in losses:
        raise SettingsError(
            f"{path}: trial.loss is {project.loss!r}, which a {project.task.kind} task has not: "
            f"name one of {', '.join(losses)}."
        )
    refuse_untriable(project.trial, loss=project.loss, unit=project.task.unit, path=path)
    refuse_thresholds(project.rules, path)
    if project.loop.retrain_cost is not None and project.costs is None:
        raise SettingsError(
            f"{path}: loop.retrain_cost is {project.loop.retrain_cost:g}, in the unit of [costs], which is not there: "
            "declare [costs] with action and missed, or leave retrain_cost out."
        )
    _refuse_addresses(project.alerts.channels, path)
    said: dict[str, list[str]] = {
        "rules": [rule.watch for rule in project.rules],
        "trial.guardrails": [guardrail.watch for guardrail in project.trial.guardrails],
    }
    for section, watched in said.items():
        if twice := [watch for watch in watched if watched.count(watch) > 1]:
            raise SettingsError(f"{path}: [[{section}]] says {twice[0]!r} twice: keep one of them.")
    refuse_private(project.privacy, key=project.task.key, slices=project.monitoring.slices, path=path)


def _refuse_addresses(channels: Sequence[str], path: Path) -> None:
    """An address where the name of its variable belongs. It may hold a secret: it is not repeated."""
    for number, name in enumerate(channels):
        if re.fullmatch(_VARIABLE, name) is None:
            raise SettingsError(
                f"{path}: alerts.channels[{number}] is not the name of an environment variable (letters, digits, _). "
                "Put the address into a variable, OPERATIONS_CHANNEL say, and name that here: this file is committed."
            )
