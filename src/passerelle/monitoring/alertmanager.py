"""Alertmanager: its configuration, by the project's channels. No secret is written: its file or place is named."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from passerelle.monitoring.channels import open_channel
from passerelle.monitoring.messages import ChannelError
from passerelle.monitoring.prometheus import HEAD
from passerelle.project.settings import Project

#: Where Alertmanager finds each secret: a file of the channel's name there, which only it may read.
SECRETS = "/etc/alertmanager/secrets"
_TEXT = "{{ range .Alerts }}{{ .Annotations.summary }}\nNext: {{ .Annotations.action }}\n{{ end }}"


def alertmanager_file(project: Project, addresses: Mapping[str, str | None]) -> str:
    """alertmanager.yml: pages to the project's channels, tickets to nobody; one message for what has one cause.

    ``addresses``: what the environment variable of each channel holds; None where it is not set.
    """
    lines = [
        f"{HEAD} for {project.name}.",
        "# A watch is silenced by its labels: amtool silence add watch=latency environment=production -d 4h -c 'why'",
        "route:",
        "  receiver: tickets",
        "  group_by: [project, environment, cause]",
        "  group_wait: 1m",
        "  group_interval: 5m",
        "  repeat_interval: 12h",
        "  routes:",
        "    - matchers: ['level = \"page\"']",
        "      receiver: pages",
        "receivers:",
        "  - name: tickets  # they stand on Prometheus's and Alertmanager's pages, and call nobody",
        "  - name: pages",
    ]
    kinds: dict[str, list[str]] = {}
    for name in dict.fromkeys(project.alerts.channels):
        kind, said = _receiver(name, addresses.get(name))
        kinds.setdefault(kind, []).extend(said)
    if not kinds:
        lines.append("    # No channel is configured, so pages reach nobody: name one below [alerts] and export again.")
    for kind, said in kinds.items():
        lines += [f"    {kind}:", *(f"      {line}" for line in said)]
    return "\n".join(lines) + "\n"


def _receiver(name: str, address: str | None) -> tuple[str, list[str]]:
    """The kind of a channel's receiver, and its lines."""
    made = _made(address)
    kind = type(made).__name__
    if kind == "NotifyEmail":
        return "email_configs", _mail(name, made)
    if kind == "NotifySlack":
        to = next(iter(getattr(made, "channels", None) or ()), None)
        return "slack_configs", [
            f"# Put the address of the incoming webhook of {name} (https://hooks.slack.com/...) into this file.",
            f"- api_url_file: {SECRETS}/{name}",
            *([f"  channel: {_quoted(to)}"] if to else []),
            f"  text: {_quoted(_TEXT)}",
            "  send_resolved: true",
        ]
    if address is None:
        why = f"{name} is not set where this was exported, so its kind is not known."
    elif made is None:
        why = f"{name} is a plain webhook, whose address may hold a secret. It gets Alertmanager's own JSON."
    else:
        why = f"{name} is a service that has another receiver here, or none: see Alertmanager's documentation."
    return "webhook_configs", [
        f"# {why}",
        "# Put its address in place of this one, in a copy that only Alertmanager may read (from 0.26 on: url_file).",
        f"- url: https://{name}.invalid/",
        "  send_resolved: true",
    ]


def _mail(name: str, made: Any) -> list[str]:
    to = ", ".join(address for _, address in made.targets)
    lines = [
        f"- to: {_quoted(to)}",
        f"  from: {_quoted(made.from_addr[1])}",
        f"  smarthost: {_quoted(f'{made.smtp_host}:{made.port or (587 if made.secure else 25)}')}",
        f"  require_tls: {'true' if made.secure_mode == 'starttls' else 'false'}",
        "  headers: {Subject: '{{ .CommonLabels.environment }}: {{ range .Alerts }}{{ .Labels.watch }} {{ end }}'}",
        "  html: ''",
        f"  text: {_quoted(_TEXT)}",
        "  send_resolved: true",
    ]
    if not made.user:
        return lines
    return [
        f"# Put the password of {name} into this file.",
        *lines,
        f"  auth_username: {_quoted(made.user)}",
        f"  auth_password_file: {SECRETS}/{name}",
    ]


def _made(address: str | None) -> Any:
    """What apprise makes of an address; None for a plain webhook, and for what is not set or cannot be used."""
    if address is None or address.partition("://")[0].lower() in ("http", "https"):
        return None
    try:
        open_channel(address)  # it refuses what we would not send to
    except ChannelError:
        return None
    import apprise  # noqa: PLC0415  (a hundred services: loaded by whoever needs one)

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # its lines quote addresses
    service = apprise.Apprise()
    service.add(address)
    return service[0]


def _quoted(text: str) -> str:
    return msgspec.json.encode(text).decode()
