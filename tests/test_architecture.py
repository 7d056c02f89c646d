"""The house keeps its shape: doors, third-party imports, mirrors, names and sizes. Every check is shown to fail.

The direction of imports between rooms is import-linter's work (`tool.importlinter` in pyproject.toml).
"""

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
# What each room stands on. Beyond the design's table: numpy wherever arrays pass; msgspec types the manifest;
# rfc8785 writes what is hashed; google.protobuf is what an ONNX model that cannot be parsed fails in; rich draws the
# progress of a training and pooch fetches its open data sets.
THIRD_PARTY = {
    "audit": {"cryptography", "numpy", "rfc8785", "sqlalchemy"},
    "cli": {"click", "numpy", "rich"},
    "engine": {"msgspec", "numpy", "onnxruntime", "zmq"},
    "explain": {"google", "numpy", "onnx", "onnx_ir"},
    "exporters": {"captum", "numpy", "onnx", "onnxscript", "shap", "skl2onnx", "sklearn", "torch"},
    "model_store": {"PIL", "google", "msgspec", "numpy", "onnx", "rfc8785", "tokenizers"},
    "pictures": {"PIL", "numpy"},
    "server": {"PIL", "flask", "granian", "msgspec", "numpy", "opentelemetry", "prometheus_client", "werkzeug"},
    "training": {"PIL", "lightning", "numpy", "pooch", "rich", "sklearn", "torch"},
}
BESIDE_ROOMS = {"end_to_end"}
FILE_LINES, FUNCTION_LINES, TEST_FILE_LINES = 300, 50, 400
Checker = Callable[[Path], list[str]]


