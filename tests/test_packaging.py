"""What leaves the checkout: the wheel, the locks of the image, and rooms that load from one place and cheaply."""

import importlib.machinery
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS: list[str] = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
FRAMEWORKS = {"captum", "lightning", "onnx_ad", "onnxscript", "shap", "skl2onnx", "sklearn", "torch"}
# What a room must not even load when it is imported, beyond the training frameworks.
ELSEWHERE = {
    "explain": {"onnxruntime", "flask"},
    "model_store": {"onnxruntime", "sqlalchemy"},
    "cli": {"onnx", "flask"},
}
PINNED = re.compile(r"^([a-z0-9-]+)==(\S+)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)
EXTRAS = PROJECT["project"]["optional-dependencies"]
LOCKS = {
    "serving": PROJECT["project"]["dependencies"] + EXTRAS["cpu"] + EXTRAS["otel"],
    "build": PROJECT["build-system"]["requires"],
}


def shadowed(search_path: list[str]) -> list[str]:
    """The rooms that would not load from where most rooms do, each with the path that shadows it."""
    specs = {room: importlib.machinery.PathFinder.find_spec(room, search_path) for room in ROOMS}
    parents = {room: str(Path(spec.origin).parents[1]) if spec and spec.origin else "" for room, spec in specs.items()}
    home = Counter(parents.values()).most_common(1)[0][0]
    return [f"{room}: {parents[room]}" for room in ROOMS if parents[room] != home]


def wheel_strays(names: list[str]) -> list[str]:
    """The files of a wheel that are neither a room's nor the wheel's own description."""
    return [n for n in names if n.partition("/")[0] not in ROOMS and not n.partition("/")[0].endswith(".dist-info")]


def pins(text: str) -> dict[str, str]:
    """Name and version of every line of a lock; raises ValueError for a line that is not pinned and hashed."""
    body = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    if left := PINNED.sub("", body).strip():
        raise ValueError(f"not pinned and hashed: {left.splitlines()[0]}")
    return {name: version for name, version, _ in PINNED.findall(body)}


def canonical(name: str) -> str:
    return re.sub("[-_.]+", "-", re.split(r"[\[<>=!~; ]", name)[0]).lower()


def constraints() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    return {canonical(name): version for name, _, version in (line.partition("==") for line in lines)}


def test_all_rooms_load_from_one_parent() -> None:
    assert shadowed([str(ROOT), *sys.path]) == []


def test_a_shadowing_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "explain").mkdir()
    (tmp_path / "explain" / "__init__.py").touch()
    assert shadowed([str(tmp_path), str(ROOT)]) == [f"explain: {tmp_path}"]
    assert shadowed([str(ROOT), str(tmp_path)]) == []


def test_the_command_names_what_shadows_a_room(tmp_path: Path) -> None:
    (tmp_path / "explain").mkdir()
    (tmp_path / "explain" / "__init__.py").touch()
    command = [sys.executable, "-c", "import cli; cli.main()", "config"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for folder, expected in ((tmp_path, str(tmp_path / "explain")), (ROOT, "")):
        run = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert (run.returncode == 0) == (folder == ROOT), run.stderr
        assert expected in run.stderr


def test_the_wheel_holds_the_rooms_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert wheel_strays(names) == []
    sources = {str(p.relative_to(ROOT)) for room in ROOMS for p in (ROOT / room).rglob("*.py")}
    assert sources <= set(names)
    assert "audit/schema/decision-1.json" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_a_stray_in_the_wheel_is_named() -> None:
    assert wheel_strays(["audit/log.py", "tests/conftest.py", "glasshouse-1.dist-info/METADATA"]) == [
        "tests/conftest.py"
    ]


@pytest.mark.parametrize("name", LOCKS)
def test_locks_are_hashed_complete_and_within_the_constraints(name: str) -> None:
    text = (ROOT / "deploy" / f"requirements-{name}.lock").read_text()
    locked, allowed = pins(text), constraints()
    assert {canonical(requirement) for requirement in LOCKS[name]} <= set(locked)
    assert {n: v for n, v in locked.items() if allowed.get(n, v) != v} == {}
    assert not set(locked) & {canonical(framework) for framework in FRAMEWORKS | {"scikit-learn"}}
    assert "://" not in text + (ROOT / "constraints.txt").read_text()


@pytest.mark.parametrize("line", ["numpy==1.0", "numpy>=1.0 \\\n    --hash=sha256:" + "a" * 64, "--index-url x"])
def test_an_unhashed_line_is_named(line: str) -> None:
    with pytest.raises(ValueError, match="not pinned and hashed"):
        pins(f"# header\nflask==3 \\\n    --hash=sha256:{'b' * 64}\n{line}\n")


def test_every_dependency_has_a_constraint() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    named = [
        *PROJECT["project"]["dependencies"],
        *(n for extra in ("cpu", "train", "judges", "dev") for n in extras[extra]),
    ]
    assert {canonical(name) for name in named} <= set(constraints())


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_is_cheap(room: str) -> None:
    assert loaded_by(f"import {room}") & (FRAMEWORKS | ELSEWHERE.get(room, set())) == set()


def test_the_check_of_cheap_imports_notices_a_framework() -> None:
    assert "sklearn" in loaded_by("import sklearn")


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a statement loads in a fresh interpreter."""
    script = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True, timeout=120
    )
    return set(run.stdout.split())
