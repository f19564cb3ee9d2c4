"""The house rules. Each is a function from a folder to the faults found there, and is shown to be able to find one."""

from __future__ import annotations

import ast
import graphlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
MAX_LINES = 400

#: The rooms, a line above may be imported by the lines below; those in brackets are for later issues. As in the
#: design's section 3: a change needs a page in docs/decisions that says why.
ROOMS = (
    "cli", "tour", "testing", "(adapters)", "dashboard", "loop", "load", "trial", "monitoring", "serving",
    "ledger", "deployment", "registry", "bundle", "notebook", "(features)", "data", "state", "project", "metrics",
    "schema", "names", "clock", "decoding", "errors",
)  # fmt: skip

HEAVY = ("pandas", "pyarrow", "sklearn", "mlflow", "dbos", "duckdb", "deltalake", "plotly")
DATA_PLANE = (
    "passerelle.schema",
    "passerelle.bundle.manifest",
    "passerelle.bundle.scorer",
    "passerelle.deployment.spec",
    "passerelle.ledger.records",
    "passerelle.ledger.segments",
    "passerelle.ledger.storage",
)
_SLASH = "/"  # so that this file does not hold what it looks for
MACHINE = [f"{_SLASH}{folder}/" for folder in ("work", "root", ".pyenv")]
_HOSTS = "pypi org,pythonhosted org,npmjs org,crates io,proxy golang,deb debian"
REGISTRIES = [host.replace(" ", ".") for host in _HOSTS.split(",")]


def sources(root: Path) -> list[Path]:
    """The Python files of src, and of the tests."""
    return sorted([*(root / "src").rglob("*.py"), *(root / "tests").rglob("*.py")])


def tracked(root: Path) -> Iterator[tuple[str, str]]:
    """Path and text of every file that git keeps; those that are not text are left out."""
    listed = subprocess.run(["git", "-C", root, "ls-files", "-z"], capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        try:
            yield name, (root / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue


def long_files(root: Path) -> list[str]:
    counts = {path.relative_to(root): len(path.read_text(encoding="utf-8").splitlines()) for path in sources(root)}
    return [f"{path}: {count} lines" for path, count in counts.items() if count > MAX_LINES]


def cycles(root: Path) -> list[str]:
    """Modules that import each other, whether at the top, in a function or for types only."""
    package = next(path.name for path in (root / "src").iterdir() if (path / "__init__.py").exists())
    graph = grimp.build_graph(package, cache_dir=None)
    modules = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        graphlib.TopologicalSorter(modules).prepare()
    except graphlib.CycleError as error:
        return [" imports ".join(reversed(error.args[1]))]
    return []


def undocumented(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)}:{line}: {name}"
        for path in sorted((root / "src").rglob("*.py"))
        for name, line in _bare(ast.parse(path.read_text(encoding="utf-8")), path.stem)
    ]


def _bare(node: ast.Module | ast.ClassDef, name: str) -> Iterator[tuple[str, int]]:
    if ast.get_docstring(node) is None:
        yield name, getattr(node, "lineno", 1)
    for child in node.body:
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or child.name.startswith("_"):
            continue
        if isinstance(child, ast.ClassDef):
            yield from _bare(child, child.name)
        elif ast.get_docstring(child) is None and not any(
            "overload" in ast.dump(mark) for mark in child.decorator_list
        ):
            yield child.name, child.lineno


