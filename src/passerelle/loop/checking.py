"""Check: everything that can be said of a project without running its notebook."""

from __future__ import annotations

from datetime import datetime

from passerelle.data.contract import load_contract
from passerelle.deployment.applying import open_target
from passerelle.deployment.spec import Deployment, Variant
from passerelle.deployment.target import PlanError
from passerelle.errors import MissingExtraError, SubmissionError
from passerelle.loop.columns import refuse_unknown_columns
from passerelle.loop.rollout import kept_at, ledger_mode, renew, revisions
from passerelle.notebook.source import read_source
from passerelle.project.note import FILE as NOTE
from passerelle.project.note import render
from passerelle.project.settings import FILE, Project


def check_project(project: Project, *, now: datetime) -> dict[str, str]:
    """Read settings, contract, notebook, note and targets; what → what it holds. Raises what is wrong with the first.

    No cloud is asked, and none need be reached.
    """
    source = read_source(project.root / project.notebook.path)
    code = [cell.source for cell in source.node.cells if cell.cell_type == "code"]
    calls = [name for name in ("training_data", "submit") if not any(name in cell for cell in code)]
    if calls:
        raise SubmissionError(
            f"{project.notebook.path} never calls passerelle.{calls[0]}: add the call, see docs/notebook.md."
        )
    contract = load_contract(project)
    refuse_unknown_columns(project)
    note = project.root / NOTE
    found = {
        FILE: f"{project.name} predicts {project.task.target} ({project.task.kind})",
        "contract.toml": f"tables: {', '.join(contract.tables) or 'none until the first delivery'}",
        project.notebook.path: f"{len(code)} code cells, {source.language}",
    }
    if note.exists():
        render(project, reached={}, figures={}, now=now)
        found[note.name] = "every figure it names is in passerelle.toml"
    return found | _of_targets(project, now)


def _of_targets(project: Project, now: datetime) -> dict[str, str]:
    """Target → that it takes what would be deployed there. Raises PlanError, naming the target, if it does not."""
    found = {}
    for name, settings in project.targets.items():
        kind, environment = settings.__struct_config__.tag, settings.environment
        try:
            open_target(project, name).refuse(_due(project, environment, now))
            found[f"targets.{name}"] = f"{kind} takes what {environment} answers by"
        except MissingExtraError as error:
            found[f"targets.{name}"] = f"not checked: {error}"
        except PlanError as error:
            raise PlanError(error.rule, f"targets.{name}: {error.message}") from error
    return found


def _due(project: Project, environment: str, now: datetime) -> Deployment:
    """What would be deployed now: the current revision, or, where there is none, any first one."""
    if revisions(project, environment).current() is not None:
        return renew(project, environment=environment, draft=True, now=now)
    ledger_at, auth = kept_at(project, environment)
    return Deployment(
        project=project.name,
        environment=environment,
        revision=1,
        variants=(Variant(version=1, bundle="", digest=""),),
        salt="",
        trusted_keys=(),
        ledger=ledger_mode(project, ledger_at),
        ledger_at=ledger_at,
        auth=auth,
        created_at=now,
        reason="a check",
    )
