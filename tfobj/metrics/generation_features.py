"""What distances between sets of images are computed on: functions from images to feature vectors.

| name | features | offline |
|---|---|---|
| inception | 2048, last average pool of the 2015 Inception graph, from a file of the user's: FID and KID | no |
| random_conv | 192, activations of three random convolutions, means over the image: texture, colour, edges, counts | yes |
| pixels | 64 C, the image reduced to 8 x 8: colour and layout | yes |

The last two are surrogates: they order models, but their distances are never FID or KID (see `generation.statistic_names`).
"""

import math
import pathlib

import numpy as np

from tfobj.errors import UserError, first_line, unknown_name
from tfobj.metrics import generation

FEATURES = ("random_conv", "pixels", generation.INCEPTION)

INCEPTION_SIZE, NUM_INCEPTION_FEATURES = 299, 2048
_INPUT, _OUTPUT = "Mul", "pool_3"
_WIDTHS, _KERNEL = (32, 64, 96), 5
_SEED = 0
_GRID = 8


class Features:
    """A named function of images.

    Attributes:
      name: of `FEATURES`, part of the names of statistics.
      num_features: d.
      description: one line for results, that tells all that decides the numbers.
    """

    def __init__(self, name, num_features, description, function):
        self.name, self.num_features, self.description = name, num_features, description
        self._function = function

    def __call__(self, images):
        """float32 images [n, H, W, C] in [0, 1], C 1 or 3, any n -> float32 [n, d]; does not depend on how images are batched."""
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
                f"The features {self.name!r} must have shape [n, {self.num_features}]. Received: {features.shape}."
            )
        return features


def make_features(name, channels, inception_weights=None):
    """Returns the `Features` called `name` for images of `channels` channels; `inception_weights` is the path for "inception".

    Raises:
      UserError: an unknown name, or no weights.
    """
    if name == "random_conv":
        return random_conv_features(channels)
    if name == "pixels":
        return pixel_features(channels)
    if name == generation.INCEPTION:
        return inception_features(inception_weights)
    raise unknown_name("features", name, FEATURES)


def pixel_features(channels, grid=_GRID):
    """Pixels of the image reduced to grid x grid by averaging areas, flattened: d = grid^2 C. NumPy alone."""

    def function(images):
        rows, columns = (_area_weights(size, grid) for size in images.shape[1:3])
        return np.einsum("ih,nhwc,jw->nijc", rows, images, columns, optimize=True).reshape(
            len(images), -1
        )

    return Features(
        "pixels",
        grid * grid * channels,
        f"{grid}x{grid} area-averaged pixels (a surrogate, not FID or KID)",
        function,
    )


def _area_weights(size, grid):
    """Returns [grid, size]: the share of every pixel in each of `grid` equal stretches of a line."""
    edges = np.linspace(0.0, size, grid + 1)
    pixel = np.arange(size)
    covered = np.minimum(edges[1:, None], pixel + 1.0) - np.maximum(edges[:-1, None], pixel)
    return (np.maximum(covered, 0.0) * grid / size).astype(np.float32)


