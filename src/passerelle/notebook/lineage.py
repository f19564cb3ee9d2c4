"""Lineage: which names of a notebook were computed on its training rows. Pure: sources in, names out.

The cells are read in the order in which they ran. What ``training_data()`` gives is *learned*, and so is whatever is
computed from something learned; ``training_data("airports")`` is a further table, the same for every event, and is
not. The names of columns (``raw.columns``) are no rows, and are not learned either.

    mean = raw["temp"].mean()          learned: it would change with the rows
    names = list(raw.columns)          not learned
    means[origin] = raw.temp.mean()    means is learned
    learn(raw)                         learned: what learn changes, be it a name of the notebook or an argument
    encoder.learn(raw)                 encoder is learned, if its class lets that method set something in self

This follows names, not values: what is hidden in an attribute of a module, or behind exec, is not seen. Values help
where names do not: ``literals`` are the names that were last set to something written out, and never visibly since.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from passerelle.notebook.effects import (
    Function,
    changed_by,
    changing_methods,
    methods_of,
    own_names,
    parameters,
    passed_on,
    receivers,
    root,
)

#: Of a learned frame, what does not depend on its rows.
_OF_COLUMNS = frozenset({"columns", "dtypes", "dtype", "ndim"})
#: A call of these says something and changes nothing.
_SAYS = frozenset({"critical", "debug", "display", "error", "exception", "info", "log", "print", "submit", "warning"})
#: Methods that change a collection and put nothing into it.
_TAKES = frozenset({"clear", "discard", "pop", "popitem", "popleft", "remove", "reverse", "sort"})
#: Classes whose objects are changed by assignment, and by no method of another name.
_TABLES = frozenset({"DataFrame", "Index", "Path", "Series"})
#: Cell magics whose body is Python of this kernel, as IPython writes them in its history.
_MAGICS = frozenset({"capture", "prun", "time", "timeit"})
_ROUNDS = 2


class Lineage(msgspec.Struct, frozen=True, kw_only=True):
    """What the cells of a notebook computed on training rows."""

    #: Names whose value was.
    learned: frozenset[str]
    #: Was what the last submit call gives as ``features`` (a partial, a closure, an object made from such values)?
    features_learned: bool
    #: Names whose last assignment is a value written out, and what it is: if they hold another by now, something that
    #: was not followed has filled them.
    literals: dict[str, Any]


def trace(sources: Iterable[str], main: str) -> Lineage:
    """Follow the training rows through the sources of the cells that ran, in their order.

    ``main`` is the table of the events: ``training_data(main)`` gives training rows too. A cell that is not Python
    is left out.

    >>> cells = ["raw = passerelle.training_data()", "mean = raw.temp.mean(); limit = 30"]
    >>> sorted(trace(cells, "flights").learned)
    ['mean', 'raw']
    """
    flow = _Flow(main)
    for source in sources:
        flow.run(_statements(source))
    flow.finish()
    return Lineage(
        learned=frozenset(flow.learned), features_learned=flow.features_learned, literals=dict(flow.literals)
    )


def _statements(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except SyntaxError:
        return []


class _Flow:
    """The names that are learned so far, as statements are gone through."""

    def __init__(self, main: str) -> None:
        self.main = main
        self.learned: set[str] = set()
        self.readers: set[str] = set()  # functions that read a learned name
        self.imported: set[str] = set()
        self.functions: dict[str, Function] = {}
        self.methods: frozenset[str] = frozenset()  # of the notebook's classes, those that change self
        self.looking: set[str] = set()  # and those that do not
        self.bodies: dict[str, Function] = {}  # of methods, by name; of __init__ by the class's
        self.classes: dict[str, ast.ClassDef] = {}
        self.built: set[str] = set()  # objects made by calling a class
        self.literals: dict[str, Any] = {}
        self.depth = 0  # of branches, where an assignment may not have happened
        self.features_learned = False

    def run(self, statements: Sequence[ast.stmt]) -> None:
        for statement in statements:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:  # noqa: C901, PLR0912  (a case per kind of statement)
        match node:
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    self.bind_value(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self.bind(target, learned=self.is_learned(value))
            case ast.AugAssign(target=target, value=value):
                self.bind(target, learned=self.is_learned(value) or self.is_learned(target))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                self.function(node)
            case ast.ClassDef():
                self.class_(node)
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                for alias in aliases:
                    name = (alias.asname or alias.name).partition(".")[0]
                    self.imported.add(name)
                    self.literals.pop(name, None)
                    if name == "*":
                        self.literals.clear()  # any of them may be another now
                    self.learned.discard(name)
            case ast.For(target=target, iter=iterated) | ast.AsyncFor(target=target, iter=iterated):
                self.bind(target, learned=self.is_learned(iterated))
                self.branches(node)
            case ast.With(items=items) | ast.AsyncWith(items=items):
                for item in items:
                    if item.optional_vars is not None:
                        self.bind(item.optional_vars, learned=self.is_learned(item.context_expr))
                self.branches(node)
            case ast.Expr(value=ast.Call() as call):
                self.call(call)
            case ast.Delete(targets=targets):
                self.learned -= {target.id for target in targets if isinstance(target, ast.Name)}
            case _:
                self.branches(node)
        for inner in _expressions(node):
            self.expression(inner)

    def branches(self, node: ast.stmt) -> None:
        """A branch that may or may not run, or runs again: what was learned before it may still be."""
        before = set(self.learned)
        self.depth += 1
        for _ in range(_ROUNDS):
            for field in ("body", "orelse", "finalbody"):
                self.run(getattr(node, field, []))
                before |= self.learned
            for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
                self.run(part.body)
                before |= self.learned
        self.depth -= 1
        if not isinstance(node, ast.With | ast.AsyncWith):
            self.learned = before

    def function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        defaults = [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]
        learned = any(self.is_learned(part) for part in [*defaults, *node.decorator_list])
        own = own_names(node)
        self.define(node.name, reads=any(self.reads_learned(part, own) for part in node.body))
        self.bind(ast.Name(id=node.name, ctx=ast.Store()), learned=learned)
        self.functions[node.name] = node
        declared = {name for part in ast.walk(node) if isinstance(part, ast.Global) for name in part.names}
        if declared:  # a function that sets globals: taken as if its body ran, for those names
            inner = _Flow(self.main)
            inner.learned, inner.readers, inner.imported = set(self.learned), set(self.readers), set(self.imported)
            inner.run([part for part in node.body if not isinstance(part, ast.Global)])
            self.learned |= inner.learned & declared

    def class_(self, node: ast.ClassDef) -> None:
        """A class is learned if its own attributes are, or if its methods read what is."""
        methods = {one.name: one for one in methods_of(node)}
        self.methods |= changing_methods(node)
        self.looking |= set(methods) - self.methods
        self.bodies |= {node.name if name == "__init__" else name: one for name, one in methods.items()}
        self.define(node.name, reads=False)
        self.bind(ast.Name(id=node.name, ctx=ast.Store()), learned=self.class_reads(node))
        self.classes[node.name] = node

    def class_reads(self, node: ast.ClassDef) -> bool:
        return any(
            self.reads_learned(
                part, own_names(part) if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) else ()
            )
            for part in node.body
        )

    def finish(self) -> None:
        """A method reads what its names mean when it is called, which the cells after its class may have set."""
        self.learned |= {name for name, node in self.classes.items() if self.class_reads(node)}

    def define(self, name: str, *, reads: bool) -> None:
        self.learned.discard(name)
        self.readers.discard(name)
        if reads:
            self.readers.add(name)

    def reads_learned(self, node: ast.AST, own: Iterable[str] = ()) -> bool:
        return any(
            (isinstance(part, ast.Name) and part.id not in own and (part.id in self.learned or part.id in self.readers))
            or (isinstance(part, ast.Call) and self.is_source(part))
            for part in ast.walk(node)
        )

    def bind_value(self, target: ast.expr, value: ast.expr) -> None:
        """Assign, part by part where both sides are written out: ``raw, limit = training_data(), 30``."""
        if (
            isinstance(target, ast.Tuple | ast.List)
            and isinstance(value, ast.Tuple | ast.List)
            and len(target.elts) == len(value.elts)
        ):
            for one, part in zip(target.elts, value.elts, strict=True):
                self.bind_value(one, part)
            return
        self.bind(target, learned=self.is_learned(value))
        if isinstance(target, ast.Name):
            called = _name(value.func) if isinstance(value, ast.Call) else ""
            (self.built.add if called[:1].isupper() and called not in _TABLES else self.built.discard)(target.id)
            if not self.depth:
                self.literal(target.id, value)
            reads = isinstance(value, ast.Lambda) and self.reads_learned(value)
            reads |= isinstance(value, ast.Name) and value.id in self.readers
            (self.readers.add if reads else self.readers.discard)(target.id)

    def literal(self, name: str, value: ast.expr) -> None:
        try:
            self.literals[name] = ast.literal_eval(value)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            if isinstance(value, ast.Call) and _name(value.func) in ("dict", "list", "set") and not _arguments(value):
                self.literals[name] = {"dict": {}, "list": [], "set": set()}[_name(value.func)]

    def bind(self, target: ast.expr, *, learned: bool) -> None:
        match target:
            case ast.Name(id=name):
                self.literals.pop(name, None)
                self.functions.pop(name, None)
                self.classes.pop(name, None)
                (self.learned.add if learned else self.learned.discard)(name)
            case ast.Tuple(elts=parts) | ast.List(elts=parts):
                for part in parts:
                    self.bind(part, learned=learned)
            case ast.Starred(value=inner):
                self.bind(inner, learned=learned)
            case ast.Subscript(value=inner) | ast.Attribute(value=inner):
                self.change(inner, learned=learned)

    def change(self, target: ast.expr, *, learned: bool) -> None:
        """A part of an object is set: it becomes learned with it, and never stops being so."""
        self.mark(root(target), learned=learned)

    def mark(self, name: str, *, learned: bool) -> None:
        if not learned:
            self.literals.pop(name, None)  # its value differs from what was written out, and that is explained
        elif name and name not in self.imported:
            self.learned.add(name)

    def call(self, node: ast.Call) -> None:
        """A call as a statement: a cell magic, or one that is looked at as any expression."""
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        words = [part.value for part in node.args if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if name in ("run_cell_magic", "run_line_magic") and len(words) > 1 and words[0] in _MAGICS:
            self.run(_statements(words[-1]))
        if name == "run_line_magic" and words[:1] == ["run"]:
            self.literals.clear()
        owner = root(node.func.value) if isinstance(node.func, ast.Attribute) else ""
        if owner in self.built and name not in _SAYS | self.looking:
            self.mark(owner, learned=any(self.is_learned(value) for value in _arguments(node)))
        if _name(node.func) not in _SAYS and not self.is_learned(
            node
        ):  # what it may have filled was not filled with training rows
            for argument in (*_arguments(node), node.func):
                self.literals.pop(root(argument), None)

    def expression(self, node: ast.AST) -> None:
        """What happens inside an expression: ``list.append(learned)``, ``(n := learned)``, submit's features."""
        for part in ast.walk(node):
            if isinstance(part, ast.NamedExpr):
                self.bind(part.target, learned=self.is_learned(part.value))
            if not isinstance(part, ast.Call):
                continue
            self.effects(part)
            if _name(part.func) == "submit":
                given = [keyword.value for keyword in part.keywords if keyword.arg == "features"] + part.args[2:3]
                self.features_learned = any(self.is_learned(value) for value in given)

    def effects(self, node: ast.Call) -> None:
        """What a call changes beside what it gives."""
        learned = any(self.is_learned(value) for value in _arguments(node))
        for name in receivers(node, self.methods):
            self.mark(name, learned=learned)
        if isinstance(node.func, ast.Attribute) and node.func.attr in _TAKES:
            self.literals.pop(root(node.func.value), None)
        function = self.functions.get(node.func.id) if isinstance(node.func, ast.Name) else None
        if function is not None:
            learned |= function.name in self.readers
            for name in passed_on(node, function, changed_by(function, self.functions, self.methods)):
                self.mark(name, learned=learned)
        method = self.bodies.get(_name(node.func))
        if method is not None and function is None:
            for name in changed_by(method, self.functions, self.methods) - set(parameters(method)):
                self.mark(name, learned=learned)

    def is_source(self, node: ast.Call) -> bool:
        if _name(node.func) != "training_data":
            return False
        table = next(iter(_arguments(node)), None)
        return not (isinstance(table, ast.Constant) and isinstance(table.value, str) and table.value != self.main)

    def is_learned(self, node: ast.AST) -> bool:  # noqa: PLR0911  (a case per kind of expression)
        """Does the value of an expression depend on learned names?"""
        match node:
            case ast.Name(id=name):
                return name in self.learned
            case ast.Attribute(attr=attribute) if attribute in _OF_COLUMNS:
                return False
            case ast.Lambda(args=arguments):
                return any(
                    self.is_learned(part) for part in [*arguments.defaults, *filter(None, arguments.kw_defaults)]
                )
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self.is_learned_comprehension(node)
            case ast.Call(func=function):
                if _name(function) == "training_data":
                    return self.is_source(node)
                called = isinstance(function, ast.Name) and function.id in self.readers
                values = [function, *_arguments(node)]
                passed = any(isinstance(value, ast.Name) and value.id in self.readers for value in values)
                return called or passed or any(self.is_learned(value) for value in values)
            case _:
                return any(self.is_learned(child) for child in ast.iter_child_nodes(node))

    def is_learned_comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> bool:
        before = set(self.learned)
        for clause in node.generators:
            self.bind(clause.target, learned=self.is_learned(clause.iter))
        results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        tests = [test for clause in node.generators for test in clause.ifs]
        found = any(self.is_learned(part) for part in [*results, *tests, *(one.iter for one in node.generators)])
        self.learned = before
        return found


def _name(function: ast.expr) -> str:
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def _arguments(node: ast.Call) -> list[ast.expr]:
    return [*node.args, *(keyword.value for keyword in node.keywords)]


def _expressions(node: ast.stmt) -> Iterator[ast.expr]:
    """The expressions of a statement itself, not those of the statements inside it."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield from (child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))
