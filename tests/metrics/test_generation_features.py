"""Features of images: what they see, that batches do not matter, and weights of Inception."""

import numpy as np
import pytest
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.metrics import generation, generation_features


def images(num=4, size=(20, 24), channels=3, seed=0):
    return np.random.default_rng(seed).random((num, *size, channels)).astype(np.float32)


def fake_inception(path, nodes=("Mul", "pool_3"), num_features=2048):
    """Returns a frozen graph with the names of the 2015 Inception graph.

    Its pool_3 holds means of thirds of its input; the batch is one image, as there.
    """
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [1, 299, 299, 3], name="image")
        scaled = tf.multiply(x, 1.0, name=nodes[0])
        means = tf.nn.avg_pool2d(scaled, 299, 299, "VALID")
        tf.tile(means, [1, 1, 1, 683], name="wide")
        tf.strided_slice(
            graph.get_tensor_by_name("wide:0"),
            [0, 0, 0, 0],
            [1, 1, 1, num_features],
            begin_mask=15,
            end_mask=7,
            name=nodes[1],
        )
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


@pytest.mark.parametrize(
    "name, channels, num_features",
    [("random_conv", 3, 192), ("random_conv", 1, 192), ("pixels", 3, 192), ("pixels", 1, 64)],
)
def test_surrogates_do_not_depend_on_batches_and_repeat(name, channels, num_features):
    features = generation_features.make_features(name, channels)
    assert features.num_features == num_features and "not FID" in features.description
    x = images(5, channels=channels)
    joined = features(x)
    assert joined.shape == (5, num_features) and joined.dtype == np.float32
    np.testing.assert_allclose(
        np.concatenate([features(x[:2]), features(x[2:])]), joined, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(generation_features.make_features(name, channels)(x), joined)
    assert features(x[:0]).shape == (0, num_features)


def test_pixels_are_means_of_areas():
    x = images(2, (16, 24))
    expected = x.reshape(2, 8, 2, 8, 3, 3).mean((2, 4)).reshape(2, -1)
    np.testing.assert_allclose(generation_features.pixel_features(3)(x), expected, rtol=1e-5)
    # Sizes that 8 does not divide: every pixel keeps its weight.
    odd = images(1, (35, 13), 1)
    np.testing.assert_allclose(
        generation_features.pixel_features(1)(odd).mean(), odd.mean(), rtol=1e-5
    )


def test_random_convolutions_are_those_of_numpy():
    x = images(2, (9, 8), 1)
    got = generation_features.random_conv_features(1)(x)
    rng = np.random.default_rng(0)
    kernel = (rng.standard_normal((5, 5, 1, 32)) * np.sqrt(2 / 25)).astype(np.float32)
    bias = (0.5 * rng.standard_normal(32)).astype(np.float32)
    padded = np.pad(
        2 * x - 1, ((0, 0), (2, 2), (1, 2), (0, 0))
    )  # SAME: 5 rows from 9, 4 columns from 8
    maps = np.array(
        [
            [
                np.einsum("nhwc,hwcd->nd", padded[:, 2 * i : 2 * i + 5, 2 * j : 2 * j + 5], kernel)
                for j in range(4)
            ]
            for i in range(5)
        ]
    )
    np.testing.assert_allclose(
        got[:, :32], np.maximum(maps + bias, 0).mean((0, 1)), rtol=1e-4, atol=1e-5
    )
    other = generation_features.random_conv_features(1, seed=1)(x)
    assert np.abs(got - other).max() > 0.01


@pytest.mark.parametrize("name", ["random_conv", "pixels"])
def test_surrogates_order_sets_by_how_far_they_are(name):
    """Black images with one bright square, against the same, two squares, and plain grey."""
    rng = np.random.default_rng(0)

    def squares(number, num=150):
        x = np.zeros((num, 32, 32, 3), np.float32)
        for i in range(num):
            for _ in range(number):
                row, column = rng.integers(0, 26, 2)
                x[i, row : row + 6, column : column + 6] = rng.random(3)
        return x

    features = generation_features.make_features(name, 3)
    truth = features(squares(1))
    for distance in (generation.frechet_distance, generation.kernel_distance):
        same, two, gray = (
            distance(truth, features(x))
            for x in (squares(1), squares(2), np.full((150, 32, 32, 3), 0.5))
        )
        assert same < 0.7 * two and two < gray, (name, distance)


def test_frozen_inception_graph(tmp_path):
    features = generation_features.make_features(
        "inception", 3, fake_inception(tmp_path / "classify_image_graph_def.pb")
    )
    assert features.name == "inception"
    assert features.description == "pool_3 of classify_image_graph_def.pb"
    x = np.broadcast_to(np.array([0.0, 0.5, 1.0], np.float32), (3, 8, 8, 3))
    got = features(x)  # batch of three, although the graph was made for one
    assert got.shape == (3, 2048)
    np.testing.assert_allclose(got[0, :3], [-1.0, -0.5 / 128, 127 / 128], atol=1e-5)
    gray = features(np.full((1, 8, 8, 1), 0.5, np.float32))
    np.testing.assert_allclose(gray[0, :3], -0.5 / 128, atol=1e-5)


def test_resize_is_that_of_the_graph_of_2015(tmp_path):
    """Corners at pixel corners: output row i reads input row i * 4 / 299, no half pixels."""
    features = generation_features.inception_features(fake_inception(tmp_path / "graph.pb"))
    x = images(1, (4, 4))
    expected = tf.compat.v1.image.resize_bilinear(
        x, [299, 299], align_corners=False, half_pixel_centers=False
    ).numpy()
    np.testing.assert_allclose(
        features(x)[0, :3], ((255 * expected - 128) / 128).mean((0, 1, 2)), rtol=1e-4
    )


def test_operations_of_2015(tmp_path):
    """The graph normalises by an operation that newer graphs may not have."""
    attributes = tf.compat.v1.AttrValue
    graph_def = tf.compat.v1.GraphDef()  # no version, as in 2015
    number = attributes(type=tf.float32.as_datatype_enum)

    def add(name, op, inputs, **attrs):
        node = graph_def.node.add(name=name, op=op, input=inputs)
        for key, value in attrs.items():
            node.attr[key].CopyFrom(value)

    for name, value in (
        ("image", np.zeros((1, 299, 299, 3))),
        ("one", 1.0),
        ("kernel", np.ones((1, 1, 3, 2048)) / 3),
        ("mean", np.full(2048, 0.5)),
        ("variance", np.full(2048, 0.25)),
        ("beta", np.full(2048, 1.0)),
        ("gamma", np.zeros(2048)),
    ):
        add(
            name,
            "Const",
            [],
            dtype=number,
            value=attributes(tensor=tf.make_tensor_proto(np.asarray(value, np.float32))),
        )
    strides = attributes(list=attributes.ListValue(i=[1, 8, 8, 1]))
    add("Mul", "Mul", ["image", "one"], T=number)
    add(
        "conv",
        "Conv2D",
        ["Mul", "kernel"],
        T=number,
        strides=strides,
        padding=attributes(s=b"VALID"),
    )
    add(
        "norm",
        "BatchNormWithGlobalNormalization",
        ["conv", "mean", "variance", "beta", "gamma"],
        T=number,
        variance_epsilon=attributes(f=0.0),
        scale_after_normalization=attributes(b=False),
    )
    add(
        "pool_3",
        "AvgPool",
        ["norm"],
        T=number,
        ksize=attributes(list=attributes.ListValue(i=[1, 38, 38, 1])),
        strides=strides,
        padding=attributes(s=b"VALID"),
    )
    (tmp_path / "old.pb").write_bytes(graph_def.SerializeToString())
    features = generation_features.inception_features(tmp_path / "old.pb")
    np.testing.assert_allclose(
        features(np.ones((2, 8, 8, 3), np.float32)), (127 / 128 - 0.5) / 0.5 + 1.0, rtol=1e-5
    )


def test_saved_model(tmp_path):
    class Network(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 299, 299, 3], name="images")])
        def __call__(self, images):
            return {
                "logits": tf.zeros([1]),
                "pool_3": tf.tile(tf.reduce_mean(images, [1, 2], keepdims=True), [1, 1, 1, 683])[
                    ..., :2048
                ],
            }

    network = Network()
    tf.saved_model.save(
        network, str(tmp_path / "inception"), signatures=network.__call__.get_concrete_function()
    )
    features = generation_features.inception_features(tmp_path / "inception")
    np.testing.assert_allclose(
        features(np.ones((2, 5, 5, 3), np.float32))[:, :4], 127 / 128, rtol=1e-6
    )