def unexplained(root: Path) -> list[str]:
    """Exemptions from a rule of style that do not say why."""
    reasoned = re.compile(r"# noqa: [A-Z]+\d+(, [A-Z]+\d+)*  \(.+\)$")
    faults = [
        f"{path.relative_to(root)}:{number}: {line.strip()}"
        for path in sorted((root / "src").rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if "# noqa" in line and not reasoned.search(line)
    ]
    text = (root / "pyproject.toml").read_text(encoding="utf-8")
    settings = tomllib.loads(text)["tool"]
    ignored = text.partition("[tool.ruff.lint]")[2].partition("ignore = [")[2].partition("\n]")[0]
    faults += [f"pyproject.toml: {line.strip()}" for line in ignored.splitlines() if '"' in line and "#" not in line]
    if not settings["mypy"].get("strict") or "overrides" in settings["mypy"]:
        faults.append("pyproject.toml: mypy is strict for every module")
    return faults


def machine_paths(root: Path) -> list[str]:
    forbidden = [*MACHINE, f"{ROOT}/", f"{Path.home()}/"]
    return [f"{name}: {word}" for name, text in tracked(root) for word in forbidden if len(word) > 2 and word in text]


def registry_addresses(root: Path) -> list[str]:
    found = [f"{name}: {word}" for name, text in tracked(root) for word in REGISTRIES if word in text]
    requirements = [(name, text) for name, text in tracked(root) if re.search(r"requirements[^/]*\.txt$", name)]
    return found + [f"{name}: an address" for name, text in requirements if re.search(r"https?:", text)]


def rooms_without_page(root: Path) -> list[str]:
    folders = {path.parent.name for path in (root / "src/passerelle").glob("*/__init__.py")}
    return sorted(room for room in {*folders, "cli"} if not (root / "docs" / f"{room}.md").is_file())


def broken_links(root: Path) -> list[str]:
    pages = [*root.glob("*.md"), *(root / "docs").rglob("*.md")]
    return [
        f"{page.relative_to(root)}: {target}"
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)", _prose(page.read_text(encoding="utf-8")))
        if "://" not in target and not target.startswith("mailto:") and not (page.parent / target).exists()
    ]


def _prose(markdown: str) -> str:
    """A page without its code."""
    return re.sub(r"(?ms)^```.*?^```$|`[^`\n]*`", "", markdown)


def rooms_out_of_order(root: Path) -> list[str]:
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = [(layer.strip("()"), room.strip("()")) for layer, room in zip(layers, ROOMS, strict=False)]
    faults = [f"{layer} stands where {room} belongs" for layer, room in named if layer != room]
    faults += [f"{len(layers)} layers, {len(ROOMS)} rooms"] if len(layers) != len(ROOMS) else []
    there = {path.stem for path in (root / "src/passerelle").glob("*.py")} - {"__init__", "__main__"}
    there |= {path.parent.name for path in (root / "src/passerelle").glob("*/__init__.py")}
    faults += [f"{room} is no room of the design" for room in sorted(there - {room.strip("()") for room in ROOMS})]
    # A room that is there must stand without brackets, or import-linter would not miss it.
    return faults + [f"{room} is there: take its brackets off" for room in sorted(there) if f"({room})" in layers]


def unprepared(root: Path) -> list[str]:
    """Types of ours that msgspec decodes into without passerelle.decoding.prepared: two threads may crash on one."""
    return [
        f"{path.relative_to(root)}:{call.lineno}: {ast.unparse(call)}"
        for path in sorted((root / "src").rglob("*.py"))
        if path.stem != "decoding"
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and (place := _DECODES.get(ast.unparse(call.func).removeprefix("msgspec."))) is not None
        for kind in [*call.args[place : place + 1], *(word.value for word in call.keywords if word.arg == "type")]
        if not (isinstance(kind, ast.Call) and ast.unparse(kind.func) == "prepared")
        and {ast.unparse(name) for name in ast.walk(kind) if isinstance(name, ast.Name)} - _PLAIN
    ]


#: What decodes into a type → the place of the type among its arguments.
_DECODES = {"convert": 1, "json.decode": 1, "msgpack.decode": 1, "json.Decoder": 0, "msgpack.Decoder": 0}
_PLAIN = {"dict", "list", "tuple", "str", "int", "float", "bool", "bytes", "Any", "msgspec"}

