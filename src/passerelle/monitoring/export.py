"""Export: a project's rules and channels for Prometheus and Alertmanager, as files that both read."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from passerelle.errors import SettingsError
from passerelle.monitoring.alertmanager import alertmanager_file
from passerelle.monitoring.looking import allowed_silence
from passerelle.monitoring.prometheus import HEAD, prometheus_file, rules_file
from passerelle.project.settings import Project
from passerelle.state.database import open_state


def export(project: Project, environment: str, folder: Path, *, dashboard: str, now: datetime) -> list[Path]:
    """Write the rules, Prometheus's scrapes (``dashboard`` is host:port) and Alertmanager's routes; the files.

    An earlier export there is written over. Raises SettingsError, before anything is written, if a file there is
    somebody's own.
    """
    with open_state(project.state).connect() as connection:
        allowed = allowed_silence(connection, project, environment, now=now)
    addresses = {name: os.environ.get(name, "").strip() or None for name in project.alerts.channels}
    host = "127.0.0.1" if project.serving.host in ("0.0.0.0", "::") else project.serving.host  # noqa: S104  (compared)
    endpoint = f"{f'[{host}]' if ':' in host else host}:{project.serving.port}"
    texts = {
        "passerelle.rules.yml": rules_file(project, environment, allowed_minutes=allowed),
        "prometheus.yml": prometheus_file(project, environment, endpoint=endpoint, dashboard=dashboard),
        "alertmanager.yml": alertmanager_file(project, addresses),
    }
    for name in texts:
        path = folder / name
        if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(HEAD):
            raise SettingsError(f"{path} is not of an earlier export: name another folder. Nothing was written.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        draft = folder / f".{name}.draft"
        draft.write_text(text, encoding="utf-8")
        draft.replace(folder / name)
    return [folder / name for name in texts]
