# SPDX-License-Identifier: Apache-2.0
"""The import table, checked by reading the sources: which room may import which.  Design: docs/adr/0001.

Every import counts, the lazy ones inside functions, those under ``TYPE_CHECKING`` and ``import_module("…")`` too: a
boundary that is crossed only sometimes is still crossed.
"""

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src" / "volact"

KERNEL = {"core", "sealing", "wire", "sql"}
ISSUERS = KERNEL | {"issuer"}  # what an organisation's hosts share
COMPONENTS = {"publisher", "host", "directory", "vm", "fleet", "client"}

# cli, console → components → sealing, wire, sql → core.  A room may always import itself, and all above the kernel
# may read volact.__version__.
MAY_IMPORT: dict[str, set[str]] = {
    "core": set(),
    "sealing": {"core"},
    "wire": {"core"},
    "sql": {"core"},
    "issuer": KERNEL - {"sql"},
    "web": {"core", "sql"},  # what the publisher's desk and API, the fleet's REST and the console share
    "publisher": KERNEL | {"web"},
    "host": ISSUERS,
    "directory": KERNEL,
    "vm": ISSUERS,
    "fleet": KERNEL | {"web"},
    "client": KERNEL - {"sql"},
    "console": ISSUERS | COMPONENTS | {"web"},
    "cli": ISSUERS | COMPONENTS | {"web", "console"},
    # Above the command line, which it runs as one of its machines; nothing of the product imports it.
    "testing": ISSUERS | COMPONENTS | {"web", "console", "cli"},
    "__init__": {"client"},
    "__main__": {"cli"},
}

# Rooms that have rooms of their own: which of these may import which.  A module at the top of its room has a row, too.
INNER: dict[str, dict[str, set[str]]] = {
    "client": {
        "platform": set(),
        "machine": {"platform"},
        "folder": {"platform"},
        "products": {"machine", "folder"},
        "discovery": {"folder", "products"},
        "activation": {"platform", "machine", "folder", "products", "discovery"},
        "deployment": {"machine", "folder", "products"},
        "check": {"machine", "folder", "products"},
        "service": {"platform", "machine", "folder", "products", "activation", "deployment", "check"},
        "doctor": {"machine", "folder", "products", "discovery", "activation", "service"},
    },
    "publisher": {
        "rules": set(),
        "schema": set(),
        "migrations": set(),
        "rows": {"rules", "schema"},
        "store": {"rules", "schema", "rows"},
        "folder": {"rows", "store"},
        "administration": {"rules", "schema", "rows", "store", "folder"},
        "answering": {"rules", "rows", "store", "folder", "administration"},
        "api": {"rules", "schema", "rows", "folder", "administration", "answering"},
        "desk": {"rules", "schema", "rows", "folder", "administration", "answering"},
        "application": {"store", "folder", "answering"},
        "web": {"folder", "administration", "api", "desk"},
    },
    "fleet": {
        "migrations": set(),
        "schema": set(),
        "store": {"schema"},
        "folder": {"store"},
        "inventory": {"schema", "store"},
        "keys": {"schema", "store", "folder"},
        "discovery": {"inventory"},
        "figures": {"schema", "keys"},
        "reports": {"schema", "inventory", "figures"},
        "reach": {"folder"},
        "jobs": {"schema", "store", "reach"},
        "acts": {"schema", "store", "keys", "reach", "jobs"},
        "activation": {"schema", "keys", "reach", "jobs", "acts"},
        "exchange": {"schema", "store", "inventory", "keys", "activation"},
        "desk": {"store", "folder", "inventory", "keys", "reach", "jobs", "acts", "activation"},
        "schedules": {
            "schema", "store", "folder", "inventory", "keys", "figures", "reports", "jobs", "activation", "desk",
        },
        "backup": {"schema", "folder", "keys", "exchange", "schedules"},
        "verbs": {
            "store", "folder", "inventory", "keys", "discovery", "reports", "jobs", "acts", "activation", "exchange",
            "desk", "schedules",
        },
        "api": {"figures", "schedules", "verbs"},
        "rest": {
            "schema", "store", "inventory", "keys", "figures", "reports", "jobs", "exchange", "schedules", "api",
        },
    },
    "web": {
        "errors": set(),
        "migrations": set(),
        "access": {"errors"},
        "api": {"errors"},
        "site": {"errors", "access"},
        "pages": {"errors", "access", "site"},
        "sign_on": {"errors", "access", "pages"},
        "builtin": {"errors", "access", "pages", "sign_on"},
        "app": {"errors", "access", "site", "pages", "builtin"},
    },
}  # fmt: skip

# The packages a room may use beside the standard library; a room that is not named here may use any.
THIRD_PARTY: dict[str, set[str]] = {
    "core": set(),
    "client": {"cryptography", "dns"},
    "__init__": set(),
}

# The generated messages and the RPC library are extras: the bare client posts the contract over http.client.
CLIENT_NEVER = "volact.wire.gen"

GENERATED = SOURCES / "wire" / "gen"

