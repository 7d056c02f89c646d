"""Grey pictures as training sees them and as a client sends them."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np

from .data import Array


def png(pixels: Array) -> bytes:
    """uint8 [height, width] -> the bytes of a grey PNG."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels, dtype=np.uint8)).save(out, format="PNG")
    return out.getvalue()


def picture_instance(pixels: Array) -> Any:
    """uint8 [height, width] -> the JSON value by which a client sends the picture."""
    return {"b64": base64.b64encode(png(pixels)).decode("ascii")}


def as_input(pictures: Array) -> Array:
    """uint8 [N, height, width] -> float32 [N, 1, height, width], pixels still 0..255."""
    return pictures[:, np.newaxis].astype(np.float32)
