"""The console over the real server: what it shows is what the server computed and recorded."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from server import create_app, open_service


@pytest.fixture
def service(config):
    opened = open_service(config)
    yield opened
    opened.close()


@pytest.fixture
def page(serve, config, service):
    return serve(create_app(config, service))


def number(text):
    """A number as the page writes it."""
    return float(re.match(r"−?[0-9.e−]+", text).group().replace("−", "-"))


def test_a_row_from_example_to_record(page, models):
    page.open("#flowers").press()
    logits = models.tabular_logits(np.array([[1.5, -0.5, 1.0]]))[0]
    chances = np.exp(logits) / np.exp(logits).sum()
    names = ["rose", "lily", "iris"]
    expected = sorted(zip(names, chances, strict=True), key=lambda pair: -pair[1])
    shown = [row.text.split("\n") for row in page.all("#prediction tr")]
    assert [name for name, _ in shown] == [name for name, _ in expected]
    for (_, percent), (_, chance) in zip(shown, expected, strict=True):
        assert abs(float(percent.removesuffix(" %")) - 100 * chance) < 0.051
    record = page.facts("#record")
    assert record["Method"][0] == "exact_shap"
    page.one("#numbers summary").click()
    total = sum(number(cell.text) for cell in page.all("#numbers td.figure"))
    rise = number(record["Explained value"][0]) - number(record["Base value"][0])
    assert abs(total - rise) < 1e-3 * max(1.0, abs(rise))
    assert number(record["Explained value"][0]) == pytest.approx(logits.max(), rel=1e-4)
    page.until(lambda: page.one("#picture img").get_property("naturalWidth") > 0)
    assert page.complaints() == []
    digest, decision = record["Model digest"][0], record["Decision"][0]
    page.one("#record a").click()
    page.until(lambda: decision in page.text("body"))
    body = page.text("body")
    assert json.loads(body)["id"] == decision
    assert digest in body


def test_one_click_is_one_decision(page, service):
    page.open("#flowers").press()
    page.until(lambda: page.one("#picture img").get_property("naturalWidth") > 0)
    assert service.audit.count() == 1
    shown = page.facts("#record")["Decision"][0]
    assert page.text("#picture figcaption a:nth-of-type(2)") == shown
    assert page.one("#picture img").get_attribute("alt").startswith("flowers")


def test_an_uploaded_image_is_explained(page, models, tmp_path):
    file = tmp_path / "patch.png"
    Image.fromarray(models.PIXELS).save(file)
    page.open("#patch").press()
    assert page.text("#error") == "choose an image first"
    page.one("#inputs input[type=file]").send_keys(str(file))
    page.press()
    page.until(lambda: page.one("#picture img").get_property("naturalWidth") > 0)
    assert page.one("#picture img").get_attribute("alt").startswith("patch")
    assert page.complaints() == []


def test_the_servers_own_sentence_is_shown(page):
    page.open("#flowers")
    page.one("#inputs input").clear()
    page.press()
    assert "petal" in page.text("#error")


def test_a_regression_shows_its_value_with_its_unit(page):
    page.open("#price")
    for field, text in zip(page.all("#inputs input"), ("3", "2", "8"), strict=True):
        field.send_keys(text)
    page.press()
    assert page.text("#prediction .verdict") == "8 EUR Price"