# core takes clock, randomness and bytes as arguments.
IMPURE_MODULES = {"random", "secrets", "socket", "subprocess", "sqlite3", "asyncio", "threading", "tempfile"}
IMPURE_NAMES = {
    "datetime.now", "datetime.utcnow", "datetime.today", "date.today",
    "time.time", "time.time_ns", "time.monotonic", "time.monotonic_ns", "time.perf_counter", "time.sleep",
    "os.urandom", "os.getrandom", "uuid.uuid1", "uuid.uuid4",
}  # fmt: skip
IMPURE_BUILTINS = {"open", "input", "print"}

SPDX = "# SPDX-License-Identifier: Apache-2.0"


@dataclass(frozen=True, slots=True)
class Import:
    """One import of one module: where it stands and whether it runs when its file is imported."""

    module: str
    line: int
    eager: bool


@pytest.mark.parametrize("path", sorted(SOURCES.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCES)))
def test_a_file_imports_only_the_rooms_below_its_own(path: Path) -> None:
    room = _room_of(_module_of(path))
    assert room in MAY_IMPORT, f"a new room: give {room!r} a row in MAY_IMPORT"
    allowed = MAY_IMPORT[room] | {room} | (set() if room in KERNEL else {"__init__"})
    crossings = [
        f"{path.relative_to(ROOT)}:{found.line} imports {found.module}"
        for found in _imports(path)
        if _is_ours(found.module) and _room_of(found.module) not in allowed
    ]
    assert not crossings, "\n".join(crossings)


@pytest.mark.parametrize("room", sorted(INNER))
def test_the_rooms_within_a_room_import_in_their_order(room: str) -> None:
    crossings = [
        f"{path.relative_to(ROOT)}:{found.line} imports {found.module}"
        for path in _files_of(room)
        for found in _imports(path)
        if _room_of(found.module) == room and not _is_in_order(room, _module_of(path), found.module)
    ]
    assert not crossings, "\n".join(crossings)


@pytest.mark.parametrize("room", sorted(INNER))
def test_the_rooms_within_a_room_have_an_order_and_are_all_in_the_table(room: str) -> None:
    TopologicalSorter(INNER[room]).prepare()  # raises where two of them may import each other
    there = {_inner_room_of(_module_of(path)) for path in _files_of(room)} - {None}
    assert there == set(INNER[room])


@pytest.mark.parametrize("room", sorted(THIRD_PARTY))
def test_a_lean_room_uses_only_its_few_packages(room: str) -> None:
    allowed = set(sys.stdlib_module_names) | THIRD_PARTY[room] | {"volact"}
    foreign = [
        f"{path.relative_to(ROOT)}:{found.line} imports {found.module}"
        for path in _files_of(room)
        for found in _imports(path)
        if found.module.split(".")[0] not in allowed
    ]
    assert not foreign, "\n".join(foreign)


def test_the_client_never_imports_the_generated_messages() -> None:
    crossings = [
        f"{path.relative_to(ROOT)}:{found.line}"
        for path in _files_of("client")
        for found in _imports(path)
        if _is_within(found.module, CLIENT_NEVER)
    ]
    assert not crossings, "\n".join(crossings)


def test_what_the_client_pulls_in_needs_no_extra() -> None:
    """Follows the client's imports, and what those files import when they are loaded, to the end."""
    allowed = set(sys.stdlib_module_names) | THIRD_PARTY["client"] | {"volact"}
    heavy = [
        f"{module} is reached through {' → '.join(way)}"
        for module, way in _reach(_files_of("client"))
        if module.split(".")[0] not in allowed or _is_within(module, CLIENT_NEVER) or _is_within(module, "volact.sql")
    ]
    assert not heavy, "\n".join(heavy)


def test_the_files_of_the_client_depend_on_each_other_in_one_direction() -> None:
    """Lazy imports included; a package and its own files may name each other."""
    modules = {_module_of(path): path for path in _files_of("client")}
    uses = {
        name: {f.module for f in _imports(path) if f.module in modules and not _is_within(name, f.module)}
        for name, path in modules.items()
    }
    try:
        TopologicalSorter(uses).prepare()
    except CycleError as exc:
        pytest.fail(f"a circle: {' ← '.join(exc.args[1])}")


def test_importing_volact_loads_no_room() -> None:
    eager = [found.module for found in _imports(SOURCES / "__init__.py") if found.eager and _is_ours(found.module)]
    assert not eager, f"volact/__init__.py must import these inside functions: {eager}"


@pytest.mark.parametrize("path", sorted((SOURCES / "core").rglob("*.py")), ids=lambda path: path.name)
def test_core_has_no_clock_no_randomness_and_no_input_or_output(path: Path) -> None:
    tree = ast.parse(path.read_bytes())
    impure = [f"{path.relative_to(ROOT)}:{line} uses {name}" for name, line in _impure_uses(tree)]
    assert not impure, "\n".join(impure)


