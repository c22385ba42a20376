"""Compares what a model samples with held-out images: whole scenes, or single objects.

`launch/score_samples.py` uses it. Images of both sides pass through 8 bits, the grid that the data
is on, and are processed in batches: only features are kept. Sample i has the noise of scene i,
whatever the batch size. Samples that are NaN or infinite have failed: they are counted, shown
black, and make all distances infinite.
"""

import importlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import auto as tqdm

from tfobj import random
from tfobj.data import protocols
from tfobj.datasets.generators import clevr_scenes, polygons, sprites, tetris
from tfobj.errors import UserError
from tfobj.metrics import generation

SAMPLING_SEED = 3_000_017
"""Noise of samples: the same for every run."""
VISIBLE_ALPHA = 0.5
"""A slot whose share reaches this nowhere shows no object (Anciukevicius 2020)."""
_MAX_DRAWS = 50
"""Scenes drawn for one visible object, at most."""


class Pictures(NamedTuple):
    """Images that are read, or made, a few at a time."""

    count: int
    """How many there are."""
    get: Any
    """Function (start, stop) -> uint8 [stop - start, H, W, C]."""
    description: str
    """One line that says what they are."""


class Comparison(NamedTuple):
    """What `compare_with_samples` found."""

    summary: dict
    """Name of statistic -> number, see `metrics.generation.compare`.

    `<name>_floor` is that of two sets of held-out images, `failed_samples` the number of samples
    that are not finite.
    """
    num_samples: int
    """N, of both sets."""
    samples: np.ndarray
    """uint8 [num_shown, H, W, C], the first ones."""
    images: np.ndarray
    """uint8 [num_shown, H, W, C], the first held-out ones."""


def compare_with_samples(
    samples,
    pictures,
    features,
    num,
    *,
    batch_size=32,
    num_shown=0,
    extrapolate=False,
    progress=False,
):
    """Measures distances between samples and held-out images, equally many of both.

    The same distances between the held-out images and as many others of them tell what a perfect
    model would score with this number of samples (`_floor`); they are left out where there are
    fewer than 2 N.

    Args:
      samples: iterator of uint8 [n, H, W, C], see `sampled_scenes` and `sampled_objects`; float32
        in [0, 1] where some are not finite.
      pictures: `Pictures`.
      features: `metrics.generation_features.Features`.
      num: N; if there are fewer held-out images, their number.
      batch_size: held-out images per call.
      num_shown: samples and images to return.
      extrapolate: also extrapolate the Frechet distance to infinitely many samples.
      progress: show progress bars.

    Returns:
      `Comparison`.
    """
    num = min(num, pictures.count)
    if num < 2:
        raise UserError(
            f"`num_samples` and the held-out images must be at least 2. Received: {num}."
        )

    def held_out(start, stop):
        return (pictures.get(i, min(i + batch_size, stop)) for i in range(start, stop, batch_size))

    def features_of(batches, num_shown, description):
        if not progress:
            description = None
        return _features_of(batches, features, num, num_shown, description)

    drawn, shown_samples = features_of(samples, num_shown, "Sampling")
    truth, shown_images = features_of(held_out(0, num), num_shown, "Held-out images")
    summary = generation.compare(drawn, truth, features.name, extrapolate=extrapolate)
    if pictures.count >= 2 * num:
        others, _ = features_of(held_out(num, 2 * num), 0, "More held-out images")
        floors = generation.compare(others, truth, features.name)
        for name in generation.statistic_names(features.name):
            summary[f"{name}_floor"] = floors[name]
    return Comparison(summary, num, shown_samples, shown_images)


def _features_of(batches, features, num, num_shown, description):
    """Returns (features float32 [num, d] of the first images, the first `num_shown` images)."""
    found = np.zeros((num, features.num_features), np.float32)
    shown = []
    filled = 0

    with tqdm.tqdm(
        total=num, desc=description, unit=" images", disable=description is None, leave=False
    ) as bar:
        while filled < num:
            images = next(batches)[: num - filled]
            finite = np.isfinite(images).all(axis=(1, 2, 3))
            images = _shown(images, finite)
            if filled < num_shown:
                shown.append(images[: num_shown - filled])
            stop = filled + len(images)
            found[filled:stop] = features(images.astype(np.float32) / np.float32(255.0))
            found[filled:stop][~finite] = np.nan
            filled = stop
            bar.update(len(images))
    if not shown:
        return found, None
    return found, np.concatenate(shown)


