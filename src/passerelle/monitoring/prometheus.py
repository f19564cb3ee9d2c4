"""Prometheus: the project's rules as it has them, and what it scrapes. Pure; as text, which is YAML.

Latency, errors and silence are computed by Prometheus from the endpoint's own counts, with the project's thresholds.
The others need the ledger: they fire as long as the loop's own alert is open, which the dashboard's gauges say.
"""

from __future__ import annotations

import math

import msgspec

from passerelle.monitoring.grouping import chain_of
from passerelle.monitoring.rules import DEFAULTS, WatchRule, rule_of
from passerelle.monitoring.service import FEWEST, FEWEST_BAD
from passerelle.project.settings import Project, Watch
from passerelle.serving.measures import SECONDS

#: The first words of each file that is written: what has other first words is somebody's own.
HEAD = "# Written by passerelle alerts export"
ENDPOINT, DASHBOARD = "passerelle-endpoint", "passerelle-dashboard"
#: What a rule on the endpoint's counts looks back over; the loop looks at so many requests, however long they take.
_BACK = "10m"
#: The loop has ended if it has not looked for so long, or for so many of its own pauses.
_START = (
    "Start it again: `passerelle up`, whose last lines say why it ended. Predictions go on meanwhile; nothing that the "
    "loop measures is watched."
)
_NO_LOOK_S, _NO_LOOKS = 900.0, 10


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, as Prometheus has it."""

    name: str
    rule: WatchRule
    #: PromQL, line by line.
    expression: tuple[str, ...]
    #: How long it must hold.
    hold: str
    #: What is wrong, with Prometheus's own templates for the figures.
    summary: str


def rules_of(project: Project, environment: str, *, allowed_minutes: float) -> tuple[Exported, ...]:
    """Every rule that is not off. ``allowed_minutes``: how long silence may last, as it is set or was learned."""
    where = f'project="{project.name}", environment="{environment}"'
    found = []
    for watch in DEFAULTS:
        rule = rule_of(project, watch)
        if rule.level != "off":
            found += _rules(rule, where, allowed_minutes, max(_NO_LOOK_S, _NO_LOOKS * project.loop.tick_s))
    return tuple(found)


def rules_file(project: Project, environment: str, *, allowed_minutes: float) -> str:
    """passerelle.rules.yml."""
    lines = [
        f"{HEAD} for {project.name}, {environment}: change passerelle.toml and export again.",
        "groups:",
        f"  - name: {_quoted(f'passerelle-{project.name}-{environment}')}",
        "    rules:",
        *_recorded(f'project="{project.name}", environment="{environment}"'),
    ]
    for one in rules_of(project, environment, allowed_minutes=allowed_minutes):
        action = one.rule.action.replace("{{", '{{ "{{" }}')
        lines += [
            f"      - alert: {one.name}",
            "        expr: |-",
            *(f"          {line}" for line in one.expression),
            f"        for: {one.hold}",
            "        labels:",
            f"          watch: {one.rule.watch}",
            f"          level: {one.rule.level}",
            f"          cause: {chain_of(one.rule.watch)}",
            "        annotations:",
            f"          summary: {_quoted(one.summary)}",
            f"          action: {_quoted(action)}",
        ]
    return "\n".join(lines) + "\n"


def prometheus_file(project: Project, environment: str, *, endpoint: str, dashboard: str) -> str:
    """prometheus.yml: what is scraped, for who has none yet; ``endpoint`` and ``dashboard`` are host:port."""
    lines = [
        f"{HEAD} for {project.name}, {environment}.",
        "# Where tokens were made (passerelle token NAME --scope read), each job needs one, in a file:",
        "#   authorization: {credentials_file: /etc/prometheus/passerelle-token}",
        "global:",
        "  scrape_interval: 15s",
        "  evaluation_interval: 15s",
        "rule_files: [passerelle.rules.yml]",
        "alerting:",
        "  alertmanagers:",
        "    - static_configs:",
        "        - targets: ['127.0.0.1:9093']",
        "scrape_configs:",
    ]
    for job, target in ((ENDPOINT, endpoint), (DASHBOARD, dashboard)):
        lines += [
            f"  - job_name: {job}",
            "    static_configs:",
            f"      - targets: [{_quoted(target)}]",
            f"        labels: {{project: {_quoted(project.name)}, environment: {_quoted(environment)}}}",
        ]
    return "\n".join(lines) + "\n"


def _rules(rule: WatchRule, where: str, allowed_minutes: float, no_look_s: float) -> list[Exported]:
    watch = rule.watch
    if watch == "latency":
        return [_latency(rule, where)]
    if watch == "errors":
        return [_errors(rule, where)]
    if watch == "silence":
        return [*_silence(rule, where, allowed_minutes)]
    found = [_of_the_loop(rule, where)]
    if watch == "loop":
        # Its own alert is a ticket, for its other steps go on. Where all have ended, nothing else can call.
        gone = msgspec.structs.replace(rule, level="page", action=_START)
        seconds = f"time() - max by (project, environment) (passerelle_loop_look_timestamp_seconds{{{where}}})"
        down = f'(up{{job="{DASHBOARD}", {where}}} == 0)'
        found += [
            _exported("LoopStopped", gone, f"{seconds} > {no_look_s:g}", summary="the loop has stopped looking."),
            _exported("DashboardDown", gone, down, hold="10m", summary="the dashboard does not answer."),
        ]
    return found


def _latency(rule: WatchRule, where: str) -> Exported:
    limit_s = (rule.threshold or 1.0) / 1000
    limit = f">= {SECONDS[-1]:g}" if limit_s >= SECONDS[-1] else f"> {limit_s:g}"  # what is slower is not told apart
    bound = next((one for one in SECONDS if one >= limit_s), SECONDS[-1])
    requests = _increase(f'passerelle_request_seconds_count{{{where}, route="/predict"}}')
    quick = _increase(f'passerelle_request_seconds_bucket{{{where}, route="/predict", le=~"{bound:g}|{bound}"}}')
    return _exported(
        "Latency",
        rule,
        f"passerelle:p99_seconds:{_BACK}{{{where}}} {limit}",
        f"and {requests} >= {FEWEST}",
        f"and {requests} - {quick} >= {FEWEST_BAD}",
        summary=f"one request in a hundred takes {{{{ $value | humanizeDuration }}}} or more ({limit} s is too long).",
    )


def _errors(rule: WatchRule, where: str) -> Exported:
    limit = rule.threshold or 1.0
    events, requests = (
        f'passerelle_events_total{{{where}, role="live"{{more}}}}',
        f'passerelle_requests_total{{{where}, route="/predict"{{more}}}}',
    )
    lines: list[str] = []
    for counted, bad in ((events, ', status=~"failed|timed_out"'), (requests, ', code=~"[45].."')):
        wrong, every = _increase(counted.replace("{more}", bad)), _increase(counted.replace("{more}", ""))
        lines += ["or"] if lines else []
        lines += [
            f"(100 * {wrong} / {every} > {limit:g}",
            f"and {wrong} >= {FEWEST_BAD} and {every} >= {FEWEST})",
        ]
    summary = f"{{{{ $value | humanize }}}} % of the events or requests failed or were refused; {limit:g} % may be."
    return _exported("Errors", rule, *lines, summary=summary)


def _silence(rule: WatchRule, where: str, allowed_minutes: float) -> list[Exported]:
    minutes = max(1, math.ceil(allowed_minutes))
    events = f'passerelle_events_total{{{where}, role="live"}}'
    once = f"count by (project, environment) ({events} offset {minutes}m)"  # what has just been found is not silent
    silent = (
        f"(sum by (project, environment) (increase({events}[{minutes}m])) == 0 and {once})",
        f"or {_open(rule, where)}",  # which also knows of a restart in between, and what was learned since
    )
    down = f'(up{{job="{ENDPOINT}", {where}}} == 0)'
    return [
        _exported("Silence", rule, *silent, summary=f"no event has come for {minutes} minutes or more."),
        _exported("EndpointDown", rule, down, hold="5m", summary="the endpoint does not answer."),
    ]


def _of_the_loop(rule: WatchRule, where: str) -> Exported:
    """As long as the loop's own alert is open."""
    summary = f"{rule.watch}: passerelle alerts --open and the dashboard say what, with the figures."
    return _exported(_camel(rule.watch), rule, _open(rule, where), summary=summary)


