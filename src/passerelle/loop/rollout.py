"""Rollout: what a person or the loop decides becomes a revision; aliases and timeline are derived from it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from passerelle.bundle.keys import trusted
from passerelle.bundle.manifest import INLINE
from passerelle.bundle.verify import verify
from passerelle.deployment.spec import Auth, Deployment, Revisions, Variant, environment_folder
from passerelle.errors import DeploymentError, SettingsError
from passerelle.ledger.storage import ledger_folder
from passerelle.ledger.stored import expect
from passerelle.loop.columns import refuse_unknown_columns
from passerelle.project.settings import FILE, LedgerMode, Project
from passerelle.project.targets import Cloud, Kubernetes
from passerelle.registry.versions import Registry
from passerelle.state.database import open_state
from passerelle.state.lease import lease
from passerelle.state.timeline import Event, events, record

#: The environment whose live version is the champion.
PRODUCTION = "production"

_WAIT_S = 60.0


def revisions(project: Project, environment: str) -> Revisions:
    """The revisions of one of the project's environments."""
    return Revisions(environment_folder(project.state, environment))


def deploy(
    project: Project,
    registry: Registry,
    version: int,
    *,
    environment: str = PRODUCTION,
    share: float = 1.0,
    shadow: bool = False,
    reason: str | None = None,
    salt: str | None = None,
    trial: str | None = None,
    after: int | None = None,
    draft: bool = False,
    now: datetime,
) -> Deployment:
    """Make a version answer in an environment: alone, for a share of the units beside the one that answers, or shadow.

    If the current revision already says the same (variants, settings, trial and trusted keys) it is returned, and
    nothing is changed. ``salt`` is for the first revision only: those that follow keep it. ``trial`` is the trial that
    the revision begins. ``after`` is the revision that the caller has seen (0: none); else it is looked up here. A
    ``draft`` is only answered, to be looked at. Raises DeploymentError if somebody made a revision in between,
    RegistryError if there is no such version.
    """
    place = revisions(project, environment)
    current = place.current()
    number = current.revision if current else 0
    if after is not None and number != after:
        raise DeploymentError(f"revision {number} was made while you were deciding on {after}: look at it, try again.")
    refuse_unknown_columns(project)
    found = registry.get(version)
    verified = verify(found.path, digest=found.digest, trusted_keys=trusted(project.state))
    if verified.distrust is not None and not any(name.startswith(f"{INLINE}/") for name in verified.manifest.files):
        raise DeploymentError(f"version {version} could not be served: {verified.distrust}")
    variant = Variant(version=found.number, bundle=_place(project, found.path), digest=found.digest)
    variants = _beside(current, variant, share=share, shadow=shadow)
    how = "as a shadow" if shadow else "" if share == 1 else f"for {share:.0%} of the units"
    sentence = " ".join(f"version {version} {how}".split())
    return _put(
        project,
        place,
        current,
        variants,
        environment=environment,
        reason=reason or sentence,
        salt=salt,
        trial=trial,
        draft=draft,
        now=now,
    )


def renew(project: Project, *, environment: str = PRODUCTION, draft: bool = False, now: datetime) -> Deployment:
    """The current revision; a new one that says the same if the settings now say otherwise where its ledger is kept.

    So it is when an environment got its first target in a cloud. Raises DeploymentError if nothing is deployed.
    """
    place = revisions(project, environment)
    current = place.current()
    if current is None:
        raise DeploymentError(f"nothing is deployed in {environment}: passerelle deploy VERSION --to {environment}.")
    if (current.ledger_at, current.auth) == kept_at(project, environment):
        return current
    return _put(
        project,
        place,
        current,
        current.variants,
        environment=environment,
        reason=f"the targets of {environment} have changed",
        trial=current.trial,
        draft=draft,
        now=now,
    )


def kept_at(project: Project, environment: str) -> tuple[str | None, Auth]:
    """Where revisions of an environment keep their ledger, and who decides whether a request may pass.

    Of one with a target in a cloud: in its store, and the platform; on Kubernetes only if a gateway is said to be in
    front. Raises SettingsError for two clouds: a trial is judged by one ledger, and each keeps in the store's folder of
    the environment what it needs itself, and nothing else.
    """
    clouds = {
        name: one for name, one in project.targets.items() if isinstance(one, Cloud) and one.environment == environment
    }
    if len(clouds) > 1:
        raise SettingsError(
            f"{FILE}: {' and '.join(clouds)} are both targets of {environment}: give each an environment of its own."
        )
    for one in clouds.values():
        unguarded = isinstance(one, Kubernetes) and not one.gateway
        return f"{one.store}/ledger/{project.name}/{environment}", "tokens" if unguarded else "platform"
    return None, "tokens"


def ledger_mode(project: Project, ledger_at: str | None) -> LedgerMode:
    """How a ledger is written: as the settings say, else durable on a disk, async in an object store.

    There each write is a request of some 50 ms, which a durable answer would wait for.
    """
    return project.serving.ledger or ("async" if ledger_at is not None and "://" in ledger_at else "durable")


def roll_back(
    project: Project, *, environment: str = PRODUCTION, reason: str | None = None, now: datetime
) -> Deployment:
    """A new revision with what answered before the current: the way back is forward.

    Each roll-back goes one step further back, never to what a roll-back has left. Of a trial only its champion comes
    back: it answers alone, and the trial stays over. Raises DeploymentError if there is nothing to go back to.
    """
    place = revisions(project, environment)
    current = place.current()
    if current is None:
        raise DeploymentError(f"nothing is deployed in {environment}: passerelle deploy VERSION --to {environment}.")
    before = _before(place, current)
    if before is not None:
        sentence = reason or f"roll back from revision {current.revision} to what revision {before.revision} said"
        return _put(
            project,
            place,
            current,
            _untried(before),
            environment=environment,
            reason=sentence,
            now=now,
            rolls_back_to=before.revision,
        )
    raise DeploymentError(
        f"{environment} never answered with anything else: there is nothing to roll back to. passerelle versions says "
        "which there are, passerelle deploy VERSION lets another answer."
    )


