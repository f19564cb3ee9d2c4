"""Runs the jobs of a project's CI files as their services would: each in a fresh clone, with an empty home.

The environment is prepared once, as an image of a service would be: whoever installs the same again is satisfied.

Only what is declared passes from job to job: artefacts. Each `run:` or `script:` goes through bash; the actions and
keywords that `passerelle new` uses are played by the few lines below, and any other is an error.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any, ClassVar

import yaml

from passerelle.names import EXTRAS

#: Of what a service is given: what it hides, and hands to none that does not ask for it.
SECRETS = ("PASSERELLE_STATE_URL", "PASSERELLE_REGISTRY_URI", "PASSERELLE_KEY")
INSTALL = "python -m pip install -r requirements.txt"
#: Hides what requirements.txt does not ask for: this checkout's environment has every extra.
HIDING = """
import os, sys
class Hiding:
    def find_spec(self, name, path=None, target=None):
        if name in os.environ.get("HIDDEN", "").split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Hiding())
"""


class Runner:
    """A machine for every job, and the artefacts that pass between them."""

    def __init__(self, repository: Path, work: Path) -> None:
        self.repository = repository
        self.work = work
        #: What the service was given by people, as secrets or as variables.
        self.given: dict[str, str] = {}
        #: What every machine of the tests has: where the emulated cloud is.
        self.cloud: dict[str, str] = {}
        self.artefacts = work / "artefacts"
        #: Jobs of GitHub's that are not played, and said to have succeeded.
        self.believed: set[str] = set()
        #: Step or job → what it printed.
        self.printed: dict[str, str] = {}
        self.results: dict[str, str] = {}
        self.python = self._environment()

    #: The folder of programs of the environment that the first runner prepared.
    _prepared: ClassVar[Path | None] = None

    def _environment(self) -> Path:
        """A virtual environment in which everything that this checkout needs is installed already."""
        if Runner._prepared is not None:
            return Runner._prepared
        folder = self.work / "environment"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        site = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
        own = sysconfig.get_path("purelib")
        (Path(site) / "already.pth").write_text(f"import hiding, site; site.addsitedir({own!r})\n")
        (Path(site) / "hiding.py").write_text(HIDING)
        (folder / "share").mkdir(exist_ok=True)
        (folder / "share" / "jupyter").symlink_to(Path(sysconfig.get_path("data")) / "share" / "jupyter")
        program = folder / "bin" / "passerelle"
        program.write_text(f"#!{folder}/bin/python\nfrom passerelle.cli import main\nmain()\n")
        program.chmod(0o755)
        Runner._prepared = folder / "bin"
        return Runner._prepared

    def machine(self, job: str) -> tuple[Path, dict[str, str]]:
        """A fresh clone, and the variables that a fresh machine has."""
        clone, home = self.work / job / "clone", self.work / job / "home"
        home.mkdir(parents=True)
        subprocess.run(["git", "clone", "-q", self.repository, clone], check=True)
        asked = re.search(r"^passerelle\[([a-z,]+)\]", (clone / "requirements.txt").read_text(), re.MULTILINE)
        assert asked is not None
        lacking = {"aws", "azure", "gcp", "stores", "postgresql"} - set(asked[1].split(","))
        hidden = ["google.auth" if name == "google" else name for name, extra in EXTRAS.items() if extra in lacking]
        path = [str(self.python), "/usr/local/bin", "/usr/bin", "/bin"]
        return clone, {
            "HOME": str(home),
            "PATH": os.pathsep.join(path),
            "LANG": "C.UTF-8",
            "CI": "true",
            "PIP_NO_INDEX": "1",  # nothing is downloaded: the install step finds everything satisfied
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "OMP_NUM_THREADS": "1",
            "HIDDEN": " ".join(hidden),
            **self.cloud,
        }

    def shell(self, name: str, script: str, clone: Path, environment: dict[str, str]) -> bool:
        """Run a script; True if it ended with 0. What the first one that installs was told, the others are told."""
        told = self.python / "installed.txt"
        script = script.replace(INSTALL, f"cat {told}" if told.exists() else f"{INSTALL} | tee {told}")
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
            cwd=clone,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        self.printed[name] = done.stdout + done.stderr
        return done.returncode == 0


def run_github(
    runner: Runner, *, event: str = "push", ref: str = "refs/heads/main", schedule: str = "", job: str = ""
) -> None:
    """Every job of a workflow, in the order of its needs (which is the order of the file)."""
    path = runner.repository / ".github/workflows/passerelle.yml"
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    begins = workflow[True]  # YAML's reading of the word on
    assert schedule in ("", *(one["cron"] for one in begins["schedule"]))
    assert job in ("", *begins["workflow_dispatch"]["inputs"]["job"]["options"])
    known = {f"{'secrets' if name in SECRETS else 'vars'}.{name}": value for name, value in runner.given.items()}
    known |= {"github.ref": ref, "github.event_name": event, "github.event.schedule": schedule, "inputs.job": job}
    for name, one in workflow["jobs"].items():
        needs = one.get("needs", [])
        needs = [needs] if isinstance(needs, str) else needs
        assert all(need in runner.results for need in needs), f"{name} stands before what it needs"
        names = known | {f"needs.{need}.result": runner.results[need] for need in needs}
        ready = all(runner.results[need] == "success" for need in needs)
        if not holds(one.get("if"), names, failed=not ready):
            runner.results[name] = "skipped"
        elif name in runner.believed:
            runner.results[name] = "success"
        else:
            runner.results[name] = _github_job(runner, name, one, names, workflow.get("env", {}))


def _github_job(runner: Runner, name: str, job: dict[str, Any], names: dict[str, str], above: dict[str, str]) -> str:
    clone, environment = runner.machine(name)
    own = {key: _filled(value, names) for key, value in (above | job.get("env", {})).items()}
    own["GITHUB_EVENT_NAME"] = names["github.event_name"]
    failed = False
    for number, step in enumerate(job["steps"]):
        if not holds(step.get("if"), names, failed=failed):
            continue
        title = step.get("name") or step.get("run") or step.get("uses", "").partition("@")[0] or str(number)
        if "run" in step:
            good = runner.shell(f"{name}: {title}", step["run"], clone, environment | own)
        else:
            good = _play(runner, step["uses"].partition("@")[0], step.get("with", {}), clone)
        failed |= not good
    return "failure" if failed else "success"


def _filled(text: str, names: dict[str, str]) -> str:
    return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: str(value_of(found[1], names, failed=False)), text)


def _play(runner: Runner, action: str, given: dict[str, Any], clone: Path) -> bool:
    if action in ("actions/checkout", "actions/setup-python"):
        return True  # the machine has both
    folder = runner.artefacts / given["name"]
    if action == "actions/upload-artifact":
        return keep(clone / given["path"], folder) or given["if-no-files-found"] == "ignore"
    if action == "actions/download-artifact":
        return keep(folder, clone / given["path"])
    raise AssertionError(f"{action} is not played here")


def keep(source: Path, target: Path) -> bool:
    """Copy a folder from a machine or to one; False if nothing is in it."""
    if not source.is_dir() or not any(source.iterdir()):
        return False
    shutil.copytree(source, target, dirs_exist_ok=True)
    return True


def holds(condition: str | None, names: dict[str, str], *, failed: bool) -> bool:
    """Is a GitHub condition true? Without a word about failures it asks for success, as the service does."""
    text = " ".join((condition or "success()").removeprefix("${{").removesuffix("}}").split())
    if "cancelled()" not in text and "success()" not in text:
        text = f"success() && ({text})"
    return bool(value_of(text, names, failed=failed))


def value_of(text: str, names: dict[str, str], *, failed: bool) -> Any:
    """What an expression comes to: those that the files have, and no others."""
    python = text.replace("!cancelled()", "True").replace("success()", str(not failed))
    python = re.sub(r"'[^']*'|[a-z]+(\.[\w-]+)+", lambda found: _literal(found[0], names), python)
    python = python.replace("&&", " and ").replace("||", " or ")
    assert re.fullmatch(r"(True|False|and|or|==|!=|'[^']*'|[()\s])+", python), f"not understood: {text}"
    return eval(python)  # noqa: S307  (only literals and comparisons are left)


def _literal(word: str, names: dict[str, str]) -> str:
    return word if word.startswith("'") else repr(names.get(word, "")).replace('"', "'")


def run_gitlab(runner: Runner, *, source: str = "push", branch: str = "main", started: str = "") -> None:
    """Every job of a pipeline, by stage; a job that is not `when: always` is skipped once one has failed.

    ``started`` is the manual job that somebody starts.
    """
    pipeline = yaml.safe_load((runner.repository / ".gitlab-ci.yml").read_text(encoding="utf-8"))
    default = pipeline["default"]
    own = {"CI_PIPELINE_SOURCE": source, "CI_COMMIT_BRANCH": branch, "CI_DEFAULT_BRANCH": "main", **runner.given}
    jobs = {
        name: extended(pipeline, job)
        for name, job in pipeline.items()
        if isinstance(job, dict) and "stage" in job and not name.startswith(".")
    }
    for name, job in sorted(jobs.items(), key=lambda item: pipeline["stages"].index(item[1]["stage"])):
        rule = next((one for one in job["rules"] if _rule_holds(one["if"], own)), None)
        failed = any(result == "failure" for result in runner.results.values())
        when = None if rule is None else rule.get("when", "on_success")
        if when is None or (when == "manual" and name != started) or (failed and when != "always"):
            runner.results[name] = "skipped"
            continue
        clone, environment = runner.machine(name)
        for before in job.get("needs", [one for one in jobs if one in runner.results]):
            keep(runner.artefacts / before, clone)
        script = "\n".join(job.get("before_script", default["before_script"]) + job["script"])
        good = runner.shell(name, script, clone, environment | own)
        artefacts = job.get("artifacts", {})
        if good or artefacts.get("when") == "always":
            for one in artefacts.get("paths", []):  # the service warns where there are none, and goes on
                keep(clone / one, runner.artefacts / name / one)
        runner.results[name] = "success" if good else "failure"


def extended(pipeline: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """A GitLab job with what it extends."""
    above = job.get("extends")
    return job if above is None else extended(pipeline, pipeline[above]) | job


def _rule_holds(text: str, names: dict[str, str]) -> bool:
    python = re.sub(r"\$(\w+)", lambda found: repr(names.get(found[1], "")), text).replace("&&", "and")
    assert re.fullmatch(r"(and|==|!=|'[^']*'|\"[^\"]*\"|\s)+", python), f"not understood: {text}"
    return bool(eval(python))  # noqa: S307  (only literals and comparisons are left)
