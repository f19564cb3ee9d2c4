"""The contract: inferred once, then the user's."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pyarrow as pa
import pytest
import tomlkit

from passerelle.data.contract import load_contract
from passerelle.data.landing import ingest
from passerelle.data.table import read, snapshot
from passerelle.errors import SettingsError
from passerelle.project.settings import Project, load_project
from passerelle.schema import Column

from .conftest import NOW, SETTINGS, of_day, outcomes_of, write_csv

WEATHER = (
    "origin,temp,wind,rain,seen,day,note\nEWR,39.02,10,false,2013-01-01T01:00:00Z,2013-01-01,\n"
    "JFK,NA,12,true,2013-01-01T02:00:00Z,2013-01-01,\nEWR,41,9,true,2013-01-01T02:00:00Z,2013-01-02,\n"
)


def _deliver(project: Project, name: str, text: str) -> tuple[str, ...]:
    (project.root / name).write_text(text)
    return ingest(project, [project.root / name], now=NOW)[0].problems


def _contract(project: Project, text: str) -> None:
    (project.root / "contract.toml").write_text(text)


def test_a_table_is_inferred_from_its_first_delivery(project: Project) -> None:
    assert _deliver(project, "weather.csv", WEATHER) == ()
    assert load_contract(project).tables["weather"].columns == (
        Column(name="origin", kind="string"),
        Column(name="temp", kind="number", nullable=True),
        Column(name="wind", kind="integer"),
        Column(name="rain", kind="boolean"),
        Column(name="seen", kind="timestamp"),
        Column(name="day", kind="date"),
        Column(name="note", kind="string", nullable=True),
    )


def test_what_one_delivery_cannot_tell_is_suggested_in_comments(project: Project) -> None:
    _deliver(project, "weather.csv", WEATHER)
    text = (project.root / "contract.toml").read_text()
    assert text.startswith("# What a good delivery of each table is.")
    for line in (
        "# key = []  # the columns that identify a row",
        "# rows_at_least = 1  # the first delivery held 3",
        "# missing_at_most = 1.0  # the first delivery: 0.333",
        "# minimum = 39.02  # the first delivery held 39.02 .. 41.0",
        "# maximum = 12",
        '# allowed = ["EWR", "JFK"]',
        '# timezone = "UTC"  # of moments without an offset',
        "# the first delivery held no value here: see whether this kind is right",
    ):
        assert line in text.splitlines()


def test_every_suggestion_can_be_taken(project: Project) -> None:
    _deliver(project, "weather.csv", WEATHER)
    path = project.root / "contract.toml"
    lines = path.read_text().splitlines()
    start = lines.index("[weather]")
    taken = [line.removeprefix("# ") if " = " in line else line for line in lines[start:]]
    path.write_text("\n".join(taken).replace("key = []", 'key = ["origin", "seen"]'))
    table = load_contract(project).tables["weather"]
    assert table.key == ("origin", "seen")
    assert table.schema.column("temp") == Column(name="temp", kind="number", nullable=True, minimum=39.02, maximum=41.0)
    assert table.schema.column("origin").allowed == ("EWR", "JFK")
    assert table.missing_at_most == {"temp": 1.0}
    assert _deliver(project, "weather-2.csv", WEATHER.replace("2013-01-01T", "2013-02-01T")) == ()


def test_nothing_of_a_private_column_is_suggested_or_shown(project: Project) -> None:
    settings = SETTINGS.replace(', "origin"]', "]")  # what identifies a row may not be private
    (project.root / "passerelle.toml").write_text(f'{settings}[privacy]\norigin = "hash"\nwind = "drop"\n')
    private = load_project(project.root / "passerelle.toml")
    _deliver(private, "weather.csv", WEATHER)
    text = (project.root / "contract.toml").read_text()
    assert "EWR" not in text
    assert "= 12" not in text
    (problem,) = _deliver(private, "weather-2.csv", WEATHER.replace("EWR,39.02,10", "EWR,39.02,secret"))
    assert problem == "weather-2.csv, column 'wind': is not an integer (1 row: row 1 (hidden))"
    kept = [one.read_text() for one in (project.state / "quarantine").rglob("report.*")]
    assert len(kept) == 2
    assert not any("secret" in one for one in kept)


def test_a_new_table_leaves_what_a_person_wrote(project: Project, flights: pa.Table) -> None:
    _deliver(project, "weather.csv", WEATHER)
    path = project.root / "contract.toml"
    edited = path.read_text().replace("[weather]", "# Ours since May.\n[weather]")
    path.write_text(edited)
    ingest(project, [write_csv(of_day(flights, 1, 1), project.root / "flights.csv")], now=NOW)
    assert path.read_text().startswith(edited.rstrip())
    assert list(tomllib.loads(path.read_text())) == ["weather", "flights"]
    assert tomlkit.parse(path.read_text())["flights"] is not None


def test_key_and_time_come_from_the_settings(project: Project, flights: pa.Table) -> None:
    ingest(project, [write_csv(of_day(flights, 1, 1), project.root / "flights.csv")], now=NOW)
    ingest(project, [write_csv(outcomes_of(flights, 1, 1), project.root / "outcomes.csv")], now=NOW)
    tables = load_contract(project).tables
    key = ("time_hour", "carrier", "flight", "origin")
    assert (tables["flights"].key, tables["flights"].time, tables["flights"].known_at) == (key, "time_hour", None)
    assert (tables["outcomes"].key, tables["outcomes"].known_at) == (key, "known_at")
    assert tables["outcomes"].identity == (*key, "known_at")


def test_the_outcomes_key_is_of_the_kind_of_the_main_tables(project: Project, flights: pa.Table) -> None:
    day = of_day(flights, 1, 1)
    day = day.set_column(6, "flight", pa.array([f"{value}{'' if value % 2 else 'A'}" for value in day[6].to_pylist()]))
    ingest(project, [write_csv(day, project.root / "flights.csv")], now=NOW)
    ingest(project, [write_csv(outcomes_of(flights, 1, 1), project.root / "outcomes.csv")], now=NOW)
    assert load_contract(project).tables["outcomes"].schema.column("flight").kind == "string"


C = "[w.columns.a]\n"
REFUSED = {
    "typing error": (f'{C}knid = "string"', r"unknown key 'w.columns.a.knid'; did you mean 'kind'\?"),
    "nothing near": (
        f'{C}kind = "string"\nzzz = 1',
        r"unknown key 'w.columns.a.zzz'; the keys here are kind, nullable",
    ),
    "of the table": (
        '[w]\nkeys = ["a"]\n[w.columns.a]\nkind = "string"',
        r"unknown key 'w.keys'; did you mean 'key'\?",
    ),
    "no kind": (f"{C}nullable = true", r"w.columns.a: object missing required field kind"),
    "unknown kind": (f'{C}kind = "float"', r"w.columns.a: invalid enum value 'float' \(at w.columns.a.kind"),
    "wrong type": (f'{C}kind = "number"\nminimum = "0"', r"expected float \| null, got str \(at w.columns.a.minimum"),
    "not a table": ("w = 5", r"w: expected object, got int"),
    "bound of a string": (f'{C}kind = "string"\nmaximum = 5', r"w.columns.a.maximum: string columns have none"),
    "allowed numbers": (f'{C}kind = "number"\nallowed = ["5"]', r"w.columns.a.allowed: number columns have none"),
    "mean of a string": (
        f'{C}kind = "string"\nmean_at_most = 5',
        r"w.columns.a.mean_at_most: string columns have none",
    ),
    "crossed means": (
        f'{C}kind = "number"\nmean_at_least = 5\nmean_at_most = 4',
        r"mean_at_least 5 is above mean_at_most 4",
    ),
    "crossed bounds": (f'{C}kind = "number"\nminimum = 5\nmaximum = 4', r"minimum 5 is above maximum 4"),
    "no such zone": (f'{C}kind = "timestamp"\ntimezone = "Mars"', r"timezone: 'Mars' is no time zone"),
    "share": (f'{C}kind = "number"\nmissing_at_most = 20', r"expected float <= 1.0 \(at w.columns.a.missing_at_most"),
    "key that is not there": (
        '[w]\nkey = ["aa"]\n[w.columns.a]\nkind = "string"',
        r"no column 'aa'.*did you mean 'a'\?",
    ),
    "key of the main table": (
        '[flights]\nkey = ["carrier"]\n'
        + "".join(
            f'[flights.columns.{name}]\nkind = "{kind}"\n'
            for name, kind in {
                "time_hour": "timestamp",
                "carrier": "string",
                "flight": "integer",
                "origin": "string",
            }.items()
        ),
        r"flights.key is said in passerelle.toml \(task.key\): leave it out here",
    ),
    "not TOML": ("[w\n", r"contract.toml is not TOML: .*\(at line 1"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_edit_is_refused_and_nothing_is_done(project: Project, name: str) -> None:
    text, reason = REFUSED[name]
    _contract(project, text)
    (project.root / "w.csv").write_text("a\n1\n")
    with pytest.raises(SettingsError, match=reason):
        ingest(project, [project.root / "w.csv"], now=NOW)
    assert not (project.state / "quarantine").exists()


def _edit(project: Project, old: str, new: str) -> None:
    path = project.root / "contract.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def test_an_edited_kind_and_a_new_column_reach_the_accepted_rows(project: Project) -> None:
    _deliver(project, "w-1.csv", "a,b\n1,x\n2,y\n")
    (problem,) = _deliver(project, "w-2.csv", "a,b\n2.5,x\n")
    assert problem == "w-2.csv, column 'a': is not an integer (1 row: row 1 '2.5')"
    _edit(project, '[w.columns.a]\nkind = "integer"', '[w.columns.a]\nkind = "number"')
    _edit(project, "[w.columns.b]", '[w.columns.c]\nkind = "string"\nnullable = true\n\n[w.columns.b]')
    assert _deliver(project, "w-3.csv", "a,c,b\n2.5,new,z\n") == ()
    rows = read(project, "w").sort_by("a").to_pylist()
    assert rows == [{"a": 1.0, "c": None, "b": "x"}, {"a": 2.0, "c": None, "b": "y"}, {"a": 2.5, "c": "new", "b": "z"}]
    assert read(project, "w", 0).to_pylist() == [
        {"a": 1, "b": "x"},
        {"a": 2, "b": "y"},
    ]  # the old snapshot is as it was
    assert snapshot(project).tables["w"] == 2


def test_an_edit_that_the_accepted_rows_do_not_fit_is_refused(project: Project) -> None:
    _deliver(project, "w-1.csv", "a,b\n1,x\n2,y\n")
    _edit(project, '[w.columns.b]\nkind = "string"', '[w.columns.b]\nkind = "integer"')
    path = Path(project.root / "w-2.csv")
    path.write_text("a,b\n3,4\n")
    with pytest.raises(
        SettingsError, match=r"w.columns.b is integer now, and the accepted rows hold 'x', which is not"
    ):
        ingest(project, [path], now=NOW)
    _edit(project, '[w.columns.b]\nkind = "integer"', '[w.columns.b]\nkind = "string"')
    (delivery,) = ingest(project, [path], now=NOW)
    assert (delivery.status, read(project, "w").num_rows) == ("accepted", 3)
