"""A PNG or JPEG file as a model's input, and back.

The header is looked at before anything is decoded: only two formats exist here, and a picture of too many pixels is
refused by its header alone. Then: upright by its EXIF orientation, one of two colour modes, resized (bilinear,
without keeping the aspect ratio), and pixel * scale + offset in the model's layout. What a conversion would
silently lose is refused: transparency, frames after the first, and inks (CMYK), which have no colours without a
profile.
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import InvalidInput, StoreError, TooLarge, shown
from .layout import Array, Decoded
from .manifest import ImageSpec, InputSpec, Manifest

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 25_000_000
_FORMATS = ("PNG", "JPEG")
_DAMAGED = "a PNG or JPEG file that is damaged"
_GREY16 = ("I;16", "I;16B", "I;16L", "I;16N", "I")


def decode_image(manifest: Manifest, body: bytes, max_pixels: int = MAX_PIXELS) -> Decoded:
    """One picture as one row. The model must have a picture as its only input; raises InvalidInput, TooLarge."""
    if len(manifest.inputs) != 1 or manifest.inputs[0].kind != "image":
        names = ", ".join(f"{spec.name!r} ({spec.kind})" for spec in manifest.inputs)
        raise InvalidInput("body", "a picture", f"a request for the inputs {names}")
    spec = manifest.inputs[0]
    picture = open_picture(body, "body", max_pixels)
    return Decoded({spec.name: picture_array(spec, picture, "body")[np.newaxis]}, 1, [picture])


def from_base64(value: Any, field: str, max_pixels: int = MAX_PIXELS) -> Image:
    """The picture in `{"b64": "..."}`. Raises InvalidInput, TooLarge."""
    text = value.get("b64") if isinstance(value, dict) else None
    if not isinstance(text, str) or len(value) != 1:
        raise InvalidInput(field, shown(value), 'a picture as {"b64": "<base64 of a PNG or JPEG>"}')
    try:
        body = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidInput(f"{field}.b64", shown(text), "base64 of a PNG or JPEG") from None
    return open_picture(body, f"{field}.b64", max_pixels)


def open_picture(body: bytes, field: str, max_pixels: int = MAX_PIXELS) -> Image:
    """The upright picture in a PNG or JPEG file, in mode L or RGB, in its own size. Raises InvalidInput, TooLarge."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        opened = Image.open(io.BytesIO(body), formats=_FORMATS)
        _check_header(opened, field, max_pixels)
        opened.load()
        ImageOps.exif_transpose(opened, in_place=True)
        return _plain(opened, field)
    except StoreError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many(_size(body), field, max_pixels) from None
    except UnidentifiedImageError:
        raise InvalidInput(field, _looks_like(body), "a whole PNG or JPEG file") from None
    except Exception:
        # Pillow's readers raise nearly anything for hostile bytes; whatever they raise, the file is not one we read.
        raise InvalidInput(field, _DAMAGED, "a whole PNG or JPEG file") from None


def _check_header(picture: Image, field: str, max_pixels: int) -> None:
    if picture.width * picture.height > max_pixels:
        raise _too_many(picture.size, field, max_pixels)
    frames = getattr(picture, "n_frames", 1)
    if frames != 1 and picture.format == "PNG":
        raise InvalidInput(field, f"a moving picture of {frames} frames", "one still picture")
    if picture.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", *_GREY16):
        raise InvalidInput(field, f"a picture in colour mode {picture.mode}", "grey or RGB")


def _too_many(size: tuple[int, int], field: str, max_pixels: int) -> TooLarge:
    width, height = size
    came = f"a picture of {width} x {height} = {width * height} pixels"
    return TooLarge(field, came, f"{max_pixels} pixels for all pictures of a request")


def _size(body: bytes) -> tuple[int, int]:
    """Width and height by the header of a file that Pillow's opener found too large to tell."""
    from PIL import JpegImagePlugin, PngImagePlugin

    reader = PngImagePlugin.PngImageFile if body.startswith(b"\x89PNG") else JpegImagePlugin.JpegImageFile
    return reader(io.BytesIO(body)).size


def _plain(picture: Image, field: str) -> Image:
    """The picture in mode L or RGB; transparency that is used is refused, as the colour below it would be a guess."""
    from PIL import Image

    if picture.has_transparency_data:
        solid = picture.convert("RGBA")
        if solid.getchannel("A").getextrema() != (255, 255):
            raise InvalidInput(field, "a picture with transparent pixels", "a picture without transparency")
        picture = solid.convert("L") if picture.mode in ("L", "LA", "1") else solid.convert("RGB")
    if picture.mode in _GREY16:
        wide = np.asarray(picture).astype(np.int64)
        return Image.fromarray(((wide + 128) // 257).clip(0, 255).astype(np.uint8))
    if picture.mode == "1":
        return picture.convert("L")
    return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")


def picture_array(spec: InputSpec, picture: Image, field: str) -> Array:
    """One item for an image input, of the spec's item shape and dtype. Raises InvalidInput naming `field`."""
    from PIL import Image

    image = _image(spec, field)
    ready, size = picture, (image.width, image.height)
    if ready.mode != image.mode:
        ready = ready.convert(image.mode)
    if ready.size != size:
        ready = ready.resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(ready).reshape(image.height, image.width, image.channels)
    scale, offset = np.asarray(image.scale), np.asarray(image.offset)
    if image.layout == "NCHW":  # turned while it is one byte a value
        pixels = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        scale, offset = scale.reshape(-1, 1, 1), offset.reshape(-1, 1, 1)
    values: Array = pixels * scale
    values += offset
    return values.astype(spec.dtype)


def array_picture(spec: InputSpec, item: Array) -> Image:
    """The picture that an item of an image input makes: scale and offset undone, cut to 0..255.

    For drawing over, when the client sent an array and no picture.
    """
    from PIL import Image

    image = _image(spec, f"input {spec.name!r}")
    values = item.astype(np.float64)
    if image.layout == "NCHW":
        values = values.transpose(1, 2, 0)
    pixels = (values - np.asarray(image.offset)) / np.asarray(image.scale)
    flat = pixels.round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(flat[:, :, 0] if image.channels == 1 else flat)


def _image(spec: InputSpec, field: str) -> ImageSpec:
    if spec.image is None:
        raise InvalidInput(field, "a picture", f"what an input of kind {spec.kind!r} takes")
    return spec.image


def _looks_like(body: bytes) -> str:
    if not body:
        return "nothing"
    if body.startswith((b"\x89PNG", b"\xff\xd8")):
        return _DAMAGED
    return f"{len(body)} bytes starting with {shown(body[:8])}"
