"""The console in a real browser: what a person sees, and what a hostile model cannot do to it.

The pages come from a small application with the console's own files and policy, and canned answers; the pictures are
real.
"""

import base64
import io
from types import SimpleNamespace

import numpy as np
import pytest
from flask import Flask, Response, abort, jsonify, request
from PIL import Image

import pictures
from server.routes import console

HOSTILE = '<img src=x onerror="document.title=1">'
DECISION = "01JD0000000000000000000000"
MODEL_DIGEST = "ab" * 32


def png(colour):
    buffer = io.BytesIO()
    Image.new("L", (8, 8), colour).save(buffer, "PNG")
    return buffer.getvalue()


def entry(name, kind, **more):
    """One model as ``/console/models`` describes it."""
    methods = [
        {"name": "exact_shap", "summary": "Exact Shapley values."},
        {"name": "saliency", "summary": "A gradient."},
    ]
    basis = {
        "name": name, "version": 3, "digest": "cd" * 32, "model_digest": MODEL_DIGEST, "description": f"about {name}",
        "kind": kind, "features": [], "inputs": [], "outputs": [], "metrics": {"test_accuracy": 0.9736},
        "explainers": methods, "default_method": "saliency", "example": None,
    }  # fmt: skip
    return basis | more


def feature(name, kind="number", **more):
    basis = {"name": name, "label": f"the {name}", "unit": None, "kind": kind, "group": None, "levels": []}
    return basis | {"minimum": None, "maximum": None} | more


CREDIT = entry(
    "credit",
    "tabular",
    features=[
        feature("age", unit="years"),
        feature("__proto__", label="a name with a meaning"),
        feature(
            "purpose",
            "category",
            levels=[{"value": "A40", "label": "car (new)"}, {"value": "A41", "label": "car (used)"}],
        ),
    ],
    outputs=[{"name": "p", "kind": "probabilities", "class_names": ["good", "bad"], "unit": None, "label": "risk"}],
    example={"age": 67, "__proto__": 1.5, "purpose": "A41"},
)
DIGITS = entry(
    "digits",
    "image",
    outputs=[{"name": "l", "kind": "logits", "class_names": list("0123456789"), "unit": None, "label": "digit"}],
    example={"b64": base64.b64encode(png(40)).decode()},
)
PLAIN = entry(
    "plain",
    "tensor",
    explainers=[],
    default_method=None,
    outputs=[{"name": "y", "kind": "value", "class_names": [], "unit": "mg", "label": "dose"}],
    example=[1, 2, 3],
)
EVIL = entry(
    HOSTILE,
    "tabular",
    description=HOSTILE,
    features=[feature(HOSTILE, label=HOSTILE, unit=HOSTILE, group=HOSTILE)],
    outputs=[
        {"name": HOSTILE, "kind": "probabilities", "class_names": [HOSTILE, "b"], "unit": HOSTILE, "label": HOSTILE}
    ],
    example={HOSTILE: 1},
)
MODELS = [CREDIT, DIGITS, PLAIN, EVIL]


def answer(model, outputs):
    """A V1 answer for one row of this model."""
    return {
        "predictions": [outputs],
        "labels": None,
        "model_name": model["name"],
        "model_version": "3",
        "model_digest": MODEL_DIGEST,
        "program_digest": "ef" * 32,
        "decisions": [f"{DECISION}.0"],
    }


def explanation(method, attributions):
    quality = {"completeness_gap": 1.25e-9, "evaluations": 8, "nan_count": 0}
    return {
        "method": method, "parameters": {"steps": 32}, "seed": 0, "target": {"index": 1, "name": "bad"},
        "explained_name": "logit", "units": "logit", "base_value": -0.5, "explained_value": 1.25,
        "attributions": attributions, "quality": quality,
    }  # fmt: skip


def heatmap(title):
    drawn = pictures.heatmap(np.eye(8), Image.new("L", (8, 8)), title=title, caption="", legend="", signed=True)
    return drawn.svg()