def _open(rule: WatchRule, where: str) -> str:
    return f'(max by (project, environment) (passerelle_alert_open{{{where}, watch="{rule.watch}"}}) == 1)'


def _exported(name: str, rule: WatchRule, *expression: str, hold: str = "0m", summary: str) -> Exported:
    said = f"{{{{ $labels.environment }}}}: {summary}"
    return Exported(name=f"Passerelle{name}", rule=rule, expression=expression, hold=hold, summary=said)


def _recorded(where: str) -> list[str]:
    """What is recorded, for charts and for the rule on latency."""
    bucket = f'passerelle_request_seconds_bucket{{{where}, route="/predict"}}'
    requests = f'passerelle_requests_total{{{where}, route="/predict"}}'
    each = {
        f"passerelle:p99_seconds:{_BACK}": "histogram_quantile(0.99, sum by (project, environment, le) "
        f"(increase({bucket}[{_BACK}])))",
        f"passerelle:requests_per_second:{_BACK}": f"sum by (project, environment) (rate({requests}[{_BACK}]))",
    }
    return [
        line for name, what in each.items() for line in (f"      - record: {name}", f"        expr: {_quoted(what)}")
    ]


def _increase(counted: str) -> str:
    return f"sum by (project, environment) (increase({counted}[{_BACK}]))"


def _camel(watch: Watch) -> str:
    return "".join(word.capitalize() for word in watch.split("_"))


def _quoted(text: str) -> str:
    """As JSON has it, which YAML reads."""
    return msgspec.json.encode(text).decode()
