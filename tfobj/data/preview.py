"""A few scenes of a split to look at, without building or unpacking the data set.

They are the scenes that training and evaluation see: read from the data on disk if it was built,
and otherwise drawn by the generator that would build it.
"""

import numpy as np

from tfobj.data import packed, tfds_files, transforms
from tfobj.data.packed import SceneArrays
from tfobj.errors import UserError


def open_scenes(protocol, split, first, number, data_dir=None):
    """Opens some scenes of a split.

    Args:
      protocol: a `protocols.Protocol`.
      split: name of one of its splits.
      first: number of the first scene within the split.
      number: how many scenes; fewer if the split ends before.
      data_dir: TFDS data folder; None is $TFDS_DATA_DIR or ~/tensorflow_datasets.

    Returns:
      `SceneArrays` with image, mask and amodal masks.

    Raises:
      UserError: there is no scene `first`; or data on disk is damaged.
    """
    chosen = protocol.split(split)
    builder = packed.builder_of(protocol, data_dir)
    if not builder.is_prepared() and builder.builder_config.public:
        return packed.open_split(protocol, split, data_dir).slice(first, first + number)

    start = chosen.start + first
    stop = start + number
    if chosen.stop is not None:
        stop = min(stop, chosen.stop)

    count = 0
    if builder.is_prepared():
        batches = tfds_files.read(builder, chosen.source, "Reading")
    else:
        # Scenes are counted after the filter, which only their content decides. Without a filter,
        # those before the first one need not be drawn.
        if chosen.objects is None:
            low, high = builder.split_ranges()[chosen.source]
            count = min(start, high - low - 1)
        batches = _generated_batches(builder, chosen.source, count, number)

    parts = []
    for batch in batches:
        if chosen.objects is not None:
            batch = packed.with_object_count(batch, chosen.objects)
        wanted = slice(max(0, start - count), max(0, stop - count))
        arrays = packed.arrays_of(batch, protocol)
        count += len(arrays["mask"])
        parts.append({name: values[wanted] for name, values in arrays.items()})
        if count >= stop:
            break

    found = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if not len(found["mask"]):
        last = min(count, chosen.stop or count) - chosen.start - 1
        raise UserError(f"`first` must be in 0 ... {last}. Received: {first}.")
    return SceneArrays(found["image"], found["mask"], amodal_masks=found.get("amodal_masks"))


def _generated_batches(builder, source, skip, size):
    """Yields what `tfds_files.read` would read from a data set that is not built yet.

    Args:
      builder: of a generated data set.
      source: its TFDS split.
      skip: scenes to leave out at its beginning.
      size: scenes of a batch.
    """
    start, stop = builder.split_ranges()[source]
    for first in range(start + skip, stop, size):
        scenes = builder.generate(np.arange(first, min(first + size, stop)))
        batch = {name: scenes[name] for name in ("image", "video", "mask") if name in scenes}
        batch["factors"] = {name: scenes[name] for name in builder.factor_docs}
        if "amodal_masks" in builder.item_features():
            batch["amodal_masks"] = transforms.pack_masks(scenes["amodal_masks"])
        yield batch