def _shown(images, finite):
    """Returns images as uint8, black where they are not finite."""
    if images.dtype == np.uint8:
        return images
    return to_bytes(np.where(finite[:, None, None, None], images, 0.0))


def check_prior(model, name):
    """Raises a `UserError` for a model that cannot be sampled from."""
    if not model.has_prior:
        raise UserError(
            "`--workdir` must be of a model with a prior, from which scenes can be drawn. "
            f"Received: {name}, which has none."
        )


def sampled_scenes(model, batch_size, seed=SAMPLING_SEED):
    """Yields batches of scenes sampled from the prior of a model, for ever.

    Each is uint8 [batch_size, H, W, C], or float32 as sampled if some scene is not finite.
    """
    sample = tf.function(lambda seed: model.sample(batch_size, seed).recon, autograph=False)
    first = 0
    while True:
        yield _bytes_if_finite(sample(random.make_seed(seed, 0, first)).numpy())
        first += batch_size


def sampled_objects(model, batch_size, seed=SAMPLING_SEED):
    """Returns an endless iterator of batches of single objects sampled from the prior of a model.

    Each is uint8 [n, H, W, C], n <= batch_size, or float32 if some object is not finite. Scene i is
    sampled from the prior and decoded with object slot i mod J and its background alone; slots
    whose share reaches `VISIBLE_ALPHA` nowhere show no object and are passed over.

    Raises:
      UserError: the model has no slot that is always the background; or, from the iterator, hardly
        any sample shows an object.
    """
    background = model.background_slot
    if background is None or not hasattr(model, "sample_slots"):
        raise UserError(
            "`--per_object` must be of a model that has a slot for each object and one for the "
            f"background alone (factored_scenes). Received: {type(model).__name__}."
        )

    @tf.function(autograph=False)
    def sample(seed, first):
        slots = model.sample_slots(batch_size, seed)
        place = background % slots.shape[1]  # of -1 the last
        objects = tf.concat([slots[:, :place], slots[:, place + 1 :]], axis=1)
        chosen = tf.gather(objects, (first + tf.range(batch_size)) % objects.shape[1], batch_dims=1)

        # Two slots: the background keeps its end of the axis.
        pair = [chosen, slots[:, place]]
        position = 0
        if place == 0:
            pair.reverse()
            position = 1
        scene = model.decode(tf.stack(pair, axis=1))
        share = tf.reduce_max(scene.masks[:, position], axis=[1, 2, 3])
        # What is not finite is no slot without an object, but a failed sample.
        finite = tf.reduce_all(tf.math.is_finite(scene.recon), axis=[1, 2, 3])
        return scene.recon, (share >= VISIBLE_ALPHA) | ~finite

    def visible_objects():
        first = 0
        found = 0
        while True:
            recon, visible = sample(random.make_seed(seed, 0, first), tf.constant(first))
            first += batch_size
            found += int(np.sum(visible))

            # A prior that shows nothing would sample for ever.
            if first > _MAX_DRAWS * max(found, 20):
                raise UserError(
                    f"Only {found} of {first} sampled slots show an object (a share of "
                    f"{VISIBLE_ALPHA} somewhere): there is nothing to score."
                )
            yield _bytes_if_finite(recon.numpy()[visible.numpy()])

    return visible_objects()


def held_out_scenes(arrays, description):
    """Returns the `Pictures` of `SceneArrays`."""
    return Pictures(len(arrays), lambda start, stop: arrays.image[start:stop], description)


class _Generator(NamedTuple):
    """How to render scenes of a dataset again."""

    absent: str
    """The factor that is 0 for entities that are not rendered."""
    factors: Any
    """Function (indices, seed, variant, size) -> factors."""
    render: Any
    """Function (factors, variant, size) -> images."""


_GENERATORS = {
    "overlapping_polygons": _Generator(
        "edges",
        lambda indices, seed, variant, size: polygons.factors(indices, seed),
        lambda factors, variant, size: polygons.render(factors, size)[0],
    ),
    "multi_dsprites": _Generator(
        "shape",
        lambda indices, seed, variant, size: sprites.factors(indices, seed, variant),
        lambda factors, variant, size: sprites.render(factors, size)[0],
    ),
    "tetris": _Generator(
        "shape",
        lambda indices, seed, variant, size: tetris.factors(indices, seed, size),
        lambda factors, variant, size: tetris.render(factors, size)[0],
    ),
    "clevr_with_masks": _Generator(
        "shape",
        lambda indices, seed, variant, size: clevr_scenes.factors(indices, seed, variant),
        lambda factors, variant, size: clevr_scenes.render(factors, variant, size)["image"],
    ),
}


