"""Sums and means over the replicas of `tf.distribute`, and the part of the batch that each one has.

All functions are called in a replica context; on one device they add no operation.
"""

from typing import Any, NamedTuple

import tensorflow as tf


class Share(NamedTuple):
    """A replica's part of the global batch."""

    weight: Any
    """Its scenes as a fraction of the global batch: weights of means over scenes."""
    first_scene: Any
    """Index of its first scene in the global batch, which noise is drawn for."""


def count():
    """Returns the number of replicas."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def share_of(num_scenes):
    """Returns the `Share` of a replica with `num_scenes` scenes, an integer scalar tensor.

    Replicas hold consecutive scenes. Their numbers may differ, as at the end of an epoch.
    """
    if count() == 1:
        return Share(1.0, 0)

    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    own = tf.one_hot(replica, count(), dtype=tf.int32) * tf.cast(num_scenes, tf.int32)
    sizes = sum_over([own])[0]
    before = tf.sequence_mask(replica, count(), dtype=tf.int32)
    weight = tf.cast(num_scenes, tf.float32) / tf.cast(tf.reduce_sum(sizes), tf.float32)
    return Share(weight, tf.reduce_sum(sizes * before))


def sum_over(tensors):
    """Returns the sums of a list of tensors over all replicas."""
    tensors = list(tensors)
    if count() == 1 or not tensors:
        return tensors
    context = tf.distribute.get_replica_context()
    return context.all_reduce(tf.distribute.ReduceOp.SUM, tensors)


def mean_over(values, weight=None):
    """Returns the means of a nest of tensors over all replicas.

    Args:
      values: nest of floating-point tensors.
      weight: `Share.weight` of this replica; None weighs all replicas alike.
    """
    flat = tf.nest.flatten(values)
    if count() > 1 and flat:
        context = tf.distribute.get_replica_context()
        if weight is None:
            flat = context.all_reduce(tf.distribute.ReduceOp.MEAN, flat)
        else:
            weighted = [value * tf.cast(weight, value.dtype) for value in flat]
            flat = sum_over(weighted)
    return tf.nest.pack_sequence_as(values, flat)