RULES: list[Callable[[Path], list[str]]] = [
    long_files,
    cycles,
    undocumented,
    unexplained,
    machine_paths,
    registry_addresses,
    rooms_without_page,
    broken_links,
    rooms_out_of_order,
    unprepared,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule: Callable[[Path], list[str]]) -> None:
    assert rule(ROOT) == []


#: Rule → a file that breaks it, and what is said of it.
BREAKS: dict[str, tuple[str, str, str]] = {
    "long_files": ("src/wrong/long.py", "x = 1\n" * 401, "src/wrong/long.py: 401 lines"),
    "cycles": ("src/wrong/one.py", "def f():\n    import wrong.two\n", "wrong.one imports wrong.two imports wrong.one"),
    "undocumented": ("src/wrong/bare.py", '"""A."""\n\n\nclass B:\n    def c(self): ...\n', "src/wrong/bare.py:4: B"),
    "unexplained": (
        "src/wrong/no.py",
        "import os  # no" + "qa: F401\n",
        "src/wrong/no.py:1: import os  # no" + "qa: F401",
    ),
    "machine_paths": ("a.md", f"see {MACHINE[0]}main/x", f"a.md: {MACHINE[0]}"),
    "registry_addresses": ("requirements.txt", "x @ ht" + "tp://y/x.whl", "requirements.txt: an address"),
    "rooms_without_page": ("src/passerelle/attic/__init__.py", "", "attic"),
    "broken_links": ("docs/a.md", "[b](b.md) [`c`](../README.md) `[d](d.md)`", "docs/a.md: b.md"),
    "rooms_out_of_order": ("src/passerelle/attic/__init__.py", "", "attic is no room of the design"),
    "unprepared": ("src/wrong/a.py", "msgspec.convert(b, list[C])", "src/wrong/a.py:1: msgspec.convert(b, list[C])"),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_can_find_a_fault(
    rule: Callable[[Path], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, text, fault = BREAKS[rule.__name__]
    files = {
        "pyproject.toml": (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
        "README.md": "",
        "docs/cli.md": "",
        "src/wrong/__init__.py": '"""Wrong."""\n',
        "src/wrong/two.py": '"""Two."""\nimport wrong.one\n',
        "tests/test_x.py": "",
    }
    if rule is not cycles:
        del files["src/wrong/two.py"]
    for name, body in (files | {path: text}).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(body, encoding="utf-8")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "add", "-A"], check=True)
    monkeypatch.syspath_prepend(tmp_path / "src")
    found = rule(tmp_path)
    if rule is cycles:
        assert set(found) <= {fault, "wrong.two imports wrong.one imports wrong.two"}
        assert found
    else:
        assert fault in found


def verbs() -> list[str]:
    from passerelle.cli import main

    return sorted(name for name, command in main.commands.items() if not command.hidden)


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_has_help_and_stands_in_the_docs(verb: str) -> None:
    from passerelle.cli import main

    command = main.commands[verb]
    assert command.help
    assert len(command.help) > 20
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert re.search(rf"passerelle {verb}\b", page), f"docs/cli.md does not say what `passerelle {verb}` does"


def loaded_by(*modules: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after importing these modules."""
    names = "json.dumps(sorted({name.partition('.')[0] for name in sys.modules}))"
    code = f"import json, sys, {', '.join(modules)}; print({names})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_data_plane_loads_nothing_heavy() -> None:
    folder = ROOT / "src/passerelle/serving"
    serving = [f"passerelle.serving.{path.stem}" for path in folder.glob("*.py") if path.stem != "__init__"]
    assert loaded_by(*DATA_PLANE, *serving) & set(HEAVY) == set()


def test_importing_the_package_loads_neither_numpy_nor_pandas() -> None:
    assert loaded_by("passerelle") & {"numpy", *HEAVY} == set()


def test_a_heavy_import_would_be_seen() -> None:
    assert {"pandas", "numpy"} <= loaded_by("pandas")
