"""Signing: a trial that has ended is signed by who ended it, or by the next tick; a key that fails holds nothing up."""

from __future__ import annotations

from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from passerelle.bundle.keys import own_key, public_hex, trust
from passerelle.errors import SettingsError
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.state.timeline import Event, record_once
from passerelle.trial.signing import is_any_due, sign_ended


def sign(project: Project, environment: str, *, key: Ed25519PrivateKey | None = None, now: datetime) -> None:
    """Sign the records of an environment's trials that have ended, with ``key``, by default the user's own.

    A key that cannot be read is told on the timeline once, and tried again at the next tick.
    """
    engine = open_state(project.state)
    if not is_any_due(engine, environment):
        return
    try:
        mine = key or own_key()
    except (SettingsError, OSError) as error:
        told = f"the trials that have ended are not signed: {error}"
        record_once(engine, Event(at=now, kind="signature", subject=environment, sentence=told))
        return
    trust(project.state, public_hex(mine))  # as that of whoever trains here: who may write to the state could do that
    sign_ended(engine, environment, mine, now=now)