def held_out_objects(data, split, arrays, limit=None):
    """Returns the `Pictures` of single objects, alone on their backgrounds.

    Scene i gives object 1 + i mod (number of objects). Generated scenes are rendered again without
    their other objects. In other scenes on black, every connected region of one exact colour that
    touches no other colour is cut out and shown on black (`lone_regions`).

    Args:
      data: `training.experiment.DataConfig`.
      split: of its protocol.
      arrays: `SceneArrays` of the split.
      limit: how many are needed, if known; cut regions are kept in memory.

    Raises:
      UserError: there is no way to show the objects of these scenes alone.
    """
    if data.has_splits:
        protocol = protocols.sized(data.protocol, data.num_train, data.num_test)
        config = _builder_config(protocol)
        is_generated = protocol.dataset in _GENERATORS and not config.public
        # Blender's denoised images may differ by a gray level from run to run.
        if is_generated and getattr(config, "renderer", None) != "blender":
            return _rendered_objects(protocol, config, split, arrays)

    regions = lone_regions(arrays.image, limit)
    if len(regions) < 2:
        raise UserError(
            "`--per_object` must be of generated scenes, or of regions of one colour on black. "
            f"Received: {data.protocol}, where {len(regions)} regions were found."
        )
    return Pictures(
        len(regions),
        lambda start, stop: regions[start:stop],
        f"{len(regions)} regions of one colour that touch no other",
    )


def _builder_config(protocol):
    """Returns the TFDS builder config that a protocol's is made from."""
    module = importlib.import_module(
        f"tfobj.datasets.{protocol.dataset}.{protocol.dataset}_dataset_builder"
    )
    return module.Builder.builder_configs[protocol.base_config or protocol.config]


def _rendered_objects(protocol, config, split, arrays):
    """Returns the `Pictures` of objects of a generated split; `config` is that of its builder."""
    chosen = protocol.split(split)
    generator = _GENERATORS[protocol.dataset]
    if chosen.objects is not None:
        fewest, most = chosen.objects
        raise UserError(
            "`--per_object` must be of a split that is not filtered by the number of objects. "
            f"Received: {split} of {protocol.name}, {fewest} to {most} objects."
        )
    size = arrays.image.shape[1]
    first = chosen.start
    if chosen.source == "test":
        first += config.test_start

    def scenes(start, stop):
        indices = np.arange(first + start, first + stop)
        return generator.factors(indices, config.seed, config.variant, size)

    def get(start, stop):
        factors = scenes(start, stop)
        exists = factors[generator.absent] > 0
        number = np.arange(start, stop) % exists.sum(1)  # among the objects that exist
        kept = exists & (np.cumsum(exists, 1) - 1 == number[:, None])
        factors[generator.absent] = np.where(kept, factors[generator.absent], 0)
        return generator.render(factors, config.variant, size)

    # The first scene is rendered and compared, so that scenes of another version are noticed.
    if not np.array_equal(generator.render(scenes(0, 1), config.variant, size)[0], arrays.image[0]):
        raise UserError(
            f"The scenes of {protocol.name} on disk must be those of this version's generator. "
            "Received: others; build the dataset anew."
        )
    return Pictures(len(arrays), get, f"single objects of {protocol.describe(split)}")


def lone_regions(images, limit=None):
    """Shows every region of one colour that touches no other colour but black, alone on black.

    Args:
      images: uint8 [n, H, W, C].
      limit: stop at so many regions.

    Returns:
      uint8 [m, H, W, C], in the order of images and regions.
    """
    from scipy import ndimage

    found = []
    for image in images:
        coloured = np.any(image > 0, axis=-1)
        # Regions of anything but black, joined over corners too: what touches another colour has
        # more than one.
        labels, count = ndimage.label(coloured, np.ones((3, 3)))
        for label in range(1, count + 1):
            inside = labels == label
            colours = image[inside]
            if (colours == colours[0]).all():
                found.append(np.where(inside[..., None], image, 0).astype(np.uint8))
        if limit is not None and len(found) >= limit:
            return np.stack(found[:limit])
    if not found:
        return np.zeros((0, *images.shape[1:]), np.uint8)
    return np.stack(found)


def _bytes_if_finite(images):
    if np.isfinite(images).all():
        return to_bytes(images)
    return images


def to_bytes(images):
    """Rounds images of floats, clipped to [0, 1], to uint8."""
    return np.rint(255.0 * np.clip(images, 0.0, 1.0)).astype(np.uint8)