def fake_application(seen):
    """The console's files under its own policy, and answers that say what was asked."""
    application = Flask("console_test")
    application.register_blueprint(console.blueprint)
    application.view_functions["console.models"] = lambda: jsonify(seen.models)

    @application.post("/v1/models/<name>:<verb>")
    def ask(name, verb):
        body = request.get_json()
        seen.requests.append((name, verb, request.headers["Accept"], body))
        if seen.error:
            return jsonify(error=seen.error), 400
        model = next(model for model in seen.models if model["name"] == name)
        row = body["instances"][0]
        if request.headers["Accept"] == "image/svg+xml":
            return Response(heatmap(name), mimetype="image/svg+xml")
        outputs = {"image": [0.0] * 7 + [3.0, 0.0, 0.0], "tensor": 12.5}.get(model["kind"], [0.25, 0.75])
        said = answer(model, outputs) | ({} if seen.records else {"decisions": []})
        if verb == "explain":
            shown = [
                {"feature": key, "label": key, "shown": str(value), "unit": None, "attribution": 0.5}
                for key, value in row.items()
                if model["kind"] == "tabular"
            ]
            said["explanations"] = [explanation(body["method"], shown or {"x": [[0.0]]})]
        return jsonify(said)

    @application.get("/v1/decisions/<decision>/picture")
    def draw(decision):
        seen.drawn.append((decision, request.headers["Accept"]))
        if seen.undrawable:
            return jsonify(error=seen.undrawable), 406
        return Response(heatmap(seen.requests[-1][0]), mimetype="image/svg+xml")

    @application.get("/v1/decisions/<decision>")
    def read(decision):
        return jsonify(decision_id=decision) if decision == f"{DECISION}.0" else abort(404)

    return application


@pytest.fixture
def seen():
    return SimpleNamespace(models=MODELS, requests=[], error=None, drawn=[], undrawable=None, records=True)


@pytest.fixture
def page(serve, seen):
    return serve(fake_application(seen))


def test_the_models_are_listed_with_version_and_digest(page):
    page.open()
    assert [button.text.splitlines() for button in page.all("#models button")] == [
        [model["name"], "version 3", ("cd" * 32)[:16]] for model in MODELS
    ]
    assert page.text("#model-title") == "credit"
    assert page.facts("#model-facts")["Measured"] == ["test accuracy 0.974"]


def test_a_row_is_filled_with_the_example_sent_and_answered(page, seen):
    page.open()
    assert [field.text.splitlines()[0] for field in page.all("#inputs label")] == [
        "the age (years)", "a name with a meaning", "the purpose",
    ]  # fmt: skip
    assert [control.get_property("value") for control in page.all("#inputs input, #inputs select")] == [
        "67",
        "1.5",
        "A41",
    ]
    page.choose("#inputs select", "car (new)")
    page.press()
    sent = {"age": 67, "__proto__": 1.5, "purpose": "A40"}
    asked = {"instances": [sent], "method": "saliency"}
    assert seen.requests == [("credit", "explain", "application/json", asked)]
    assert seen.drawn == [(f"{DECISION}.0", "image/svg+xml")]
    assert page.text("#prediction .verdict") == "bad · probability 75.0 %"
    assert [row.text.split("\n") for row in page.all("#prediction tr")] == [["bad", "75.0 %"], ["good", "25.0 %"]]
    assert page.facts("#quality")["Completeness gap"][0] == "1.25e−9"
    record = page.facts("#record")
    assert record["Explained"] == ["logit of bad"]
    assert record["Base value"] == ["−0.5"]
    assert record["Explained value"] == ["1.25"]
    assert record["Method"] == ["saliency", "steps 32"]
    assert record["Model digest"] == [MODEL_DIGEST]
    bars = page.all("#prediction progress")
    assert [float(bar.get_attribute("value")) for bar in bars] == [0.75, 0.25]
    assert all(bar.size["width"] > 200 for bar in bars)
    assert page.complaints() == []


def test_the_picture_is_shown_and_told(page):
    page.open().press()
    image = page.one("#picture img")
    page.until(lambda: image.get_property("naturalWidth") > 0)
    assert image.get_property("naturalWidth") == 916
    assert image.get_attribute("src").startswith("blob:")
    assert image.get_attribute("alt").startswith("credit")
    assert page.complaints() == []


def test_a_server_without_records_is_asked_for_the_picture(page, seen):
    seen.records = False
    page.open().press()
    page.until(lambda: page.one("#picture img").get_property("naturalWidth") > 0)
    (_, _, kind, first), (_, _, other, second) = seen.requests
    assert (kind, other, first, seen.drawn) == ("application/json", "image/svg+xml", second, [])
    assert page.facts("#record")["Decision"][0].startswith("not recorded")
    assert "recorded as" not in page.text("#picture figcaption")


