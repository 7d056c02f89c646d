"""Architectures of `transformers` with random weights and small configurations, as modules with tensors in and out.

Nothing is fetched: a configuration alone makes a model.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from torch import nn


class Tokens(nn.Module):
    """A model over token ids [N, T] and their mask [N, T]; `judged` starts at the embeddings [N, T, width]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    def table(self) -> torch.Tensor:
        """The embedding of every token."""
        return self.model.get_input_embeddings().weight

    def judged(self, embedded: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(inputs_embeds=embedded, attention_mask=attention_mask).logits


class EncoderDecoder(nn.Module):
    """T5: what is read and what was written so far, [N, T] each."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, decoder_input_ids: torch.Tensor
    ) -> torch.Tensor:
        return self.model(
            input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids, use_cache=False
        ).logits

    def table(self) -> torch.Tensor:
        """The embedding of every token, shared by both sides."""
        return self.model.get_input_embeddings().weight

    def judged(
        self, embedded: torch.Tensor, attention_mask: torch.Tensor, decoder_input_ids: torch.Tensor
    ) -> torch.Tensor:
        return self.model(
            inputs_embeds=embedded, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids, use_cache=False
        ).logits


class Pixels(nn.Module):
    """A model over pictures [N, 3, H, W]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=x).logits


def alive(make: Callable[[], nn.Module], attention: str | None = None) -> nn.Module:
    """In evaluation mode, with scales and statistics that are not those of the start (zeros and ones hide errors).

    `attention` is the implementation `transformers` should take ("eager" where an exporter fails at the fused one).
    """
    torch.manual_seed(0)
    module = make()
    if attention is not None:
        module.model.set_attn_implementation(attention)
    generator = torch.Generator().manual_seed(1)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if not value.is_floating_point() or value.ndim > 1:
            continue
        if "running_var" in name or (("norm" in name.lower() or "bn" in name) and "weight" in name):
            value.data.uniform_(0.7, 1.3, generator=generator)
        elif "bias" in name or "running_mean" in name or "lambda" in name or "layer_scale" in name:
            value.data.uniform_(-0.3, 0.3, generator=generator)
    return module.eval()


def bert(**changes: Any) -> nn.Module:
    options = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3}
    options |= {"intermediate_size": 40, "max_position_embeddings": 32, "num_labels": 4} | changes
    config = transformers.BertConfig(**options)
    return Tokens(transformers.BertForSequenceClassification(config))


def distilbert() -> nn.Module:
    config = transformers.DistilBertConfig(
        vocab_size=50, dim=24, n_layers=2, n_heads=3, hidden_dim=40, max_position_embeddings=32, num_labels=4
    )
    return Tokens(transformers.DistilBertForSequenceClassification(config))


def gpt2() -> nn.Module:
    config = transformers.GPT2Config(vocab_size=50, n_positions=32, n_embd=24, n_layer=2, n_head=3, use_cache=False)
    return Tokens(transformers.GPT2LMHeadModel(config))


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        use_cache=False,
    )
    return Tokens(transformers.LlamaForCausalLM(config))


def t5() -> nn.Module:
    config = transformers.T5Config(
        vocab_size=50, d_model=24, d_kv=8, d_ff=40, num_layers=2, num_heads=3, relative_attention_num_buckets=8
    )
    return EncoderDecoder(transformers.T5ForConditionalGeneration(config))


def vit() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        image_size=16,
        patch_size=4,
        num_labels=4,
    )
    return Pixels(transformers.ViTForImageClassification(config))


def swin() -> nn.Module:
    config = transformers.SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[2, 4], window_size=4, num_labels=4
    )
    return Pixels(transformers.SwinForImageClassification(config))


def convnext() -> nn.Module:
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1], num_labels=4)
    return Pixels(transformers.ConvNextForImageClassification(config))


def resnet(depth: int, width: int = 1) -> nn.Module:
    """ResNet-18 or -50, its widths divided by `width`."""
    basic = depth == 18
    sizes = [64, 128, 256, 512] if basic else [256, 512, 1024, 2048]
    config = transformers.ResNetConfig(
        embedding_size=64 // width,
        hidden_sizes=[size // width for size in sizes],
        depths=[2, 2, 2, 2] if basic else [3, 4, 6, 3],
        layer_type="basic" if basic else "bottleneck",
        num_labels=5,
    )
    return Pixels(transformers.ResNetForImageClassification(config))


def mobilenet_v2() -> nn.Module:
    config = transformers.MobileNetV2Config(depth_multiplier=0.35, num_labels=4, image_size=32)
    return Pixels(transformers.MobileNetV2ForImageClassification(config))


def efficientnet() -> nn.Module:
    config = transformers.EfficientNetConfig(
        image_size=32, width_coefficient=0.25, depth_coefficient=0.4, hidden_dim=320, num_labels=4, dropout_rate=0.0
    )
    return Pixels(transformers.EfficientNetForImageClassification(config))


def segformer() -> nn.Module:
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 16, 16, 24],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 3],
        decoder_hidden_size=16,
        num_labels=4,
    )
    return Pixels(transformers.SegformerForSemanticSegmentation(config))
