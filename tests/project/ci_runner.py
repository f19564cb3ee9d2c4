"""Runs the jobs of a project's CI files as their services would: each in a fresh clone, with an empty home.

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
from typing import Any

import yaml


class JobError(Exception):
    """A step ended with something else than 0; the message is what it printed."""


class Runner:
    """A machine for every job, and the artefacts that pass between them."""

    def __init__(self, repository: Path, work: Path, *, secrets: dict[str, str] | None = None) -> None:
        self.repository = repository
        self.work = work
        self.secrets = secrets or {}
        self.artefacts = work / "artefacts"
        #: Step or job → what it printed.
        self.printed: dict[str, str] = {}
        self.results: dict[str, str] = {}
        self.python = self._environment()

    def _environment(self) -> Path:
        """A virtual environment in which everything that this checkout needs is installed already."""
        folder = self.work / "environment"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        site = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
        own = sysconfig.get_path("purelib")
        (Path(site) / "already.pth").write_text(f"import site; site.addsitedir({own!r})\n")
        return folder / "bin"

    def machine(self, job: str) -> tuple[Path, dict[str, str]]:
        """A fresh clone, and the variables that a fresh machine has."""
        clone, home = self.work / job / "clone", self.work / job / "home"
        home.mkdir(parents=True)
        subprocess.run(["git", "clone", "-q", self.repository, clone], check=True)
        path = [str(self.python), str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"]
        return clone, {
            "HOME": str(home),
            "PATH": os.pathsep.join(path),
            "LANG": "C.UTF-8",
            "CI": "true",
            "PIP_NO_INDEX": "1",  # nothing is downloaded: the install step finds everything satisfied
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }

    def shell(self, name: str, script: str, clone: Path, environment: dict[str, str]) -> bool:
        """Run a script; True if it ended with 0."""
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


def run_github(runner: Runner, path: str = ".github/workflows/passerelle.yml", ref: str = "refs/heads/main") -> None:
    """Every job of a workflow, in the order of its needs (which is the order of the file)."""
    workflow = yaml.safe_load((runner.repository / path).read_text(encoding="utf-8"))
    for name, job in workflow["jobs"].items():
        needs = [job["needs"]] if "needs" in job else []
        assert all(need in runner.results for need in needs), f"{name} stands before what it needs"
        names = {f"needs.{need}.result": runner.results[need] for need in needs} | {"github.ref": ref}
        ready = all(result == "success" for result in names.values() if result != ref)
        if not _holds(job.get("if"), names, failed=not ready):
            runner.results[name] = "skipped"
            continue
        runner.results[name] = _github_job(runner, name, job, names)


def _github_job(runner: Runner, name: str, job: dict[str, Any], names: dict[str, str]) -> str:
    clone, environment = runner.machine(name)
    summary = runner.work / name / "summary.md"
    own = {
        key: re.sub(r"\$\{\{ secrets\.(\w+) \}\}", lambda found: runner.secrets.get(found[1], ""), value)
        for key, value in job.get("env", {}).items()
    }
    names = names | {f"env.{key}": value for key, value in own.items()}
    failed = False
    for number, step in enumerate(job["steps"]):
        if not _holds(step.get("if"), names, failed=failed):
            continue
        title = step.get("name") or step.get("uses", "").partition("@")[0] or str(number)
        if "run" in step:
            given = environment | own | {"GITHUB_STEP_SUMMARY": str(summary)}
            good = runner.shell(f"{name}: {title}", step["run"], clone, given)
        else:
            good = _play(runner, step["uses"].partition("@")[0], step.get("with", {}), clone)
        failed |= not good
    return "failure" if failed else "success"


def _play(runner: Runner, action: str, given: dict[str, Any], clone: Path) -> bool:
    if action in ("actions/checkout", "actions/setup-python"):
        return True  # the machine has both
    if action in ("actions/cache/restore", "actions/cache/save"):
        kept, cached = runner.repository.parent / "cache", given["path"].split()[0]
        source, target = (kept, clone / cached) if action.endswith("restore") else (clone / cached, kept)
        if source.exists():
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("trust"))
        return True
    folder = runner.artefacts / given["name"]
    if action == "actions/upload-artifact":
        return _keep(clone / given["path"], folder)
    if action == "actions/download-artifact":
        return _keep(folder, clone / given["path"])
    raise AssertionError(f"{action} is not played here")


def _keep(source: Path, target: Path) -> bool:
    if not source.is_dir() or not any(source.iterdir()):
        return False
    shutil.copytree(source, target, dirs_exist_ok=True)
    return True


def _holds(condition: str | None, names: dict[str, str], *, failed: bool) -> bool:
    """Is a GitHub condition true? Those that the file has, and no others."""
    text = (condition or "success()").removeprefix("${{").removesuffix("}}").strip()
    if "cancelled()" not in text and "success()" not in text:
        text = f"success() && {text}"
    python = text.replace("!cancelled()", "True").replace("success()", str(not failed)).replace("&&", "and")
    for name, value in names.items():
        python = python.replace(name, repr(value))
    assert re.fullmatch(r"(True|False|and|==|!=|'[^']*'|\s)+", python), f"not understood: {text}"
    return bool(eval(python))  # noqa: S307  (only literals and comparisons are left)


def run_gitlab(runner: Runner, path: str = ".gitlab-ci.yml", variables: dict[str, str] | None = None) -> None:
    """Every job of a pipeline, by stage; a job that is not `when: always` is skipped once one has failed."""
    pipeline = yaml.safe_load((runner.repository / path).read_text(encoding="utf-8"))
    default = pipeline["default"]
    jobs = {name: job for name, job in pipeline.items() if isinstance(job, dict) and "stage" in job}
    for name, job in sorted(jobs.items(), key=lambda item: pipeline["stages"].index(item[1]["stage"])):
        failed = any(result != "success" for result in runner.results.values())
        if failed and job.get("when") != "always":
            runner.results[name] = "skipped"
            continue
        clone, environment = runner.machine(name)
        environment |= variables or {}
        needed = job.get("needs", [before for before in jobs if before in runner.results])
        for before in needed:
            _keep(runner.artefacts / before, clone)
        cached = job.get("cache", {}).get("paths", [])
        kept = runner.repository.parent / "cache"
        for one in cached:
            _keep(kept / one, clone / one)
        script = "\n".join(job.get("before_script", default["before_script"]) + job["script"])
        good = runner.shell(name, script, clone, environment)
        runner.shell(f"{name}: after", "\n".join(job.get("after_script", [])), clone, environment)
        if good:
            for one in cached:
                _keep(clone / one, kept / one)
        artefacts = job.get("artifacts", {})
        if good or artefacts.get("when") == "always":
            good &= all(_keep(clone / one, runner.artefacts / name / one) for one in artefacts.get("paths", []))
        runner.results[name] = "success" if good else "failure"
