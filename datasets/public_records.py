"""Reads and writes the GZIP TFRecord files of multi_object_datasets.

Byte features of these files hold one string PER BYTE (a 35x35x3 image is 3,675 strings of length
one), so that their shape is written in the schema. Parsing is therefore slow, and the builders
store the result compactly.

Masks are stored per entity with values 0 and 255; they are exclusive and cover the image.

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
      path: below the public bucket.
      image_shape: (H, W, C).
      num_entities: length of the entity axis, the background included.
      factors: factor name -> trailing shape after the entity axis.
      byte_factors: names of those that are stored as bytes (codes 0-255); the others are float32.
      entity_axis: axis of the entities in the stored mask; 0 for [N, H, W, 1], 2 for [H, W, N, 1].
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
    """Reads records start ... stop - 1 in the order of the file.

    Args:
      path: the file.
      public_file: its `PublicFile`.
      start: number of the first record.
      stop: number after the last record.

    Yields:
      dicts of at most 64 scenes: `image` uint8 [n, H, W, C], `mask` uint8 [n, H, W] entity numbers,
      and the factors float32 [n, N, ...].

    Raises:
      UserError: one line that names the file, if it is no GZIP file, damaged, of another dataset, or
        shorter than `stop`.
    """
    _check_magic(path)
    records = (
        tf.data.TFRecordDataset(str(path), compression_type="GZIP").skip(start).take(stop - start)
    )
    batches = (
        records.map(
            lambda record: _parse(record, public_file),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
        .batch(_BATCH)
        .prefetch(2)
    )
    count = 0
    try:
        for batch in batches.as_numpy_iterator():
            mask = np.moveaxis(batch.pop("mask")[..., 0], 1 + public_file.entity_axis, 1)
            yield {**batch, "mask": transforms.labels_from_entity_masks(mask)}
            count += len(mask)
    except tf.errors.InvalidArgumentError as error:
        raise UserError(
            f"`{path}` must hold records of {public_file.path}. Received other features: {_first_line(error)}"
        ) from error
    except tf.errors.DataLossError as error:
        raise UserError(
            f"`{path}` is damaged or was not downloaded completely: {_first_line(error)} Download it again."
        ) from error
    except ValueError as error:
        raise UserError(f"`{path}` must hold exclusive masks. {_first_line(error)}") from error
    if count < stop - start:
        raise UserError(
            f"`{path}` must hold at least {stop} records. Received: {start + count} (a shorter or truncated file)."
        )


def write(path, public_file, scenes):
    """Writes scenes in the published schema; the inverse of `read`.

    For tests, and for scenes of ours in programs that read the published files.

    Args:
      path: file to write.
      public_file: its `PublicFile`.
      scenes: dict as `read` yields it.
    """
    masks = transforms.entity_masks_from_labels(scenes["mask"], public_file.num_entities)[..., None]
    masks = np.moveaxis(masks, 1, 1 + public_file.entity_axis)
    with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
        for i in range(len(masks)):
            features = {
                "image": _bytes_feature(scenes["image"][i]),
                "mask": _bytes_feature(masks[i]),
            }
            for name in public_file.factors:
                values = scenes[name][i].ravel()
                if name in public_file.byte_factors:
                    features[name] = _bytes_feature(values.astype("uint8"))
                else:
                    features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


def _bytes_feature(array):
    """One string of length one per byte, as in the published files."""
    return tf.train.Feature(
        bytes_list=tf.train.BytesList(value=[bytes([value]) for value in array.ravel()])
    )


def _check_magic(path):
    with epath.Path(path).open("rb") as file:
        magic = file.read(2)
    if magic != _GZIP_MAGIC:
        raise UserError(
            f"`{path}` must be a GZIP file (first bytes 1f 8b). Received: {magic.hex(' ') or 'an empty file'}; a "
            "download tool may have unpacked it, or saved an error page."
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
    for name in bytes_shapes:
        scene[name] = tf.squeeze(tf.io.decode_raw(scene[name], tf.uint8), axis=-1)
    for name in public_file.byte_factors:
        scene[name] = tf.cast(scene[name], tf.float32)
    return scene


def _first_line(error):
    return str(getattr(error, "message", error)).strip().splitlines()[0].rstrip(".") + "."
