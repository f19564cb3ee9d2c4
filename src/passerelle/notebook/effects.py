"""Effects: which names a function of the notebook changes when it is called, and which arguments. Pure.

def learn(df): STATS["mean"] = df["temp"].mean()         changes STATS
def fill(df, into): into["mean"] = df["temp"].mean()     changes its second argument
def both(df): learn(df)                                  changes what learn does
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

Function = ast.FunctionDef | ast.AsyncFunctionDef

#: Methods that put their arguments into the object they belong to.
CHANGES = frozenset(
    {"add", "append", "appendleft", "extend", "fit", "insert", "partial_fit", "put", "setdefault", "update"}
)
#: Functions of libraries that put theirs into the first of them.
FILLS = frozenset({"copyto", "fill_diagonal", "heappush", "insort", "place", "put", "putmask", "setattr", "setitem"})


def parameters(function: Function) -> list[str]:
    """The names of a function's arguments, those given by position first."""
    given = function.args
    rest = [one for one in (given.vararg, given.kwarg) if one is not None]
    return [one.arg for one in (*given.posonlyargs, *given.args, *given.kwonlyargs, *rest)]


def own_names(function: Function) -> set[str]:
    """What a name means inside the function only: its arguments, and what it assigns."""
    shared = {name for part in ast.walk(function) if isinstance(part, ast.Global) for name in part.names}
    stored = {part.id for part in ast.walk(function) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    return ({part.arg for part in ast.walk(function) if isinstance(part, ast.arg)} | stored) - shared


def root(node: ast.expr) -> str:
    """The name that an expression begins with: ``a`` of ``a.b[0].c()``; empty if it begins with none."""
    while isinstance(node, ast.Subscript | ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def changed_by(function: Function, functions: Mapping[str, Function], methods: frozenset[str]) -> set[str]:
    """The names that a call of a function changes: its arguments, by their names in it, and names of the notebook.

    ``functions`` are those of the notebook, which it may call; ``methods`` those of its classes that change self.
    """
    return _changed(function, functions, methods, frozenset())


def _changed(
    function: Function, functions: Mapping[str, Function], methods: frozenset[str], calling: frozenset[str]
) -> set[str]:
    shared = {name for part in ast.walk(function) if isinstance(part, ast.Global) for name in part.names}
    stored = {part.id for part in ast.walk(function) if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store)}
    found = shared & stored
    for part in ast.walk(function):
        if isinstance(part, ast.Subscript | ast.Attribute) and isinstance(part.ctx, ast.Store):
            found.add(root(part))
        if isinstance(part, ast.Call):
            found |= set(receivers(part, methods))
            called = functions.get(part.func.id) if isinstance(part.func, ast.Name) else None
            if called is not None and called.name not in calling:
                inner = _changed(called, functions, methods, calling | {function.name})
                found |= passed_on(part, called, inner)
    local = own_names(function) - (set(parameters(function)) - stored)  # an argument that is set anew is its own
    return found - local - {""}


def receivers(call: ast.Call, methods: frozenset[str]) -> Iterator[str]:
    """The name that a call changes by what it is called: ``a`` of ``a.append(1)`` and of ``np.copyto(a, b)``."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else root(call.func)
    if isinstance(call.func, ast.Attribute) and (name in CHANGES or name in methods):
        yield root(call.func.value)
    if name in FILLS and call.args:
        yield root(call.args[0])


def passed_on(call: ast.Call, function: Function, changed: set[str]) -> set[str]:
    """What a call changes, in the caller's names, if the function called changes these."""
    names = parameters(function)
    given = dict(zip(names, call.args, strict=False))
    given |= {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg is not None}
    theirs = {root(given[name]) for name in changed if name in given}
    return (theirs | (changed - set(names))) - {""}


def methods_of(definition: ast.ClassDef) -> list[Function]:
    """The methods that a class defines."""
    return [part for part in definition.body if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)]


def changing_methods(definition: ast.ClassDef) -> set[str]:
    """The methods of a class that set something in self (or, of a class method, in the class), themselves or by others.

    Those of Python itself, like __init__, are not among them.
    """
    found: set[str] = set()
    while True:
        more = {
            function.name
            for function in methods_of(definition)
            if not function.name.startswith("__")
            and set(parameters(function)[:1]) & changed_by(function, {}, frozenset(found))
        }
        if more <= found:
            return found
        found |= more
