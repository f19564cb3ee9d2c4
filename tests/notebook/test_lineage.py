from __future__ import annotations

import pytest

from passerelle.notebook.lineage import trace

RAW = "import passerelle\nimport numpy as np\nraw = passerelle.training_data()"


@pytest.mark.parametrize(
    ("cell", "name", "learned"),
    [
        ("mean = raw['temp'].mean()", "mean", True),
        ("mean = np.mean(raw.temp)", "mean", True),
        ("mean = np.mean(raw.temp)", "np", False),
        ("counts = raw.groupby('origin').size().to_dict()", "counts", True),
        ("limit = 30", "limit", False),
        ("mean = raw.temp.mean()\nmean = 12.5", "mean", False),
        ("mean = 0\nfor part in raw.temp: mean += part", "mean", True),
        ("means = {}\nfor o in ['EWR']: means[o] = raw.temp.mean()", "means", True),
        ("means = {}\nmeans.update(EWR=raw.temp.mean())", "means", True),
        ("found = []\nfound.append(raw.temp.max())", "found", True),
        ("names = list(raw.columns)", "names", False),
        ("names = [c for c in raw.columns if c != 'late']", "names", False),
        ("airports = passerelle.training_data('airports')", "airports", False),
        ("more = passerelle.training_data('flights')", "more", True),
        ("more = passerelle.training_data(table='weather')", "more", False),
        ("a, limit = raw.temp.mean(), 30", "limit", False),
        ("a, b = raw.shape", "b", True),
        ("*a, b = raw.temp", "a", True),
        ("def f(): return raw.temp.mean()\nmean = f()", "mean", True),
        ("def f(x): return x + 1\nmean = f(raw.temp.mean())", "mean", True),
        ("def f(x): return x + 1\nmean = f(2)", "mean", False),
        ("f = lambda: raw.temp.mean()\nmean = f()", "mean", True),
        ("def f():\n    global mean\n    mean = raw.temp.mean()\nf()", "mean", True),
        ("if True:\n    mean = raw.temp.mean()\nelse:\n    mean = 0", "mean", True),
        ("try:\n    mean = raw.temp.mean()\nexcept KeyError:\n    mean = 0", "mean", True),
        ("with open('x') as file: text = file.read()", "text", False),
        ("get_ipython().run_cell_magic('time', '', 'mean = raw.temp.mean()\\n')", "mean", True),
        ("(mean := raw.temp.mean())", "mean", True),
        ("a = {o: rows.temp.mean() for o, rows in raw.groupby('origin')}", "a", True),
        ("a = sum(x for x in [1, 2])", "a", False),
        ("a = raw.temp.mean()\ndel a", "a", False),
        ("this is not python", "mean", False),
        ("class Box: pass\nbox = Box()\nbox.mean = raw.temp.mean()", "box", True),
        ("a: float = raw.temp.mean()", "a", True),
        ("match 1:\n    case 1: mean = raw.temp.mean()", "mean", True),
        ("S = {}\ndef learn(df): S['m'] = df.temp.mean()\nlearn(raw)", "S", True),
        ("S = {}\ndef learn(df): S['m'] = df.temp.mean()\nlearn(passerelle.training_data('weather'))", "S", False),
        ("S = {}\ndef learn(): S['m'] = raw.temp.mean()\nlearn()", "S", True),
        ("S = {}\ndef learn(df): S.update(m=df.temp.mean())\ndef all(df): learn(df)\nall(raw)", "S", True),
        ("S = {}\ndef learn(df, into): into['m'] = df.temp.mean()\nlearn(raw, S)", "S", True),
        ("S = {}\ndef learn(df, into): into['m'] = df.temp.mean()\nlearn(raw, into=S)", "S", True),
        ("S = []\ndef plot(df, names): print(df[names])\nplot(raw, S)", "S", False),
        ("S = []\ndef make(df, S):\n    S = S.copy()\n    S['a'] = 1\nmake(raw, S)", "S", False),
        ("m = 0\ndef learn(df):\n    global m\n    m = df.temp.mean()\nlearn(raw)", "m", True),
        ("class S: m = raw.temp.mean()", "S", True),
        ("class S: m = 3", "S", False),
        ("class S:\n    def f(self, raw): return raw.temp", "S", False),
        ("class S:\n    def f(self, df): return df - mean\nmean = raw.temp.mean()", "S", True),
        ("class S: pass\nsetattr(S, 'm', raw.temp.mean())", "S", True),
        ("class E:\n    def learn(self, df): self.m = df.temp.mean()\ne = E()\ne.learn(raw)", "e", True),
        ("class E:\n    def learn(self, df): self.m = df.temp.mean()\ne = E()\n_ = e.learn(raw)", "e", True),
        ("class E:\n    def show(self, df): return df.temp\ne = E()\ne.show(raw)", "e", False),
        (
            "class E:\n    def learn(self, d): self.to(d.temp)\n    def to(self, t): self.t = t\ne = E()\ne.learn(raw)",
            "e",
            True,
        ),
        ("S = {}\nclass E:\n    def learn(self, df): S['m'] = df.temp.mean()\n_ = E().learn(raw)", "S", True),
        ("S = {}\nclass E:\n    def __init__(self, df): S['m'] = df.temp.mean()\ne = E(raw)", "S", True),
        ("from digest import Digest\ne = Digest()\ne.push(raw.temp)", "e", True),
        ("s = np.zeros(3)\nnp.copyto(s, raw.temp)", "s", True),
        ("print(limit, raw)\ndisplay(limit, raw)", "limit", False),
        ("airports = passerelle.training_data('airports')\nairports.merge(raw)", "airports", False),
    ],
)
def test_names_computed_on_training_rows_are_found(cell: str, name: str, learned: bool) -> None:  # noqa: FBT001
    assert (name in trace([RAW, cell], "flights").learned) is learned


def test_the_order_of_execution_counts() -> None:
    cells = [RAW, "a = b", "b = raw.temp.mean()"]
    assert "a" not in trace(cells, "flights").learned
    assert "a" in trace([*cells, "a = b"], "flights").learned


@pytest.mark.parametrize(
    ("call", "learned"),
    [
        ("passerelle.submit(model, X, features=partial(f, raw.temp.mean()))", True),
        ("passerelle.submit(model, X, f)", False),
        ("g = partial(f, 3)\npasserelle.submit(model, X, g)", False),
        ("g = make(raw.temp.mean())\npasserelle.submit(model, X, features=g)", True),
        ("def f(r, mean=raw.temp.mean()): return r\npasserelle.submit(model, X, features=f)", True),
        ("def f(r): return r - raw.temp.mean()\npasserelle.submit(model, X, features=f)", False),
    ],
)
def test_features_made_of_learned_values_are_found(call: str, learned: bool) -> None:  # noqa: FBT001
    assert trace([RAW, "def f(r, m): return r", call], "flights").features_learned is learned
