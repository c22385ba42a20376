"""Measures one trained model behind three doors, in turns.

    keras        the Keras model in a `tf.function`
    signature    the signature `serving_default` of the export, by TensorFlow alone
    zoo          `zoo.Decomposer.decompose`

All three start from the same uint8 images in NumPy and end with the results in NumPy. Every call is
timed, and each block of calls is followed by one behind the next door, so that a drift of the
machine hits all of them:

    keras signature zoo  keras signature zoo ...     for every batch size, round after round

The Keras model gets the weights of the export; it neither checks nor segments. Tracing and warm-up
come before the first block.
"""

import statistics
import sys
import time

import numpy as np
import tensorflow as tf

from tfobj.bench import turns
from tfobj.errors import UserError
from tfobj.serving import zoo
from tfobj.training import machine
from tfobj.training.experiment import ExperimentConfig, build_model

DOORS = ("keras", "signature", "zoo")
BATCH_SIZES = (1, 8, 32)
WARM_UP = 3
"""Calls before the first block: TensorFlow optimises a graph in the first two."""
_KERAS_RESULTS = ("recon", "masks", "slot_recons", "slots")
"""Fields of `SceneOutputs` that leave the graph, as they leave the export."""


def run(names=(), seconds=2.0, blocks=5, batch_sizes=BATCH_SIZES):
    """Measures exported models of images; progress and the time left go to stderr.

    Args:
      names: as for `zoo.load`; none: all models of images that ship with the package.
      seconds: length of a block; at least one call is made.
      blocks: turns of every door.
      batch_sizes: images per call.

    Returns:
      The report: a dict for JSON with `machine`, `busy_share_before` and `rows`, one per model,
      batch size and door; `format_report` prints it.

    Raises:
      UserError: a number out of range, no such model, a model of clips, or one that does not say
        how it was trained.
    """
    turns.check_turns(seconds, blocks)

    # Whatever can be refused is, before the first model is measured.
    decomposers = [_load(name) for name in names or _shipped()]
    busy = turns.notice_other_work()
    rows = []
    for decomposer in decomposers:
        rows += _measure(decomposer, seconds, blocks, batch_sizes)
    facts = machine.describe()
    return {
        "machine": {name: facts[name] for name in ("hardware", "software")},
        "busy_share_before": busy,
        "seconds": seconds,
        "blocks": blocks,
        "rows": rows,
    }


def _shipped():
    """Returns the names of the shipped models that take images."""
    names = [name for name in zoo.read_index() if not zoo.find(name)[1].get("is_video")]
    if not names:
        raise UserError("`saved_model` must be given: no model of images ships here.")
    return names


def _load(name):
    decomposer = zoo.load(name)
    if decomposer.is_video:
        raise UserError(f"`saved_model` must be a model of images. Received: {name}, one of clips.")
    if decomposer.metadata.get("experiment") is None:
        raise UserError(
            "`saved_model` must say how it was trained: its Keras model is built anew. "
            f"Received: {name}, whose metadata has no experiment."
        )
    return decomposer


def make_doors(decomposer):
    """Returns the functions of uint8 images [B, H, W, C] that are compared, by door."""
    exported = tf.saved_model.load(str(decomposer.folder))
    signature = exported.signatures["serving_default"]

    model = build_model(ExperimentConfig.from_dict(decomposer.metadata["experiment"]))
    for variable, weight in zip(model.variables, exported.weights, strict=True):
        variable.assign(weight)

    @tf.function(autograph=False)
    def infer(image):
        outputs = model(tf.cast(image, tf.float32) / 255.0, training=False)
        return {name: getattr(outputs, name) for name in _KERAS_RESULTS}

    return {
        "keras": lambda images: _arrays(infer(tf.constant(images))),
        "signature": lambda images: _arrays(signature(tf.constant(images))),
        "zoo": decomposer.decompose,
    }


def _arrays(results):
    return {name: value.numpy() for name, value in results.items()}


def _measure(decomposer, seconds, blocks, batch_sizes):
    """Returns the rows of a model."""
    name = decomposer.metadata["name"]
    print(f"{name}: tracing and warm-up", file=sys.stderr, flush=True)
    doors = make_doors(decomposer)
    images = {size: _noise(size, decomposer) for size in batch_sizes}
    for batch in images.values():
        for door in doors.values():
            for _ in range(WARM_UP):
                door(batch)

    times = {(size, door): [] for size in batch_sizes for door in DOORS}
    for _ in turns.rounds(blocks, f"{name}: "):
        for size, door in times:
            times[size, door].append(_block(doors[door], images[size], seconds))

    return [_summary(name, decomposer, size, door, found) for (size, door), found in times.items()]


def _noise(size, decomposer):
    shape = (size, *decomposer.image_size, decomposer.channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def _block(door, images, seconds):
    """Returns the milliseconds of every call until `seconds` are over."""
    times = []
    start = time.perf_counter()
    while not times or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        door(images)
        times.append(1000.0 * (time.perf_counter() - before))
    return times


def _summary(name, decomposer, size, door, blocks):
    """Returns the JSON object of a row; `blocks` holds the milliseconds of the calls of each."""
    calls = [ms for block in blocks for ms in block]
    rates = [1000.0 * size * len(block) / sum(block) for block in blocks]
    return {
        "model": name,
        "image_size": list(decomposer.image_size),
        "num_slots": decomposer.num_slots,
        "batch_size": size,
        "door": door,
        "calls": len(calls),
        "ms_median": statistics.median(calls),
        "ms_90": float(np.percentile(calls, 90)),
        "ms_min": min(calls),
        "images_per_second": statistics.median(rates),
        "images_per_second_per_block": rates,
    }


def format_report(report):
    """Returns the report as a table with what it means below."""
    rows = report["rows"]
    width = max(len(row["model"]) for row in rows)
    lines = [
        f"{'model':<{width}}  {'batch':>5}  {'called by':<9} {'ms':>8} {'90 %':>8} {'min':>8} "
        f"{'images/s':>9}"
    ]
    lines += [
        f"{row['model']:<{width}}  {row['batch_size']:>5}  {row['door']:<9} "
        f"{row['ms_median']:>8.2f} {row['ms_90']:>8.2f} {row['ms_min']:>8.2f} "
        f"{row['images_per_second']:>9.0f}"
        for row in rows
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"{report['blocks']} blocks of {report['seconds']:g} s in turns: median, 90th "
            "percentile and minimum of the calls; images per second of the median block.",
            f"{report['machine']['hardware']}; {report['machine']['software']}; "
            f"other work at the start: {report['busy_share_before']:.0%} of the processors.",
        ]
    )
