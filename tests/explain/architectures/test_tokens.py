"""Token models of `transformers`: attributions at the embedding, the mask held as it is, from one compiled graph."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.explain.architectures import zoo
from tests.explain.architectures.harness import NT, TOLERANCE, Exporter, token_batch, token_errors

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch and transformers speak of their own future
MAKERS = {"bert": zoo.bert, "distilbert": zoo.distilbert, "gpt2": zoo.gpt2, "llama": zoo.llama, "t5": zoo.t5}
EVERYDAY = [
    ("bert", None, 18, True),
    ("bert", "eager", 13, False),
    ("bert", None, 23, True),
    ("distilbert", None, 17, False),
    ("gpt2", None, 17, False),
    ("llama", None, 23, True),
    ("t5", "eager", 17, False),
]
SLOW = [
    ("bert", None, 17, False),
    ("distilbert", None, 18, True),
    ("gpt2", None, 18, True),
    ("gpt2", None, 23, True),
    ("llama", None, 18, True),
    ("t5", "eager", 18, True),
    ("t5", "eager", 23, True),
]


def cases() -> list[Any]:
    everyday = [pytest.param(name, how, Exporter(dynamo, opset)) for name, how, opset, dynamo in EVERYDAY]
    slow = [
        pytest.param(name, how, Exporter(dynamo, opset), marks=pytest.mark.slow) for name, how, opset, dynamo in SLOW
    ]
    return everyday + slow


def sizes(name: str) -> list[tuple[int, ...]]:
    """Items, tokens, and tokens written where there is a decoder."""
    plain = [(1, 8), (7, 8), (7, 11)]
    return [(n, t, t - 3) for n, t in plain] if name == "t5" else list(plain)


def example(name: str) -> dict[str, torch.Tensor]:
    batch = token_batch(2, 9, 6) if name == "t5" else token_batch(2, 9)
    return {key: torch.as_tensor(value) for key, value in batch.items()}


def exported(name: str, how: str | None, exporter: Exporter) -> tuple[nn.Module, Any]:
    module, inputs = zoo.alive(MAKERS[name], how), example(name)
    return module, exporter(module, inputs, [NT] * len(inputs))


@pytest.mark.parametrize(("name", "how", "exporter"), cases(), ids=str)
def test_attributions_of_tokens(name: str, how: str | None, exporter: Exporter) -> None:
    module, proto = exported(name, how, exporter)
    assert max(token_errors(module, proto, sizes(name))) <= TOLERANCE


def test_another_embedding_is_told_apart() -> None:
    module, proto = exported("bert", "eager", Exporter(False, 13))
    module.table().data[:, 0] += 0.05
    assert max(token_errors(module, proto, [(7, 8)])) > TOLERANCE