def sources(root: Path, *folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            yield path.relative_to(root), ast.parse(path.read_text("utf-8"))


def imports(tree: ast.Module) -> Iterator[tuple[int, str, str | None]]:
    """(line, module, name) of every absolute import; the name is None for `import module`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from ((node.lineno, node.module or "", alias.name) for alias in node.names)


def door(root: Path, room: str) -> set[str]:
    for node in ast.parse((root / room / "__init__.py").read_text("utf-8")).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return set(ast.literal_eval(node.value))  # type: ignore[attr-defined]  # both kinds of node have one
    return set()


def one_door_per_room(root: Path) -> list[str]:
    """Across rooms only names of a room's __all__, inside a room relative imports; tests may enter their own."""
    rooms = [room for room in ROOMS if (root / room).is_dir()]
    doors = {room: door(root, room) for room in rooms}
    found = []
    for path, tree in sources(root, *rooms, "tests", "benchmarks", "docs"):
        inside = path.parts[0] if path.parts[0] in rooms else None
        own = path.parts[1] if path.parts[0] == "tests" and len(path.parts) > 2 else None
        for line, module, name in imports(tree):
            room, _, submodule = module.partition(".")
            if room not in doors or room == own:
                continue
            if room == inside:
                found.append(f"{path}:{line}: imports its own room by name; use a relative import")
            elif submodule or (name is not None and name not in doors[room]):
                found.append(f"{path}:{line}: {module}.{name} is not behind the door of {room}")
        found += [
            f"{path}:{node.lineno}: {node.value.id}.{node.attr} is not behind the door of {node.value.id}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if (node.value.id, None) in {(module, name) for _, module, name in imports(tree)}
            if node.value.id in doors and node.value.id != own and node.attr not in doors[node.value.id]
        ]
    return found


def third_party_by_room(root: Path) -> list[str]:
    """A room imports the standard library, other rooms and what THIRD_PARTY grants it."""
    found = []
    for room in ROOMS:
        known = THIRD_PARTY[room] | set(sys.stdlib_module_names) | set(ROOMS)
        for path, tree in sources(root, room):
            for line, module, _ in imports(tree):
                if module.partition(".")[0] not in known:
                    found.append(f"{path}:{line}: {room} does not stand on {module}")
    return found


def mirrored_by_tests(root: Path) -> list[str]:
    """Every room has its folder of tests, every folder of tests a room; no test folder is a package."""
    folders = {path.name for path in (root / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    missing = [f"tests/{room}: no tests" for room in ROOMS if not list((root / "tests" / room).glob("test_*.py"))]
    strays = [f"tests/{name}: no such room" for name in sorted(folders - set(ROOMS) - BESIDE_ROOMS)]
    packages = [f"{path.relative_to(root)}: tests are no package" for path in (root / "tests").rglob("__init__.py")]
    return missing + strays + packages


def only_rooms_are_packages(root: Path) -> list[str]:
    """Of the top-level folders exactly the rooms have an __init__.py."""
    packages = {path.parent.name for path in root.glob("*/__init__.py")}
    return [f"{name}: a room and a package are the same thing" for name in sorted(packages ^ set(ROOMS))]


def names_shadow_nothing(root: Path) -> list[str]:
    """No module is named like one of the standard library or of a package that we depend on."""
    foreign = set(sys.stdlib_module_names) | dependency_modules()
    modules = [path for room in ROOMS for path in (root / room).rglob("*.py")]
    names = {path: path.parent.name if path.stem == "__init__" else path.stem for path in modules}
    return [
        f"{path.relative_to(root)}: another module is called {names[path]}"
        for path in modules
        if names[path] in foreign
    ]


def dependency_modules() -> set[str]:
    """The top-level module names of the installed packages that pyproject.toml names."""
    extras = PROJECT["project"]["optional-dependencies"]
    named = [*PROJECT["project"]["dependencies"], *(entry for entries in extras.values() for entry in entries)]
    direct = {re.split(r"[\[<>=!~; ]", entry)[0].lower().replace("_", "-") for entry in named}
    installed = importlib.metadata.packages_distributions()
    return {module for module, owners in installed.items() if direct & {o.lower().replace("_", "-") for o in owners}}


def sizes(root: Path) -> list[str]:
    """Files and functions stay readable."""
    found = []
    for path, tree in sources(root, *ROOMS, "tests", "benchmarks", "deploy", "docs"):
        lines = len((root / path).read_text("utf-8").splitlines())
        limit = TEST_FILE_LINES if path.parts[0] == "tests" else FILE_LINES
        if lines > limit:
            found.append(f"{path}: {lines} lines, at most {limit}")
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES:
                    found.append(f"{path}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES}")
    return found


def http_numbers_in_one_place(root: Path) -> list[str]:
    """No room but server/errors.py knows a status number of a failure, and nobody raises a bare RuntimeError."""
    found = []
    for path, tree in sources(root, *ROOMS):
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and "RuntimeError" in {
                n.id for n in ast.walk(node) if isinstance(n, ast.Name)
            }:
                found.append(f"{path}:{node.lineno}: a bare RuntimeError")
            keyword = isinstance(node, ast.keyword) and node.arg in {"status", "code", "status_code"}
            number = node.value.value if keyword and isinstance(node.value, ast.Constant) else None
            if number in range(400, 600) and path != Path("server/errors.py"):
                found.append(f"{path}:{node.value.lineno}: the HTTP number {number}")
    return found


CHECKERS: list[Checker] = [
    one_door_per_room,
    third_party_by_room,
    mirrored_by_tests,
    only_rooms_are_packages,
    names_shadow_nothing,
    sizes,
    http_numbers_in_one_place,
]
SPOILED: list[tuple[Checker, dict[str, str], str]] = [
    (one_door_per_room, {"server/a.py": "from audit.log import AuditLog"}, "server/a.py:1: audit.log.AuditLog"),
    (one_door_per_room, {"server/a.py": "\nfrom audit import hidden"}, "server/a.py:2: audit.hidden"),
    (one_door_per_room, {"server/a.py": "def f():\n    import audit.log"}, "server/a.py:2: audit.log"),
    (one_door_per_room, {"server/a.py": "import audit\naudit.log.x()"}, "server/a.py:2: audit.log"),
    (one_door_per_room, {"audit/a.py": "from audit import shown"}, "audit/a.py:1: imports its own room"),
    (one_door_per_room, {"tests/server/test_a.py": "from audit.log import x"}, "tests/server/test_a.py:1: audit.log.x"),
    (
        third_party_by_room,
        {"explain/a.py": "def f():\n    import torch.nn"},
        "explain/a.py:2: explain does not stand on torch.nn",
    ),
    (mirrored_by_tests, {"tests/attic/test_a.py": ""}, "tests/attic: no such room"),
    (mirrored_by_tests, {"tests/audit/test_a.py": None}, "tests/audit: no tests"),
    (mirrored_by_tests, {"tests/audit/__init__.py": ""}, "tests/audit/__init__.py: tests are no package"),
    (only_rooms_are_packages, {"docs/__init__.py": ""}, "docs: a room and a package"),
    (only_rooms_are_packages, {"audit/__init__.py": None}, "audit: a room and a package"),
    (names_shadow_nothing, {"server/wire/json.py": ""}, "server/wire/json.py: another module is called json"),
    (
        names_shadow_nothing,
        {"engine/numpy/__init__.py": ""},
        "engine/numpy/__init__.py: another module is called numpy",
    ),
    (sizes, {"cli/a.py": "x = 1\n" * 301}, "cli/a.py: 301 lines"),
    (sizes, {"cli/a.py": "def f():\n" + "    x = 1\n" * 50}, "cli/a.py:1: f has 51 lines"),
    (http_numbers_in_one_place, {"audit/a.py": "raise RuntimeError('x')"}, "audit/a.py:1: a bare RuntimeError"),
    (http_numbers_in_one_place, {"server/a.py": "answer(status=404)"}, "server/a.py:1: the HTTP number 404"),
]


@pytest.fixture
def small_house(tmp_path: Path) -> Path:
    """A tree of empty rooms with one test each, which every checker passes."""
    for room in ROOMS:
        for file, text in {f"{room}/__init__.py": '__all__ = ["shown"]', f"tests/{room}/test_a.py": ""}.items():
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text(text)
    return tmp_path


@pytest.mark.parametrize("checker", CHECKERS, ids=lambda checker: checker.__name__)
def test_the_house_keeps_its_shape(checker: Checker) -> None:
    assert checker(ROOT) == []


@pytest.mark.parametrize(("checker", "files", "named"), SPOILED, ids=[f"{c.__name__}-{n}" for c, _, n in SPOILED])
def test_each_checker_fails_where_it_must(
    small_house: Path, checker: Checker, files: dict[str, Any], named: str
) -> None:
    assert checker(small_house) == []
    for file, text in files.items():
        if text is None:
            (small_house / file).unlink()
            continue
        (small_house / file).parent.mkdir(parents=True, exist_ok=True)
        (small_house / file).write_text(text)
    found = checker(small_house)
    assert len(found) == 1
    assert found[0].startswith(named)


def test_every_checker_is_shown_to_fail() -> None:
    assert {checker for checker, _, _ in SPOILED} == set(CHECKERS)


def test_the_lists_name_every_room() -> None:
    contracts = PROJECT["tool"]["importlinter"]
    layers = [room for layer in contracts["contracts"][0]["layers"] for room in layer.split(" | ")]
    for listed in (THIRD_PARTY, layers, contracts["root_packages"], PROJECT["tool"]["mypy"]["packages"]):
        assert sorted(listed) == sorted(ROOMS)
