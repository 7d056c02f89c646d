"""docs/ is what the code says: generated pages are fresh, nothing is left out, links lead somewhere."""

import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import audit
import explain
import model_store
import server

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
ROUTE = re.compile(r"^\| (GET|POST|PUT|PATCH|DELETE) \| `([^`]+)` \|", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def stale(pages: dict[str, str], folder: Path) -> list[str]:
    """The pages that `make docs` would change."""
    return [n for n, text in pages.items() if not (folder / n).exists() or (folder / n).read_text("utf-8") != text]


def missing(names: Iterable[str], text: str) -> list[str]:
    """The names that do not occur in a text as code."""
    return [name for name in names if f"`{name}`" not in text]


def test_pages_are_what_the_code_says(generate: ModuleType) -> None:
    assert stale(generate.pages(), DOCS) == [], "run make docs"


def test_a_stale_or_missing_page_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("old")
    assert stale({"a.md": "new", "b.md": ""}, tmp_path) == ["a.md", "b.md"]
    assert stale({"a.md": "old"}, tmp_path) == []


def test_what_is_missing_is_named() -> None:
    assert missing(["host", "port"], "the `host` and the port") == ["port"]


def test_every_setting_is_there() -> None:
    text = page("configuration.md")
    for parts in ([s.name, s.flag, s.variable] for s in server.SETTINGS):
        assert missing(parts, text) == []


def test_every_field_of_a_decision_is_there() -> None:
    text = page("decision-record.md")
    assert missing([*audit.entry_schema()["properties"], "inputs.<name>.digest", "model.model_digest"], text) == []


def test_every_method_and_parameter_is_there() -> None:
    sections = page("methods.md").split("\n## ")
    for name, method in explain.METHODS.items():
        (section,) = (text for text in sections if text.startswith(f"`{name}`"))
        assert missing(method.parameters["properties"], section) == []


def test_every_check_and_figure_is_there() -> None:
    sections = page("checks.md").split("\n## ")
    for name, check in explain.CHECKS.items():
        (section,) = (text for text in sections if text.startswith(f"`{name}`"))
        assert missing([*check.parameters["properties"], *check.figures], section) == []
        assert missing(check.figures, page("quality.md")) == []


def test_every_operator_is_there(generate: ModuleType) -> None:
    registry = importlib.import_module("explain.registry").REGISTRY
    rows = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", page("operators.md"), re.MULTILINE))
    covered = {name for name, by in rows.items() if by.startswith(("rule", "written out"))}
    written = importlib.import_module("explain.prepare.expansions").EXPANSIONS
    assert covered == {generate.operator_name(*key) for key in (*registry.rules, *written)}
    assert {name for name, by in rows.items() if by == "no gradient"} == {
        generate.operator_name(*key) for key in registry.stops
    }
    assert {"Gelu", "LSTM"} <= set(rows)


def commands(group: click.Group, path: str) -> dict[str, click.Command]:
    """Every command below a group, by what is typed."""
    context = click.Context(group, info_name=path)
    found: dict[str, click.Command] = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found[f"{path} {name}"] = command
        if isinstance(command, click.Group):
            found |= commands(command, f"{path} {name}")
    return found


def left_out(found: dict[str, click.Command], text: str) -> list[str]:
    """Commands without a section, and options that their command's section does not name."""
    sections = dict(re.findall(r"^#{2,3} `([^`]+)`\n(.*?)(?=^#{2,3} |\Z)", text, re.MULTILINE | re.DOTALL))
    lacking = [name for name in found if name not in sections]
    for name, command in found.items():
        flags = [flag for option in command.params if isinstance(option, click.Option) for flag in option.opts]
        section = sections.get(name, "")
        lacking += [f"{name} {flag}" for flag in flags if name in sections and f"`{flag}" not in section]
    return lacking


def test_every_command_and_option_is_there() -> None:
    front = importlib.import_module("cli.entry").front
    found = commands(front, "glasshouse")
    assert {"glasshouse serve", "glasshouse models verify"} <= set(found)
    assert left_out(found, page("commands.md")) == []


def test_a_command_or_option_left_out_is_named() -> None:
    one = click.Command("one", params=[click.Option(["--fast"])])
    found = {"g one": one, "g two": click.Command("two")}
    assert left_out(found, "## `g one`\n\nnothing\n") == ["g two", "g one --fast"]
    assert left_out(found, "## `g one`\n\n`--fast`\n## `g two`\n") == []


def spelled(pattern: str) -> set[str]:
    """A documented path with its optional part left out and put in; parameters lose their names."""
    both = {re.sub(r"\[[^\]]*\]", "", pattern), pattern.replace("[", "").replace("]", "")}
    return {re.sub(r"\{\w+\}", "{}", path) for path in both}


def documented(text: str) -> set[tuple[str, str]]:
    return {(method, path) for method, pattern in ROUTE.findall(text) for path in spelled(pattern)}


def served(tmp_path: Path) -> set[tuple[str, str]]:
    model_store.Store(tmp_path / "store", create=True)
    config = server.Config(store=tmp_path / "store", database=tmp_path / "decisions.sqlite", threads=1)
    service = server.open_service(config)
    app = server.create_app(config, service)
    service.close()
    return {
        (method, re.sub(r"<\w+>", "{}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_every_route_is_there_and_no_other(tmp_path: Path) -> None:
    assert documented(page("http-api.md")) == served(tmp_path)


def test_a_route_that_is_not_there_is_seen() -> None:
    text = "| GET | `/a[/{v}]:x` | what |\n| POST | `/b` | what |\n"
    assert documented(text) == {("GET", "/a:x"), ("GET", "/a/{}:x"), ("POST", "/b")}
    assert documented(text) != {("GET", "/a:x"), ("POST", "/b")}


def test_every_program_and_option_is_there() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*)\|$", page("compiler.md"), re.MULTILINE))
    for name, builder in explain.PROGRAMS.items():
        assert missing(list(inspect.signature(builder).parameters)[1:], rows[name]) == []


def test_every_error_of_the_compiler_is_there() -> None:
    kinds = [each for each in vars(explain).values() if isinstance(each, type)]
    raised = [kind.__name__ for kind in kinds if issubclass(kind, explain.ExplainError)]
    own = {"ExplainError", "RegistrationError"}
    assert missing([name for name in raised if name not in own], page("compiler.md")) == []


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken_links(path: Path) -> list[str]:
    """Links of a page that lead to no file, or to no heading of it."""
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    broken = []
    for link in LINK.findall(text):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        goal = (path.parent / name).resolve() if name else path
        if not goal.exists() or (anchor and anchor not in anchors(goal.read_text("utf-8"))):
            broken.append(link)
    return broken


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    assert broken_links(path) == []


def test_a_broken_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "b.md").write_text("# One: two (three)\n")
    text = "[x](b.md#one-two-three) [x](b.md#four) [x](c.md) [x](https://example.org/) [x](#here)\n# Here\n"
    (tmp_path / "a.md").write_text(text)
    assert broken_links(tmp_path / "a.md") == ["b.md#four", "c.md"]


def test_every_page_can_be_found() -> None:
    """From the README, over any number of links."""
    seen: set[Path] = set()
    waiting = [ROOT / "README.md"]
    while waiting:
        path = waiting.pop()
        seen.add(path)
        for link in LINK.findall(path.read_text("utf-8")):
            goal: Any = (path.parent / link.partition("#")[0]).resolve()
            if goal.suffix == ".md" and goal.exists() and goal not in seen:
                waiting.append(goal)
    assert [str(path.relative_to(ROOT)) for path in sorted(DOCS.glob("*.md")) if path not in seen] == []
