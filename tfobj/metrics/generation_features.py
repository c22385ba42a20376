"""Functions from images to feature vectors, the input of the distances in `generation`.

| name | number and kind of features | offline |
|---|---|---|
| inception | 2048: last average pool of the 2015 Inception graph, in a file of the user | no |
| random_conv | 192: mean activations of three random convolutions (texture, edges, counts) | yes |
| pixels | 64 C: the image reduced to 8 x 8 (colour and layout) | yes |

Distances on Inception features are FID and KID. The other two are surrogates: they rank models, but
their distances are never FID or KID (see `generation.statistic_names`).
"""

import math
import pathlib

import numpy as np

from tfobj.errors import UserError, first_line, unknown_name
from tfobj.metrics import generation

FEATURES = ("random_conv", "pixels", generation.INCEPTION)

INCEPTION_SIZE = 299
NUM_INCEPTION_FEATURES = 2048

_INPUT = "Mul"
_OUTPUT = "pool_3"
_WIDTHS = (32, 64, 96)
_KERNEL = 5
_SEED = 0
_GRID = 8


class Features:
    """A named function of images.

    Attributes:
      name: one of `FEATURES`; part of the names of statistics.
      num_features: d.
      description: one line that is stored with results and says what determines the numbers.
    """

    def __init__(self, name, num_features, description, function):
        self.name = name
        self.num_features = num_features
        self.description = description
        self._function = function

    def __call__(self, images):
        """Computes features, which do not depend on how images are batched.

        Args:
          images: float32 [n, H, W, C] in [0, 1], C = 1 or 3; n may be 0.

        Returns:
          features: float32 [n, d].
        """
        images = np.asarray(images, np.float32)
        if images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise UserError(
                f"`images` must have shape [n, H, W, 1 or 3]. Received: {images.shape}."
            )
        if not len(images):
            return np.zeros((0, self.num_features), np.float32)

        features = np.asarray(self._function(images), np.float32)
        if features.shape != (len(images), self.num_features):
            raise UserError(
                f"The features {self.name!r} must have shape [n, {self.num_features}]. "
                f"Received: {features.shape}."
            )
        return features


def make_features(name, channels, inception_weights=None):
    """Returns the `Features` called `name`.

    Args:
      name: one of `FEATURES`.
      channels: channels of the images.
      inception_weights: path of the weights; needed by "inception" only.

    Raises:
      UserError: if the name is unknown, or weights are missing.
    """
    if name == "random_conv":
        return random_conv_features(channels)
    if name == "pixels":
        return pixel_features(channels)
    if name == generation.INCEPTION:
        return inception_features(inception_weights)
    raise unknown_name("features", name, FEATURES)


def pixel_features(channels, grid=_GRID):
    """Returns the pixels of images reduced to grid x grid by area averaging: d = grid^2 C."""

    def function(images):
        rows, columns = (_area_weights(size, grid) for size in images.shape[1:3])
        reduced = np.einsum("ih,nhwc,jw->nijc", rows, images, columns, optimize=True)
        return reduced.reshape(len(images), -1)

    return Features(
        "pixels",
        grid * grid * channels,
        f"{grid}x{grid} area-averaged pixels (a surrogate, not FID or KID)",
        function,
    )


def _area_weights(size, grid):
    """Returns the weight of every pixel in each of `grid` equal parts of a line: [grid, size]."""
    edges = np.linspace(0.0, size, grid + 1)
    pixel = np.arange(size)
    covered = np.minimum(edges[1:, None], pixel + 1.0) - np.maximum(edges[:-1, None], pixel)
    return (np.maximum(covered, 0.0) * grid / size).astype(np.float32)


def random_conv_features(channels, seed=_SEED):
    """Returns mean activations of three random 5x5 convolutions with stride 2 and ReLU: d = 192.

    Weights are N(0, 2 / fan-in) and biases N(0, 1/4); they depend on `seed` only. The receptive
    fields are 5, 13 and 29 pixels wide: the first maps (32 features) describe colours and edges,
    the last (96) parts of objects and, through their mean, how many objects there are.
    """
    import tensorflow as tf

    rng = np.random.default_rng(seed)
    layers = []
    fan_in = channels
    for width in _WIDTHS:
        # He initialisation keeps the scale of activations through ReLU layers.
        scale = math.sqrt(2.0 / (_KERNEL * _KERNEL * fan_in))
        kernel = rng.standard_normal((_KERNEL, _KERNEL, fan_in, width)) * scale
        bias = 0.5 * rng.standard_normal(width)
        layers.append((kernel.astype(np.float32), bias.astype(np.float32)))
        fan_in = width

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, channels])], autograph=False)
    def function(images):
        x = 2.0 * images - 1.0
        means = []
        for kernel, bias in layers:
            x = tf.nn.relu(tf.nn.conv2d(x, kernel, 2, "SAME") + bias)
            means.append(tf.reduce_mean(x, [1, 2]))
        return tf.concat(means, -1)

    return Features(
        "random_conv",
        sum(_WIDTHS),
        f"random convolutions, seed {seed} (a surrogate, not FID or KID)",
        lambda images: function(images).numpy(),
    )