def test_errors(tmp_path):
    where = r"inception-2015-12-05.tgz .*--features=random_conv or pixels"
    with pytest.raises(
        UserError,
        match=(
            r"`inception_weights` must be the 2015 Inception graph: "
            rf".*{where}.*Received: None\.$"
        ),
    ):
        generation_features.make_features("inception", 3)
    with pytest.raises(UserError, match=rf"{where}.*nothing_here\.$"):
        generation_features.make_features("inception", 3, tmp_path / "nothing_here")
    (tmp_path / "text.pb").write_text("no graph")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "text.pb", tmp_path / "folder"):
        with pytest.raises(UserError, match=where) as caught:
            generation_features.inception_features(path)
        assert "\n" not in str(caught.value)
    narrow = fake_inception(tmp_path / "narrow.pb", num_features=1000)
    with pytest.raises(UserError, match=r"narrow.pb \(its features have shape \(1, 1, 1, 1000\)\)"):
        generation_features.inception_features(narrow)
    with pytest.raises(UserError, match="it has no node pool_3"):
        generation_features.inception_features(
            fake_inception(tmp_path / "other.pb", ("Mul", "pool"))
        )
    with pytest.raises(UserError, match="Unknown features 'pixel'. Did you mean 'pixels'"):
        generation_features.make_features("pixel", 3)
    with pytest.raises(
        UserError, match=r"`images` must have shape \[n, H, W, 1 or 3\]. Received: \(4, 8, 8\)"
    ):
        generation_features.pixel_features(3)(np.zeros((4, 8, 8)))
