"""What a person finds when a delivery was put aside."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import msgspec

from passerelle.data.landing import ingest
from passerelle.data.quarantine import Report
from passerelle.project.settings import Project
from passerelle.state.database import open_state
from passerelle.state.timeline import events

from .conftest import NOW


class _Links(HTMLParser):
    """What a page fetches from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href")]


def test_the_files_and_a_report_are_kept(project: Project) -> None:
    (project.root / "w-1.csv").write_text("a,b\n1,x\n")
    bad = project.root / "w-2.csv"
    bad.write_text("a,b\n<b>2</b>,x\nthree,y\n4,\n")
    first, delivery = ingest(project, [project.root / "w-1.csv", bad], now=NOW)
    assert (first.status, delivery.status) == ("accepted", "quarantined")
    folder = project.state / "quarantine" / delivery.id
    assert (folder / "files" / "w-2.csv").read_text() == bad.read_text()
    report = msgspec.json.decode((folder / "report.json").read_bytes(), type=Report)
    assert [(one.column, one.rows, [(e.row, e.value) for e in one.examples]) for one in report.problems] == [
        ("a", 2, [(1, "'<b>2</b>'"), (2, "'three'")]),
        ("b", 1, [(3, "null")]),
    ]
    assert delivery.report == str(folder / "report.html")
    page = Path(delivery.report).read_text()
    assert "&lt;b&gt;2&lt;/b&gt;" in page
    assert "<b>2" not in page
    assert f"passerelle ingest {bad}" in page
    assert "prefers-color-scheme: dark" in page
    links = _Links()
    links.feed(page)
    assert links.found == []
    sentence = events(open_state(project.state), kind="delivery")[-1].sentence
    assert sentence.startswith("Delivery quarantined: w-2.csv was put aside: w-2.csv, column 'a': is not an integer")
    assert sentence.endswith(f"and 1 more; see {delivery.report}")


def test_a_file_that_cannot_be_read_is_kept_too(project: Project) -> None:
    path = project.root / "w.parquet"
    path.write_bytes(b"PAR1 and no more")
    (delivery,) = ingest(project, [path], now=NOW)
    assert delivery.problems[0].startswith("w.parquet: is not Parquet, or is cut off")
    assert (project.state / "quarantine" / delivery.id / "files" / "w.parquet").read_bytes() == b"PAR1 and no more"


def test_delivered_again_after_the_contract_was_corrected_it_is_accepted_and_leaves_quarantine(
    project: Project,
) -> None:
    (project.root / "w-1.csv").write_text("a\n1\n")
    bad = project.root / "w-2.csv"
    bad.write_text("a\n2.5\n")
    ingest(project, [project.root / "w-1.csv"], now=NOW)
    first = ingest(project, [bad], now=NOW)[0]
    second = ingest(project, [bad], now=NOW)[0]
    assert (first.id, first.status, second.status, second.repeated) == (second.id, *["quarantined"] * 2, False)
    contract = project.root / "contract.toml"
    contract.write_text(contract.read_text().replace('"integer"', '"number"'))
    assert ingest(project, [bad], now=NOW)[0].status == "accepted"
    assert list((project.state / "quarantine").iterdir()) == []


def test_two_files_of_one_name_are_both_kept(project: Project) -> None:
    for part, text in (("x", "a\n"), ("y", "b\n")):
        (project.root / "batch" / part).mkdir(parents=True)
        (project.root / "batch" / part / "w.csv").write_text(text)
    (delivery,) = ingest(project, [project.root / "batch"], now=NOW)
    files = sorted((project.state / "quarantine" / delivery.id / "files").iterdir())
    assert sorted(one.read_text() for one in files) == ["a\n", "b\n"]
    assert len(delivery.problems) == 2