def test_every_python_file_begins_with_its_licence() -> None:
    folders = ("src", "tests", "tools", "examples", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py") if GENERATED not in path.parents]
    unmarked = [str(path.relative_to(ROOT)) for path in files if not _begins_with_licence(path)]
    assert not unmarked, f"first line must be {SPDX!r}: {unmarked}"


@pytest.mark.parametrize(
    ("source", "module"),
    [
        ("import volact.host", "volact.host"),
        ("from volact import host", "volact.host"),
        ("def f():\n    from volact.host import store", "volact.host"),
        ("if TYPE_CHECKING:\n    import volact.host.store", "volact.host.store"),
        ("import_module('volact.host')", "volact.host"),
        ("importlib.import_module('volact.host')", "volact.host"),
    ],
)
def test_the_reader_sees_every_way_to_import(source: str, module: str, tmp_path: Path) -> None:
    path = tmp_path / "sample.py"
    path.write_text(source)
    assert any(_is_within(found.module, module) for found in _imports(path))


@pytest.mark.parametrize(
    "source",
    [
        "import random",
        "from secrets import token_bytes",
        "from os import urandom",
        "import time\ntime.time()",
        "from datetime import datetime\ndatetime.now(UTC)",
        "import datetime\ndatetime.datetime.now(UTC)",
        "open('x')",
    ],
)
def test_the_reader_sees_what_is_impure(source: str) -> None:
    assert list(_impure_uses(ast.parse(source)))


def _files_of(room: str) -> list[Path]:
    single = SOURCES / f"{room}.py"
    return [single] if single.exists() else sorted((SOURCES / room).rglob("*.py"))


def _module_of(path: Path) -> str:
    parts = path.relative_to(SOURCES.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def _inner_room_of(module: str) -> str | None:
    """``None`` for the room itself."""
    parts = module.split(".")
    return parts[2] if len(parts) > 2 else None


def _is_in_order(room: str, importer: str, imported: str) -> bool:
    upper, lower = _inner_room_of(importer), _inner_room_of(imported)
    if upper is None or lower is None:
        return True
    return upper == lower or lower in INNER[room].get(upper, set())


def _is_ours(module: str) -> bool:
    return _is_within(module, "volact")


def _is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def _imports(path: Path) -> Iterator[Import]:
    tree = ast.parse(path.read_bytes())
    eager = set(_eager_nodes(tree.body))
    for node in ast.walk(tree):
        for module in _modules_named(node, path):
            yield Import(module, getattr(node, "lineno", 0), node in eager)


def _eager_nodes(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """What runs at import: not the bodies of functions, nor what is there for the type checker only."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_for_types(node):
            continue
        yield node
        yield from _eager_nodes(ast.iter_child_nodes(node))


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _modules_named(node: ast.AST, path: Path) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=module, names=names, level=level):
            package = _absolute(module or "", level, path)
            yield from (_module_or_package(package, alias.name) for alias in names)
        case ast.Call(func=func, args=[ast.Constant(value=str(name)), *_]) if _is_import_call(func):
            yield name


def _is_import_call(func: ast.expr) -> bool:
    return ast.unparse(func) in {"import_module", "importlib.import_module", "__import__"}


def _absolute(module: str, level: int, path: Path) -> str:
    if level == 0:
        return module
    package = _module_of(path).split(".") if path.name == "__init__.py" else _module_of(path).split(".")[:-1]
    return ".".join([*package[: len(package) - level + 1], *([module] if module else [])])


def _module_or_package(package: str, name: str) -> str:
    """``from a import b`` names the module a.b where there is one, and something inside a otherwise."""
    if package == "volact" and name in MAY_IMPORT:
        return f"volact.{name}"
    base = SOURCES.parent.joinpath(*package.split("."), name)
    return f"{package}.{name}" if base.is_dir() or base.with_suffix(".py").exists() else package


def _reach(start: list[Path]) -> Iterator[tuple[str, list[str]]]:
    """Each module the files import, and each that importing those loads, with the way it was reached."""
    todo = [(found.module, [_module_of(path)]) for path in start for found in _imports(path)]
    seen: set[str] = set()
    while todo:
        module, way = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        yield module, way
        for path in _loaded_with(module):
            todo += [(found.module, [*way, module]) for found in _imports(path) if found.eager]


def _loaded_with(module: str) -> Iterator[Path]:
    """The files Python runs for ``import module``: its own, and the ``__init__`` of each package above."""
    if not _is_ours(module):
        return
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        base = SOURCES.parent.joinpath(*parts[:depth])
        yield from (path for path in (base / "__init__.py", base.with_suffix(".py")) if path.exists())


def _impure_uses(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        for name in _names_used(node):
            last_two = ".".join(name.split(".")[-2:])
            if name.split(".")[0] in IMPURE_MODULES or last_two in IMPURE_NAMES or name in IMPURE_BUILTINS:
                yield name, getattr(node, "lineno", 0)


def _names_used(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.ImportFrom(module=str(module), names=names):
            yield from (f"{module}.{alias.name}" for alias in names)
        case ast.Attribute():
            yield ast.unparse(node)
        case ast.Call(func=ast.Name(id=name)):
            yield name


def _begins_with_licence(path: Path) -> bool:
    lines = path.read_text(encoding="utf-8").splitlines()
    return SPDX in lines[:2] if lines and lines[0].startswith("#!") else lines[:1] == [SPDX]