def reconcile(project: Project, registry: Registry) -> None:
    """Derive what the revisions imply, as often as one likes: the timeline's entries, and production's aliases.

    A revision is the truth the moment it is there; whoever made it may have died before telling anybody.
    """
    with lease(project.state, "reconcile", wait_s=_WAIT_S):
        _reconcile(project, registry)


def _reconcile(project: Project, registry: Registry) -> None:
    engine = open_state(project.state)
    told = {(event.subject, event.details.get("revision")) for event in events(engine, kind="deployment")}
    for folder in sorted((project.state / "deployments").glob("*")):
        place = revisions(project, folder.name)
        for number in place.numbers():
            if (folder.name, number) not in told:
                made = place.get(number)
                sentence = f"revision {number}: {made.reason}"
                details = {"revision": number}
                event = Event(
                    at=made.created_at, kind="deployment", subject=folder.name, sentence=sentence, details=details
                )
                record(engine, event)
    told = {(event.subject, None) for event in events(engine, kind="version")}
    for version in registry.versions():
        if (str(version.number), None) not in told:
            sentence = f"version {version.number} was made"
            event = Event(at=version.created_at, kind="version", subject=str(version.number), sentence=sentence)
            record(engine, event)
    current = revisions(project, PRODUCTION).current()
    if current is None:
        return
    champion = current.champion
    live = sorted(current.live, key=lambda one: (one is not champion, -one.weight, one.version))
    known = {version.number for version in registry.versions()}
    if not {variant.version for variant in current.variants} <= known:
        return  # the registry was begun anew: what answers has no number in it to point at
    registry.set_alias("champion", live[0].version)
    others = [*live[1:], *current.shadows]
    if others:
        registry.set_alias("challenger", others[0].version)
    else:
        registry.drop_alias("challenger")


def _place(project: Project, bundle: Path) -> str:
    """A bundle's place as a revision says it: from the project's folder, so that a project may be moved."""
    return str(bundle.relative_to(project.root) if bundle.is_relative_to(project.root) else bundle)


def _beside(current: Deployment | None, variant: Variant, *, share: float, shadow: bool) -> tuple[Variant, ...]:
    """The variants of the next revision."""
    if not shadow and share == 1:
        return (variant,)
    if current is None:
        raise DeploymentError("nothing answers here yet: deploy a version alone first, then another beside it.")
    champion = current.champion
    if champion.version == variant.version:
        raise DeploymentError(
            f"version {variant.version} is the champion here: name another to put beside it, or passerelle deploy "
            f"{variant.version} to let it answer alone."
        )
    if shadow and share != 1:
        raise DeploymentError("a shadow answers nobody, so it has no share: give --share or --shadow.")
    if shadow:
        added = msgspec.structs.replace(variant, weight=0.0, mode="shadow")
        return (msgspec.structs.replace(champion, weight=1.0), added)
    if not 0 < share < 1:
        raise DeploymentError(f"a share of {share:g} is not between 0 and 1.")
    return (msgspec.structs.replace(champion, weight=1 - share), msgspec.structs.replace(variant, weight=share))


def _before(place: Revisions, current: Deployment) -> Deployment | None:
    """What answered before the current revision, roll-backs undone: the newest other variants not left by one."""
    origin = current
    while True:
        while origin.rolls_back_to is not None:
            origin = place.get(origin.rolls_back_to)
        if origin.revision == 1:
            return None
        origin = place.get(origin.revision - 1)
        if _untried(origin) != current.variants:
            return origin


def _untried(revision: Deployment) -> tuple[Variant, ...]:
    """The variants of a revision; of one that began a trial the champion alone: the challenger was not accepted yet."""
    if revision.trial is None:
        return revision.variants
    return (msgspec.structs.replace(revision.champion, weight=1.0),)


def _put(
    project: Project,
    place: Revisions,
    current: Deployment | None,
    variants: tuple[Variant, ...],
    *,
    environment: str,
    reason: str,
    now: datetime,
    salt: str | None = None,
    trial: str | None = None,
    rolls_back_to: int | None = None,
    draft: bool = False,
) -> Deployment:
    ledger_at, auth = kept_at(project, environment)
    number = current.revision + 1 if current else 1
    deployment = Deployment(
        project=project.name,
        environment=environment,
        revision=number,
        variants=variants,
        salt=current.salt if current else salt or secrets.token_hex(16),
        trusted_keys=trusted(project.state),
        trial=trial,
        ledger=ledger_mode(project, ledger_at),
        ledger_at=ledger_at,
        auth=auth,
        unit=project.task.unit,
        time=project.task.time,
        privacy=project.privacy,
        rolls_back_to=rolls_back_to,
        created_at=now,
        reason=reason,
    )
    if current and rolls_back_to is None and _says(deployment) == _says(current):
        return current
    if not draft:
        # Before anybody obeys it: no day is closed without what is written there.
        expect(ledger_folder(project.state, environment), ledger_at, now=now)
        place.put(deployment, after=number - 1)
    return deployment


def _says(deployment: Deployment) -> Deployment:
    """A revision but for its number and history."""
    return msgspec.structs.replace(
        deployment, revision=0, created_at=datetime.min.replace(tzinfo=UTC), reason="", rolls_back_to=None
    )
