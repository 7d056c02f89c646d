"""Pictures: two formats, upright, resized, and nothing lost without a word."""

import struct
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model_store import ImageSpec, InputSpec, InvalidInput, Manifest, OutputSpec, TooLarge, array_picture, decode_image
from model_store.images import open_picture, picture_array


def manifest_of(image: ImageSpec, dtype: str = "float32") -> Manifest:
    return Manifest(
        name="p",
        inputs=[InputSpec("x", "image", dtype, [None, *image.item_shape], 0, image)],
        outputs=[OutputSpec("y", "tensor", "float32", [None], 0)],
    ).validated()


def test_pixels_arrive_scaled_in_the_models_layout(picture_file):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    scale, offset = [0.5, 1.0, 2.0], [0.0, -1.0, 3.0]
    body = picture_file(Image.fromarray(pixels))
    for layout in ("NCHW", "NHWC"):
        got = decode_image(manifest_of(ImageSpec(5, 4, "RGB", layout, scale, offset)), body).inputs["x"]
        assert got.shape == ((1, 3, 5, 4) if layout == "NCHW" else (1, 5, 4, 3))
        for row, column, channel in np.ndindex(5, 4, 3):
            place = (0, channel, row, column) if layout == "NCHW" else (0, row, column, channel)
            assert got[place] == pixels[row, column, channel] * scale[channel] + offset[channel]


def test_the_original_is_kept_beside_the_resized_picture(grey, picture_file):
    decoded = decode_image(grey, picture_file(Image.new("RGB", (30, 20), (255, 255, 255))))
    assert decoded.inputs["x"].shape == (1, 1, 4, 6)
    assert np.allclose(decoded.inputs["x"], 0.5)
    assert (decoded.images[0].size, decoded.images[0].mode) == ((30, 20), "RGB")


