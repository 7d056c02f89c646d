"""The generated pages of docs/ are what the code says today, and every field, method and setting stands in them."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import audit
import explain
import server

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stale(pages: dict[str, str], folder: Path) -> list[str]:
    """The pages that `make docs` would change."""
    return [n for n, text in pages.items() if not (folder / n).exists() or (folder / n).read_text("utf-8") != text]


def test_pages_are_what_the_code_says(generate: ModuleType) -> None:
    assert stale(generate.pages(), DOCS) == [], "run make docs"


def test_a_stale_or_missing_page_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("old")
    assert stale({"a.md": "new", "b.md": ""}, tmp_path) == ["a.md", "b.md"]
    assert stale({"a.md": "old"}, tmp_path) == []


def test_nothing_is_left_out(generate: ModuleType) -> None:
    pages = generate.pages()
    assert [name for name in explain.METHODS if f"## `{name}`" not in pages["methods.md"]] == []
    assert [setting.name for setting in server.SETTINGS if setting.name not in pages["configuration.md"]] == []
    schema = audit.entry_schema()
    assert [name for name in schema["properties"] if f"| `{name}` |" not in pages["decision-record.md"]] == []
    assert "`inputs.<name>.digest`" in pages["decision-record.md"]
    assert "`model.model_digest`" in pages["decision-record.md"]