def test_a_record_that_cannot_be_drawn_leaves_the_numbers(page, seen):
    seen.undrawable = "picture: this explanation is neither of an image nor of named features"
    page.open().press()
    assert page.text("#picture figcaption") == f"No picture: {seen.undrawable}"
    assert page.text("#prediction .verdict") == "bad · probability 75.0 %"


def test_the_decision_can_be_followed(page):
    page.open().press()
    link = page.one("#record a")
    assert link.text == f"{DECISION}.0"
    link.click()
    page.until(lambda: DECISION in page.text("body"))


def test_method_and_target_are_the_persons_choice(page, seen):
    page.open()
    page.choose("#method", "exact shap")
    assert "Exact Shapley values." in page.text("#method-note")
    page.choose("#target", "good")
    page.press()
    assert seen.requests[0][3]["method"] == "exact_shap"
    assert seen.requests[0][3]["target"] == 0


def test_an_image_is_prefilled_and_can_be_replaced(page, seen, tmp_path):
    page.open("#digits")
    assert page.text("#model-title") == "digits"
    page.press()
    assert base64.b64decode(seen.requests[0][3]["instances"][0]["b64"]) == png(40)
    chance = np.exp(3) / (np.exp(3) + 9)
    assert page.text("#prediction .verdict") == f"7 · probability {100 * chance:.1f} %"
    file = tmp_path / "mine.png"
    file.write_bytes(png(200))
    page.one("#inputs input[type=file]").send_keys(str(file))
    page.press()
    assert base64.b64decode(seen.requests[-1][3]["instances"][0]["b64"]) == png(200)
    assert page.complaints() == []


def test_any_other_input_is_json(page, seen):
    page.open("#plain")
    assert page.text("#go") == "Predict"
    page.press()
    assert seen.requests == [("plain", "predict", "application/json", {"instances": [[1, 2, 3]]})]
    assert page.text("#prediction .verdict") == "12.5 mg dose"
    area = page.one("#inputs textarea")
    area.clear()
    area.send_keys("{no")
    page.press()
    assert page.text("#error").startswith("the instance is no JSON")
    assert len(seen.requests) == 1


def test_a_refusal_is_shown_in_the_servers_words_and_the_next_request_works(page, seen):
    page.open()
    seen.error = "instances[0].age: missing, expected a number & <b>not</b> nothing"
    page.one("#inputs input").clear()
    page.press()
    assert page.text("#error") == seen.error
    assert "age" not in seen.requests[0][3]["instances"][0]
    assert not page.one("#answer").is_displayed()
    seen.error = None
    page.press()
    assert not page.one("#error").is_displayed()
    assert page.one("#answer").is_displayed()


def test_a_hostile_model_is_only_words(page):
    page.open()
    page.pick(MODELS.index(EVIL))
    page.press()
    assert page.text("#model-title") == HOSTILE
    assert page.text("#inputs legend") == HOSTILE
    assert page.text("#prediction th") in (HOSTILE, "b")
    page.one("#numbers summary").click()
    assert page.text("#numbers tbody th") == HOSTILE
    assert page.browser.title == "Glasshouse"
    assert page.all("img[onerror]") == []
    assert page.complaints() == []


def test_the_check_for_complaints_sees_one(page):
    page.open()
    page.browser.execute_script(
        "const s = document.createElement('img'); s.src = 'http://192.0.2.1/x.png'; document.body.append(s)"
    )
    page.until(lambda: any("Content Security Policy" in line for line in page.complaints()))


def test_an_empty_store_says_so(page, seen):
    seen.models = []
    page.open()
    assert "holds no model yet" in page.text("#models-note")
    assert not page.one("#work").is_displayed()


def test_everything_can_be_reached_by_keyboard_and_has_a_label(page):
    page.open()
    controls = page.all("#form input, #form select, #form textarea")
    assert controls
    assert all(control.accessible_name for control in controls)
    page.one("#go").send_keys("\n")
    page.until(lambda: page.one("#answer").is_displayed())
    assert page.browser.switch_to.active_element.get_attribute("id") == "answer"
    assert [element.accessible_name for element in page.all("#prediction progress")] == ["bad: 75.0 %", "good: 25.0 %"]


def test_the_page_uses_nothing_from_elsewhere():
    for file in sorted(console.FOLDER.iterdir()):
        content = file.read_text("utf-8")
        elsewhere = content.replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in elsewhere, file.name
        assert "https:" not in elsewhere, file.name
        assert "innerHTML" not in content, file.name
        assert len(content.splitlines()) <= 300, file.name