def test_halving_a_picture_weighs_neighbours_as_a_tent():
    row = np.array([[0, 0, 0, 0, 200, 200, 200, 200]] * 2, dtype=np.uint8)
    spec = manifest_of(ImageSpec(1, 4, "L")).inputs[0]
    got = picture_array(spec, Image.fromarray(row), "x")[0, 0]
    for column in range(4):
        weights = np.array([max(0.0, 1 - abs(place + 0.5 - 2 * (column + 0.5)) / 2) for place in range(8)])
        assert abs(got[column] - weights @ row[0] / weights.sum()) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright(picture_file, orientation):
    upright = np.zeros((16, 24), dtype=np.uint8)
    upright[:8, :8] = 255
    # How a camera would have stored it, by the definition of the tag.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: upright.T[::-1],
        7: upright.T[::-1, ::-1],
        8: upright.T[:, ::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind, options in (("PNG", {}), ("JPEG", {"quality": 100})):
        body = picture_file(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
        assert np.abs(np.asarray(open_picture(body, "body")).astype(int) - upright).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_modes_without_loss_become_grey_or_colour(picture_file, mode):
    if mode == "I;16":
        picture = Image.fromarray(np.full((2, 2), 200 * 257, dtype=np.uint16))
    else:
        picture = Image.new("L", (2, 2), 200 if mode != "1" else 255).convert(mode)
    opened = open_picture(picture_file(picture), "body")
    assert opened.mode == ("RGB" if mode in ("P", "RGB", "RGBA") else "L")
    assert np.asarray(opened).reshape(-1)[0] == (255 if mode == "1" else 200)


@pytest.mark.parametrize(
    ("picture", "kind", "options", "told"),
    [
        (Image.new("RGBA", (2, 2), (1, 2, 3, 0)), "PNG", {}, "transparent"),
        (Image.new("LA", (2, 2), (1, 254)), "PNG", {}, "transparent"),
        (Image.new("P", (2, 2)), "PNG", {"transparency": 0}, "transparent"),
        (Image.new("CMYK", (2, 2)), "JPEG", {}, "CMYK"),
        (
            Image.new("L", (2, 2)),
            "PNG",
            {"save_all": True, "append_images": [Image.new("L", (2, 2), 9)]},
            "moving picture",
        ),
        (Image.new("L", (2, 2)), "GIF", {}, "expected a whole PNG or JPEG"),
        (Image.new("L", (2, 2)), "TIFF", {}, "expected a whole PNG or JPEG"),
        (Image.new("L", (2, 2)), "BMP", {}, "expected a whole PNG or JPEG"),
        (Image.new("L", (2, 2)), "WEBP", {}, "expected a whole PNG or JPEG"),
    ],
)
def test_what_would_lose_something_or_is_another_format_is_refused(grey, picture_file, picture, kind, options, told):
    with pytest.raises(InvalidInput, match=told):
        decode_image(grey, picture_file(picture, kind, **options))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(width: int, height: int) -> bytes:
    """A PNG that promises a size in its header and has nothing of it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(50_000, 50_000), (2**31 - 1, 1), (10_000, 9_000), (5_001, 5_000)])
def test_a_bomb_is_refused_by_its_header(grey, size, monkeypatch):
    def never(*args):
        raise AssertionError("the picture was decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    with pytest.raises(TooLarge) as caught:
        decode_image(grey, bomb(*size))
    width, height = size
    assert caught.value.came == f"a picture of {width} x {height} = {width * height} pixels"
    assert caught.value.limit == "25000000 pixels for all pictures of a request"


def test_a_jpeg_bomb_is_told_by_its_size_too(grey, picture_file):
    body = bytearray(picture_file(Image.new("L", (8, 8)), "JPEG"))
    at = body.index(b"\xff\xc0") + 5  # the frame's header: marker, length, precision, height, width
    assert struct.unpack(">HH", body[at : at + 4]) == (8, 8)
    body[at : at + 4] = struct.pack(">HH", 50_000, 60_000)
    with pytest.raises(TooLarge, match="60000 x 50000 = 3000000000 pixels"):
        decode_image(grey, bytes(body))


def test_a_picture_at_the_limit_passes(grey, picture_file):
    assert decode_image(grey, picture_file(Image.new("L", (20, 5))), max_pixels=100).rows == 1
    with pytest.raises(TooLarge):
        decode_image(grey, picture_file(Image.new("L", (101, 1))), max_pixels=100)


@settings(deadline=None)
@given(st.data())
def test_damaged_files_are_one_clear_error(picture_file, data):
    kind = data.draw(st.sampled_from(["PNG", "JPEG"]))
    body = bytearray(picture_file(Image.linear_gradient("L").resize((16, 16)), kind))
    if data.draw(st.booleans()):
        body = body[: data.draw(st.integers(0, len(body)))]
    for _ in range(data.draw(st.integers(0, 4))):
        if body:
            body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        opened = open_picture(bytes(body), "body").mode
    except (InvalidInput, TooLarge) as error:
        opened = str(error)
    assert opened in ("L", "RGB") or opened.startswith("body: got ")


@pytest.mark.parametrize("body", [b"", b"hello", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"{}"])
def test_what_is_no_picture_says_so(grey, body):
    with pytest.raises(InvalidInput, match="PNG or JPEG"):
        decode_image(grey, body)


def test_a_model_without_a_picture_takes_none(mixed, picture_file):
    with pytest.raises(InvalidInput, match="'numbers' \\(tabular\\)"):
        decode_image(mixed, picture_file(Image.new("L", (2, 2))))


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_an_item_becomes_the_picture_it_came_from(layout):
    pixels = np.random.default_rng(1).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    spec = manifest_of(ImageSpec(5, 4, "RGB", layout, [1 / 255, 2.0, -1.0], [0.0, 5.0, 1.0])).inputs[0]
    item = picture_array(spec, Image.fromarray(pixels), "x")
    assert np.array_equal(np.asarray(array_picture(spec, item)), pixels)
    with pytest.raises(InvalidInput):
        array_picture(msgspec.structs.replace(spec, image=None), item)


def test_whole_number_inputs_take_the_pixels_themselves(picture_file):
    manifest = manifest_of(ImageSpec(2, 2, "L"), "uint8")
    body = picture_file(Image.fromarray(np.array([[0, 1], [254, 255]], dtype=np.uint8)))
    assert decode_image(manifest, body).inputs["x"].tolist() == [[[[0, 1], [254, 255]]]]