def random_conv_features(channels, seed=_SEED):
    """Three random 5x5 convolutions of stride 2 with ReLU; the means of all activations over the image.

    Weights are N(0, 2 / fan-in), biases N(0, 1/4), a function of `seed` alone. d = 32 + 64 + 96 = 192. The maps see
    5, 13 and 29 pixels: the first describe colours and edges, the last parts of objects and, by their mean, how many there are.
    """
    import tensorflow as tf

    rng, layers, fan_in = np.random.default_rng(seed), [], channels
    for width in _WIDTHS:
        kernel = rng.standard_normal((_KERNEL, _KERNEL, fan_in, width)) * math.sqrt(
            2.0 / (_KERNEL * _KERNEL * fan_in)
        )
        layers.append(
            (kernel.astype(np.float32), (0.5 * rng.standard_normal(width)).astype(np.float32))
        )
        fan_in = width

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, channels])], autograph=False)
    def function(images):
        x, means = 2.0 * images - 1.0, []
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
    """Features of FID and KID: "pool_3" of the 2015 Inception graph, with weights that the user supplies.

    Accepted: the frozen graph `classify_image_graph_def.pb` (of inception-2015-12-05.tgz, the file that FID was defined
    with), or a SavedModel folder whose "serving_default" maps float images [n, 299, 299, 3] to [n, (1, 1,) 2048]. Images
    are enlarged to 299 x 299 as that graph does (bilinear, corners of 2015: no half-pixel centres, no antialiasing) and scaled
    to (255 x - 128) / 128. Weights of the Inception in Keras or torchvision are another network, whose distances are not
    comparable: don't convert them.

    Args:
      path: of the file or folder.

    Raises:
      UserError: nothing there, or something else; says where the file comes from.
    """
    hint = (
        "classify_image_graph_def.pb of inception-2015-12-05.tgz (download.tensorflow.org/models/image/imagenet), or a SavedModel of it; "
        "without it use the surrogates --features=random_conv or pixels, whose distances are not FID and KID"
    )
    if path is None or not pathlib.Path(path).exists():
        raise UserError(
            f"`inception_weights` must be the 2015 Inception graph: {hint}. Received: {path}."
        )
    path = pathlib.Path(path)
    try:
        network = _saved_model(path) if path.is_dir() else _frozen_graph(path)
        shape = np.shape(network(np.zeros([1, INCEPTION_SIZE, INCEPTION_SIZE, 3], np.float32)))
        if math.prod(shape) != NUM_INCEPTION_FEATURES:
            raise ValueError(f"its features have shape {shape}")
    except Exception as e:  # every kind of broken file has its own
        raise UserError(
            f"`inception_weights` must be the 2015 Inception graph: {hint}. Received: {path} ({first_line(e)})."
        ) from e

    import tensorflow as tf

    def function(images):
        images = tf.broadcast_to(images, [*images.shape[:3], 3])  # gray is shown in three channels
        enlarged = tf.raw_ops.ResizeBilinear(
            images=images, size=[INCEPTION_SIZE] * 2, align_corners=False, half_pixel_centers=False
        )
        return np.reshape(network((255.0 * enlarged.numpy() - 128.0) / 128.0), [len(images), -1])

    return Features(
        generation.INCEPTION, NUM_INCEPTION_FEATURES, f"pool_3 of {path.name}", function
    )


def _frozen_graph(path):
    """Returns the function images [n, 299, 299, 3] -> pool_3 of a frozen GraphDef."""
    import tensorflow as tf

    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString(path.read_bytes())
    missing = {_INPUT, _OUTPUT}.difference(node.name for node in graph_def.node)
    if missing:
        raise ValueError(f"it has no node {', '.join(sorted(missing))}")

    # A session and not a tf.function: operations of 2015 (BatchNormWithGlobalNormalization) run in graphs of their version alone.
    graph = tf.Graph()
    with graph.as_default():
        images = tf.compat.v1.placeholder(tf.float32, [None, INCEPTION_SIZE, INCEPTION_SIZE, 3])
        # In place of the graph's own decoder, whose batch is always one image.
        output = tf.graph_util.import_graph_def(
            graph_def, {f"{_INPUT}:0": images}, [f"{_OUTPUT}:0"], name="inception"
        )[0]
    session = tf.compat.v1.Session(graph=graph)
    return lambda scaled: session.run(output, {images: scaled})


def _saved_model(path):
    """Returns the same function of a SavedModel: its "serving_default", one input and one output or one called pool_3."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures["serving_default"]
    (name,) = signature.structured_input_signature[1]
    outputs = signature.structured_outputs
    key = _OUTPUT if _OUTPUT in outputs else next(iter(outputs))

    def network(images, keep=loaded):
        return signature(**{name: tf.constant(images)})[key].numpy()

    return network
