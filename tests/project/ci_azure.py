"""Plays azure-pipelines.yml as ci_runner does the others: its expressions, variables, macros, steps and artefacts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml
from ci_runner import SECRETS, Runner, keep

_WORDS = {"success": "Succeeded", "failure": "Failed", "skipped": "Skipped"}


def run_azure(
    runner: Runner,
    *,
    reason: str = "IndividualCI",
    branch: str = "refs/heads/main",
    schedule: str = "",
    parameter: str = "",
) -> None:
    """Every job of a pipeline, in the order of its dependencies (which is the order of the file)."""
    text = (runner.repository / "azure-pipelines.yml").read_text(encoding="utf-8")
    pipeline = yaml.safe_load(text)
    assert schedule in ("", *(one["displayName"] for one in pipeline["schedules"]))
    (asked,) = pipeline["parameters"]
    assert parameter in ("", *asked["values"])
    chosen = {f"parameters.{asked['name']}": parameter or asked["default"]}
    pipeline = yaml.safe_load(re.sub(r"\$\{\{ (.*?) \}\}", lambda found: str(value_of(found[1], chosen, ())), text))
    variables = {f"variables['{name}']": value for name, value in runner.given.items()} | {
        "variables['Build.Reason']": reason,
        "variables['Build.SourceBranch']": branch,
        "variables['Build.CronSchedule.DisplayName']": schedule,
    }
    for name, value in pipeline["variables"].items():
        if (found := re.fullmatch(r"\$\[(.*)\]", str(value))) is not None:
            value = value_of(found[1], variables, ())  # noqa: PLW2901  (evaluated when the run begins)
        variables[f"variables['{name}']"] = str(value)
    for job in pipeline["jobs"]:
        needs = job["dependsOn"]
        needs = [needs] if isinstance(needs, str) else needs
        before = [_WORDS[runner.results[need]] for need in needs]
        names = variables | {f"dependencies.{need}.result": word for need, word in zip(needs, before, strict=True)}
        if value_of(job["condition"], names, before):
            runner.results[job["job"]] = "success" if _run(runner, job, names) else "failure"
        else:
            runner.results[job["job"]] = "skipped"


def _run(runner: Runner, job: dict[str, Any], names: Mapping[str, str]) -> bool:
    clone, environment = runner.machine(job["job"])
    values = {name[11:-2]: value for name, value in names.items() if name.startswith("variables[")}
    # Secrets are no variables of the environment unless a step maps them.
    environment |= {
        name.upper().replace(".", "_"): value for name, value in values.items() if name not in SECRETS and value
    }
    values["Pipeline.Workspace"] = str(clone.parent)
    good = True
    for step in job["steps"]:
        if not value_of(step.get("condition", "succeeded()"), names, ["Succeeded" if good else "Failed"]):
            continue
        if "script" in step:
            own = {name: _filled(value, values) for name, value in step.get("env", {}).items()}
            title = f"{job['displayName']}: {step['displayName']}"
            good &= runner.shell(title, _filled(step["script"], values), clone, environment | own)
        elif "publish" in step:
            good &= keep(clone / step["publish"], runner.artefacts / step["artifact"])
        elif "download" in step:
            assert step["download"] == "current"
            good &= keep(runner.artefacts / step["artifact"], clone.parent / step["artifact"])
        else:
            assert step.get("checkout") == "self" or step["task"] == "UsePythonVersion@0", step
    return good


def _filled(text: str, values: Mapping[str, str]) -> str:
    """A macro that names no variable stays as it stands."""
    return re.sub(r"\$\(([\w.]+)\)", lambda found: values.get(found[1], found[0]), text)


def value_of(text: str, names: Mapping[str, str], before: tuple[str, ...] | list[str]) -> Any:
    """What an expression comes to, by the functions that the file has, and no others.

    Of jobs that were skipped ``succeeded()`` is false; a variable that there is not is empty; letters' case is nothing.
    """
    python = re.sub(
        r"(?:variables\['[\w.]+'\]|(?:dependencies|parameters)(?:\.\w+)+)|'[^']*'",
        lambda found: found[0] if found[0].startswith("'") else repr(names.get(found[0], "")),
        " ".join(text.split()),
    )
    python = re.sub(r"\b(and|or|in)\(", r"\1_(", python)
    assert re.fullmatch(r"(\b(and_|or_|in_|eq|ne|succeeded|succeededOrFailed)\(|True|False|'[^']*'|[,)\s])+", python), (
        f"not understood: {text}"
    )
    functions = {
        "and_": lambda *all_: all(all_),
        "or_": lambda *all_: any(all_),
        "in_": lambda one, *others: any(_same(one, other) for other in others),
        "eq": _same,
        "ne": lambda one, other: not _same(one, other),
        "succeeded": lambda: all(one == "Succeeded" for one in before),
        "succeededOrFailed": lambda: all(one in ("Succeeded", "Failed") for one in before),
    }
    return eval(python, {"__builtins__": {}}, functions)  # noqa: S307  (only literals and these functions are left)


def _same(one: object, other: object) -> bool:
    return str(one).casefold() == str(other).casefold()
