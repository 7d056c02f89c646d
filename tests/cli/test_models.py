"""`glasshouse models` says what the store says."""

from __future__ import annotations

import json

import pytest

import model_store


def test_list_shows_every_offered_version(glasshouse, store):
    done = glasshouse("models", "list")
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["brightness", "1"], ["linear", "1"]]
    assert store.resolve("linear").model_digest[:12] in lines[2]


def test_list_as_json_is_complete(glasshouse, store):
    store.set_alias("linear", "default", 1)
    listed = json.loads(glasshouse("models", "list", "--json").output)
    linear = store.resolve("linear")
    assert listed[1] == {
        "name": "linear",
        "version": 1,
        "aliases": ["default"],
        "archived": False,
        "inputs": ["tabular"],
        "methods": ["exact_shap", "saliency", "integrated_gradients"],
        "created": linear.manifest.created,
        "digest": linear.model_digest,
        "manifest_digest": linear.digest,
    }


def test_an_empty_store_says_so(glasshouse, home):
    model_store.Store(home / "empty")
    assert glasshouse("models", "list", "--store", "empty").output == f"no models in {home / 'empty'}\n"


def test_show_tells_all_and_styles_nothing(glasshouse, store):
    done = glasshouse("models", "show", "linear")
    assert done.exit_code == 0
    for text in (
        "linear version 1: a plane",
        store.resolve("linear").model_digest,
        "[bold]weight[/bold]",
        "test_r2",
        "refused: the model has no layer of maps",
        "float32",
    ):
        assert text in done.output


def test_show_as_json_is_the_manifest(glasshouse, store):
    shown = json.loads(glasshouse("models", "show", "linear", "1", "--json").output)
    assert shown == json.loads(store.resolve("linear").manifest.to_bytes())


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["show", "nobody"], 3, "Error: model 'nobody' is not in the store"),
        (["show", "linear", "7"], 3, "Error: model 'linear' has no version 7"),
        (["show", "linear", "best"], 3, "Error: model 'linear' has no version or alias 'best'"),
        (["alias", "linear", "default"], 2, "give either VERSION or --remove"),
        (["alias", "linear", "default", "1", "--remove"], 2, "give either VERSION or --remove"),
        (["alias", "linear", "no/name", "1"], 2, "Error: "),
        (["alias", "linear", "gone", "--remove"], 3, "Error: "),
        (["list", "--store", "elsewhere"], 5, "Error: there is no store in"),
    ],
)
def test_what_cannot_be_is_refused(glasshouse, store, arguments, code, text):
    done = glasshouse("models", *arguments)
    assert done.exit_code == code
    assert text in done.output
    assert "Traceback" not in done.output


def test_alias_is_set_and_removed(glasshouse, store):
    assert glasshouse("models", "alias", "linear", "best", "1").output == "linear: best is version 1\n"
    assert store.aliases("linear") == {"best": 1}
    assert "best" in glasshouse("models", "list").output
    assert glasshouse("models", "alias", "linear", "best", "--remove").exit_code == 0
    assert store.aliases("linear") == {}


def test_archive_and_restore(glasshouse, store):
    assert glasshouse("models", "archive", "linear", "1").output == "linear: version 1 is archived\n"
    assert "linear" not in glasshouse("models", "list").output
    assert "archived" in glasshouse("models", "list", "--all").output
    assert glasshouse("models", "archive", "linear", "1", "--restore").exit_code == 0
    assert not store.resolve("linear", 1).archived


def test_gc_removes_only_what_nothing_names(glasshouse, store):
    orphan = store.put_blob(b"nobody names this")
    assert glasshouse("models", "gc").output == "removed 1 blobs and 0 leftover files, 17 bytes\n"
    with pytest.raises(model_store.UnknownBlob):
        store.get_blob(orphan)
    assert store.resolve("linear").file("model")


def test_verify_finds_a_flipped_bit(glasshouse, store):
    assert glasshouse("models", "verify").output == f"{store.root} is sound: 2 models\n"
    digest = store.resolve("linear").model_digest
    path = next(path for path in store.root.rglob("*") if path.is_file() and digest.endswith(path.name[-32:]))
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(content))
    done = glasshouse("models", "verify")
    assert done.exit_code == 1
    assert digest in done.output
    assert f"problems in {store.root}" in done.output
