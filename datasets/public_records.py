"""Reads and writes the GZIP TFRecord files of multi_object_datasets.

Byte features in these files hold one string PER BYTE, which lets the schema state their shape: a
35x35x3 image is 3,675 strings of length one. Parsing them is slow, and so the builders store the
result compactly.

Masks are stored per entity with values 0 and 255. They do not overlap, and together they cover the
image.

Source: Kabra et al. 2019 (multi_object_datasets).
"""

import dataclasses

import numpy as np
import tensorflow as tf
from etils import epath

from tfobj.data import transforms
from tfobj.errors import UserError

_GZIP_MAGIC = b"\x1f\x8b"
_BATCH = 64


@dataclasses.dataclass(frozen=True)
class PublicFile:
    """Schema of one published file.

    Attributes:
      path: path below the public bucket.
      image_shape: (H, W, C).
      num_entities: length of the entity axis, the background included.
      factors: dict from factor name to trailing shape after the entity axis.
      entity_axis: entity axis of the stored mask: 0 for [N, H, W, 1], 2 for [H, W, N, 1].
      byte_factors: names of the factors that are stored as bytes (codes 0-255); the others are
        float32.
    """

    path: str
    image_shape: tuple
    num_entities: int
    factors: dict
    entity_axis: int = 0
    byte_factors: tuple = ()

    @property
    def mask_shape(self):
        """Shape of the stored mask."""
        shape = [*self.image_shape[:2], 1]
        shape.insert(self.entity_axis, self.num_entities)
        return tuple(shape)


def read(path, public_file, start, stop):
    """Reads the records start ... stop - 1 in the order of the file.

    Args:
      path: path of the file.
      public_file: `PublicFile` with its schema.
      start: number of the first record.
      stop: number after the last record.

    Yields:
      dicts of at most 64 scenes: `image` uint8 [n, H, W, C], `mask` uint8 [n, H, W] entity numbers,
      and the factors float32 [n, N, ...].

    Raises:
      UserError: one line that names the file, if it is not a GZIP file, is damaged, belongs to
        another dataset, or has fewer than `stop` records.
    """
    _check_magic(path)
    count = 0
    try:
        for batch in _batches(path, public_file, start, stop).as_numpy_iterator():
            mask = np.moveaxis(batch.pop("mask")[..., 0], 1 + public_file.entity_axis, 1)
            yield {**batch, "mask": transforms.labels_from_entity_masks(mask)}
            count += len(mask)
    except tf.errors.InvalidArgumentError as error:
        raise UserError(
            f"`{path}` must hold records of {public_file.path}. "
            f"Received other features: {_first_line(error)}"
        ) from error
    except tf.errors.DataLossError as error:
        raise UserError(
            f"`{path}` is damaged or was not downloaded completely: {_first_line(error)} "
            "Download it again."
        ) from error
    except ValueError as error:
        raise UserError(f"`{path}` must hold exclusive masks. {_first_line(error)}") from error

    # A file that was cut between two records has no other sign of damage.
    if count < stop - start:
        raise UserError(
            f"`{path}` must hold at least {stop} records. "
            f"Received: {start + count} (a shorter or truncated file)."
        )


def _batches(path, public_file, start, stop):
    """Returns a `tf.data.Dataset` of the parsed records start ... stop - 1, in batches."""
    records = tf.data.TFRecordDataset(str(path), compression_type="GZIP")
    scenes = records.skip(start).take(stop - start)
    scenes = scenes.map(
        lambda record: _parse(record, public_file),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    return scenes.batch(_BATCH).prefetch(2)


def write(path, public_file, scenes):
    """Writes scenes in the published schema; the inverse of `read`.

    This serves tests, and programs that read the published files and are to read generated scenes.

    Args:
      path: path of the file to write.
      public_file: `PublicFile` with its schema.
      scenes: dict of arrays as `read` yields it.
    """
    masks = transforms.entity_masks_from_labels(scenes["mask"], public_file.num_entities)[..., None]
    masks = np.moveaxis(masks, 1, 1 + public_file.entity_axis)

    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for i in range(len(masks)):
            scene = {name: scenes[name][i] for name in ("image", *public_file.factors)}
            features = _features(public_file, {**scene, "mask": masks[i]})
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


def _features(public_file, scene):
    """Returns a dict from name to `tf.train.Feature` of one scene."""
    features = {}
    for name, values in scene.items():
        if name in public_file.byte_factors:
            features[name] = _bytes_feature(values.astype("uint8"))
        elif name in public_file.factors:
            floats = tf.train.FloatList(value=values.ravel())
            features[name] = tf.train.Feature(float_list=floats)
        else:
            features[name] = _bytes_feature(values)
    return features


def _bytes_feature(array):
    """Returns a feature with one string of length one per byte, as in the published files."""
    return tf.train.Feature(
        bytes_list=tf.train.BytesList(value=[bytes([value]) for value in array.ravel()])
    )


def _check_magic(path):
    with epath.Path(path).open("rb") as file:
        magic = file.read(2)
    if magic != _GZIP_MAGIC:
        received = magic.hex(" ") or "an empty file"
        raise UserError(
            f"`{path}` must be a GZIP file (first bytes 1f 8b). Received: {received}; a download "
            "tool may have unpacked it, or saved an error page."
        )


def _parse(record, public_file):
    """Parses one serialised `tf.train.Example` into image, stored mask and factors."""
    bytes_shapes = {"image": public_file.image_shape, "mask": public_file.mask_shape}
    spec = {}
    for name, trailing in public_file.factors.items():
        shape = (public_file.num_entities, *trailing)
        spec[name] = tf.io.FixedLenFeature(shape, tf.float32)
        if name in public_file.byte_factors:
            bytes_shapes[name] = shape
    spec |= {name: tf.io.FixedLenFeature(shape, tf.string) for name, shape in bytes_shapes.items()}
    scene = tf.io.parse_single_example(record, spec)

    # `decode_raw` gives every string of one byte an axis of its own.
    for name in bytes_shapes:
        scene[name] = tf.squeeze(tf.io.decode_raw(scene[name], tf.uint8), axis=-1)
    for name in public_file.byte_factors:
        scene[name] = tf.cast(scene[name], tf.float32)
    return scene


def _first_line(error):
    return str(getattr(error, "message", error)).strip().splitlines()[0].rstrip(".") + "."
