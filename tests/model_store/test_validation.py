"""Fields that must agree with each other."""

import msgspec
import pytest

from model_store import Batching, Feature, ImageSpec, InputSpec, InvalidManifest, Level, OutputSpec


def changed(struct, **values):
    return msgspec.structs.replace(struct, **values)


def refused(manifest, path, told=""):
    with pytest.raises(InvalidManifest) as caught:
        manifest.validated()
    assert (caught.value.path, told in str(caught.value)) == (path, True), str(caught.value)


def with_feature(manifest, position, **values):
    features = list(manifest.features)
    features[position] = changed(features[position], **values)
    return changed(manifest, features=features)


def test_the_manifests_of_the_fixtures_are_sensible(mixed, grey, tensor):
    for manifest in (mixed, grey, tensor()):
        assert manifest.validated() == manifest


def test_the_checker_of_these_tests_notices_a_manifest_that_passes(mixed):
    with pytest.raises(pytest.fail.Exception):
        refused(mixed, "features")


def test_features_feed_each_place_of_their_inputs_once(mixed):
    refused(with_feature(mixed, 0, index=2), "features[0].index", "0 to 1")
    refused(with_feature(mixed, 0, index=-1), "features[0].index", "-1")
    refused(with_feature(mixed, 2, index=1), "features[2].index", "features[0]")
    refused(with_feature(mixed, 0, input="z"), "features[0].input", "'z'")
    refused(with_feature(mixed, 2, name="age"), "features[2].name", "features[0]")
    refused(changed(mixed, features=mixed.features[:2]), "features", "position 0")
    free = [changed(mixed.inputs[0], shape=[None, None]), mixed.inputs[1]]
    refused(changed(mixed, inputs=free), "features[0].input", "free axis")


def test_a_feature_and_an_input_without_features_have_different_names(mixed):
    more = InputSpec("age", "tensor", "float32", [None, 3], 0)
    refused(changed(mixed, inputs=[*mixed.inputs, more]), "features", "'age'")


def test_categories_have_levels_and_numbers_none(mixed):
    refused(with_feature(mixed, 1, levels=[]), "features[1].levels", "at least one")
    refused(with_feature(mixed, 1, levels=[Level("a"), Level("a")]), "features[1].levels[1].value", "'a'")
    refused(with_feature(mixed, 0, levels=[Level("a")]), "features[0].levels", "number")
    small = [mixed.inputs[0], changed(mixed.inputs[1], dtype="int8")]
    many = [Level(str(code)) for code in range(129)]
    refused(changed(with_feature(mixed, 1, levels=many), inputs=small), "features[1].levels", "128")
    refused(with_feature(mixed, 0, minimum=2.0, maximum=1.0), "features[0].minimum", "maximum")
    refused(with_feature(mixed, 0, maximum=float("inf")), "features[0].maximum", "finite")


def test_a_picture_fits_its_input(grey):
    def image(**values):
        spec = grey.inputs[0]
        return changed(grey, inputs=[changed(spec, image=changed(spec.image, **values))])

    refused(image(height=5), "inputs[0].shape", "[1, 5, 6]")
    refused(image(mode="RGB"), "inputs[0].shape", "[3, 4, 6]")
    refused(image(layout="NHWC"), "inputs[0].shape", "[4, 6, 1]")
    refused(image(width=0), "inputs[0].image.width", "at least 1")
    refused(image(scale=[1.0, 2.0]), "inputs[0].image.scale", "1 channels")
    refused(image(scale=0.0), "inputs[0].image.scale", "erase")
    refused(changed(grey, inputs=[changed(grey.inputs[0], image=None)]), "inputs[0].image", "missing")
    refused(changed(grey, inputs=[changed(grey.inputs[0], kind="tensor")]), "inputs[0].image", "null")
    refused(changed(grey, inputs=[changed(grey.inputs[0], dtype="uint8")]), "inputs[0].image.scale", "uint8")
    fixed = InputSpec("x", "image", "float32", [1, 1, 4, 6], None, ImageSpec(4, 6, "L"))
    refused(changed(grey, inputs=[fixed], batching=Batching("row")), "inputs[0].batch_axis", "batch axis 0")
    assert image(scale=[0.5], offset=[0.1]).validated()


@pytest.mark.parametrize(
    ("shape", "axis", "path"),
    [
        ([None, 0], 0, "inputs[0].shape[1]"),
        ([None, ""], 0, "inputs[0].shape[1]"),
        ([None, 2], 2, "inputs[0].batch_axis"),
        ([None, 2], -1, "inputs[0].batch_axis"),
        ([8, 2], 0, "inputs[0].batch_axis"),
        ([1, 2], 0, "inputs[0].batch_axis"),
        ([3, 2], None, "inputs[0].batch_axis"),
    ],
)
def test_batched_models_have_a_free_batch_axis(tensor, shape, axis, path):
    refused(tensor(shape=shape, batch_axis=axis), path)


def test_models_served_by_row_may_have_none(tensor):
    assert tensor(shape=[1, 2], batching=Batching("row", "fixed")).validated()
    assert tensor(shape=[3, 2], batch_axis=None, batching=Batching("row", "none")).validated()
    refused(tensor(shape=[8, 2], batching=Batching("row")), "inputs[0].batch_axis", "8")


@pytest.mark.parametrize(
    ("shape", "names", "fits"),
    [
        ([None, 3], 3, True),
        ([None, 3], 2, False),
        ([None, 1], 2, True),
        ([None], 2, True),
        ([None], 3, False),
        ([None, "c"], 7, True),
        ([None, 5, 8, 8], 5, True),
        ([None, 5, 8, 8], 4, False),
    ],
)
def test_class_names_fit_the_output(tensor, shape, names, fits):
    output = OutputSpec("y", "logits", "float32", shape, 0, class_names=[f"c{k}" for k in range(names)])
    manifest = changed(tensor(), outputs=[output])
    if fits:
        assert manifest.validated()
    else:
        refused(manifest, "outputs[0].class_names")


def test_outputs_and_dtypes_are_checked(tensor):
    base = tensor()
    output = base.outputs[0]
    refused(changed(base, outputs=[output, output]), "outputs[1].name", "'y'")
    refused(changed(base, outputs=[changed(output, class_names=["a"])]), "outputs[0].class_names", "'tensor'")
    refused(changed(base, outputs=[changed(output, threshold=float("inf"))]), "outputs[0].threshold", "finite")
    refused(changed(base, outputs=[changed(output, dtype="complex64")]), "outputs[0].dtype", "complex64")
    refused(changed(base, outputs=[changed(output, name="")]), "outputs[0].name", "empty")
    refused(tensor(dtype="object"), "inputs[0].dtype", "float32")


def test_a_feature_cannot_stand_on_a_picture(grey):
    refused(changed(grey, features=[Feature(name="f", input="x", index=0)]), "features[0].input", "image")