def inception_features(path):
    """Returns the features of FID and KID, "pool_3" of the 2015 Inception graph.

    The user supplies the weights: either the frozen graph `classify_image_graph_def.pb` (from
    inception-2015-12-05.tgz, the file FID was defined with), or a SavedModel folder whose
    "serving_default" maps float images [n, 299, 299, 3] to [n, (1, 1,) 2048]. Images are enlarged
    to 299 x 299 as that graph does (bilinear as in 2015: no half-pixel centres, no antialiasing)
    and scaled to (255 x - 128) / 128. The Inception weights of Keras and torchvision belong to
    different networks, whose distances are not comparable: do not convert them.

    Args:
      path: path of the file or folder.

    Raises:
      UserError: if the path is missing or holds something else; says where the file comes from.
    """
    hint = (
        "classify_image_graph_def.pb from inception-2015-12-05.tgz "
        "(download.tensorflow.org/models/image/imagenet), or a SavedModel of it; without it, use "
        "the surrogates --features=random_conv or pixels, whose distances are not FID and KID"
    )
    if path is None or not pathlib.Path(path).exists():
        raise UserError(
            f"`inception_weights` must be the 2015 Inception graph: {hint}. Received: {path}."
        )

    path = pathlib.Path(path)
    try:
        load = _saved_model if path.is_dir() else _frozen_graph
        network = load(path)
        shape = np.shape(network(np.zeros([1, INCEPTION_SIZE, INCEPTION_SIZE, 3], np.float32)))
        if math.prod(shape) != NUM_INCEPTION_FEATURES:
            raise ValueError(f"its features have shape {shape}")
    except Exception as e:
        # Caught broadly: every kind of broken file raises an exception of its own.
        raise UserError(
            f"`inception_weights` must be the 2015 Inception graph: {hint}. "
            f"Received: {path} ({first_line(e)})."
        ) from e

    import tensorflow as tf

    def function(images):
        # Grey images are repeated in three channels.
        images = tf.broadcast_to(images, [*images.shape[:3], 3])
        enlarged = tf.raw_ops.ResizeBilinear(
            images=images, size=[INCEPTION_SIZE] * 2, align_corners=False, half_pixel_centers=False
        )
        return np.reshape(network((255.0 * enlarged.numpy() - 128.0) / 128.0), [len(images), -1])

    return Features(
        generation.INCEPTION, NUM_INCEPTION_FEATURES, f"pool_3 of {path.name}", function
    )


def _frozen_graph(path):
    """Returns the function from images [n, 299, 299, 3] to pool_3 of a frozen GraphDef."""
    import tensorflow as tf

    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString(path.read_bytes())
    missing = {_INPUT, _OUTPUT}.difference(node.name for node in graph_def.node)
    if missing:
        raise ValueError(f"it has no node {', '.join(sorted(missing))}")

    # A session instead of a tf.function: operations of 2015 (BatchNormWithGlobalNormalization) run
    # only in graphs of their own version.
    graph = tf.Graph()
    with graph.as_default():
        images = tf.compat.v1.placeholder(tf.float32, [None, INCEPTION_SIZE, INCEPTION_SIZE, 3])
        # This placeholder replaces the graph's own decoder, whose batch is always one image.
        output = tf.graph_util.import_graph_def(
            graph_def, {f"{_INPUT}:0": images}, [f"{_OUTPUT}:0"], name="inception"
        )[0]
    session = tf.compat.v1.Session(graph=graph)
    return lambda scaled: session.run(output, {images: scaled})


def _saved_model(path):
    """Returns the same function for a SavedModel.

    Its "serving_default" must have one input, and either one output or one called pool_3.
    """
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures["serving_default"]
    (name,) = signature.structured_input_signature[1]
    outputs = signature.structured_outputs
    key = _OUTPUT if _OUTPUT in outputs else next(iter(outputs))

    # `keep` holds the model: its variables would be freed with the last reference to it.
    def network(images, keep=loaded):
        return signature(**{name: tf.constant(images)})[key].numpy()

    return network
