"""Shadow scores that are missing when a day closes: scored from the recorded inputs, by the challenger itself."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from living import A_DAY, Take, current

from passerelle.ledger.records import Prediction
from passerelle.ledger.segments import record
from passerelle.ledger.storage import LocalStorage, ledger_folder
from passerelle.ledger.views import ask
from passerelle.loop.gaps import fill_gaps
from passerelle.loop.judging import score_rows
from passerelle.loop.rollout import PRODUCTION
from passerelle.loop.train import registry_of
from passerelle.project.settings import Project
from passerelle.schema import Columns


def shadows(project: Project) -> dict[str, tuple[str, list[float] | None, str | None]]:
    question = "SELECT id, status, output, error FROM predictions WHERE role = 'shadow' AND writer LIKE 'gaps%'"
    answer = ask(ledger_folder(project.state, PRODUCTION), question)
    return {id_: (status, output, error) for id_, status, output, error in answer.rows}


def test_what_is_missing_is_scored_as_the_shadow_would_have(take: Take) -> None:
    project, now = take("tried")
    folder = ledger_folder(project.state, PRODUCTION)
    day = (now - A_DAY).replace(hour=0)
    deployment = current(project)
    live, shadow = deployment.variants
    odd = {"an event": {"distance": 1.0, "weight": 2.0}, "of another kind": {"distance": "far", "weight": 2.0}}
    records = [
        Prediction(
            id=id_,
            unit=id_,
            role="live",
            status="failed",
            revision=deployment.revision,
            version=live.version,
            digest=live.digest,
            trial=trial,
            inputs=inputs,
            event_at=day + timedelta(hours=1),
            received_at=day,
        )
        for id_, inputs, trial in [
            *((id_, inputs, deployment.trial) for id_, inputs in odd.items()),
            ("of no trial", odd["an event"], None),
        ]
    ]
    asyncio.run(record(LocalStorage(folder), records, slot="other"))
    assert fill_gaps(project, PRODUCTION, now=now - timedelta(hours=2)) == 0, "the day cannot be closed yet"
    assert fill_gaps(project, PRODUCTION, now=now) == 3
    found = shadows(project)
    dropped = f"{day:%m%d}-19"
    assert set(found) == {dropped, "an event", "of another kind"}
    challenger = registry_of(project).get(shadow.version)
    (inputs,) = ask(folder, "SELECT inputs FROM predictions WHERE role = 'live' AND id = ?", [dropped]).rows[0]
    assert inputs == '{"distance":1.9,"weight":1.0}'
    columns: Columns = challenger_schema(project).validate([{"distance": 1.9, "weight": 1.0}, odd["an event"]])
    expected = score_rows(project, challenger.path, challenger.digest, columns)
    assert found[dropped] == ("scored", expected[0].tolist(), None)
    assert found["an event"] == ("scored", expected[1].tolist(), None), "though the champion failed on it"
    status, output, error = found["of another kind"]
    assert (status, output) == ("failed", None)
    assert error is not None
    assert "distance" in error
    assert fill_gaps(project, PRODUCTION, now=now) == 0, "once"


def challenger_schema(project: Project):  # noqa: ANN201  (the bundle's)
    from passerelle.bundle.manifest import read_manifest

    return read_manifest(registry_of(project).get(2).path)[0].schema


def test_inputs_that_are_not_kept_cannot_be_scored(take: Take) -> None:
    from passerelle.deployment.spec import environment_folder

    project, now = take("tried")
    path = environment_folder(project.state, PRODUCTION) / f"{current(project).revision:06d}.json"
    path.write_text(path.read_text().replace('"privacy": {}', '"privacy": {"distance": "drop"}'))
    assert current(project).privacy == {"distance": "drop"}
    assert fill_gaps(project, PRODUCTION, now=now) == 0
