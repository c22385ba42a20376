"""A model together with one or two pictures whose slots are edited.

    session = from_run("runs/factored", scenes=[3, 7])   # or from_export("saved_models/x", files)
    results, after = apply_edits(session, [edit_syntax.parse("remove:slot=2")])

Edits are applied in order, each to the result of the one before.
"""

import pathlib
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfobj.errors import UserError, printable
from tfobj.models.base import DecodedScene
from tfobj.serving import edit_tour, editing, pictures, scene_edits, slot_layout, zoo
from tfobj.structs import check_num_slots
from tfobj.training.checkpoint import load_run
from tfobj.training.evaluation import EVALUATION_SEED, Evaluator
from tfobj.training.experiment import open_scenes

EXAMPLES = 32
"""Scenes of the split that show which values latents usually have."""


class EditSession(NamedTuple):
    """A model and the pictures that it has taken apart."""

    name: str
    layout: slot_layout.SlotLayout
    decode: Any
    """Function from float32 [n, K, D] to a `DecodedScene` of NumPy arrays."""
    images: list
    """float32 [H, W, C] in [0, 1], one or two."""
    slots: list
    """[K, D] of each."""
    titles: list
    examples: np.ndarray
    """[n, K, D], slots of scenes that show which values are usual."""


class EditResult(NamedTuple):
    """What one edit made."""

    text: str
    """The edit, as it was typed."""
    recon: np.ndarray
    """[n, H, W, C], one image, or the steps of a traversal or interpolation."""
    masks: np.ndarray
    """[K, H, W, 1] of the first of them."""
    numbers: list
    """The numbers by which the user knows the K slots."""


def from_run(
    workdir,
    checkpoint="latest",
    *,
    scenes=(0,),
    split="test",
    files=(),
    fit="crop",
    num_slots=None,
    seed=None,
    data_dir=None,
    with_examples=False,
):
    """Opens a session on scenes of a run's split, or on picture files.

    Args:
      workdir: folder of the run.
      checkpoint: "latest" or "best".
      scenes: numbers of one or two scenes of the split; ignored if there are files.
      split: of the run's protocol.
      files: one or two picture files instead.
      fit: one of `pictures.FITS`, for files.
      num_slots: K; None takes the model's.
      seed: of the inference noise; None takes that of evaluations.
      data_dir: TFDS folder.
      with_examples: whether usual values of latents are wanted, which takes more scenes.

    Returns:
      `EditSession`.

    Raises:
      UserError: a video model, or a number of slots or scenes out of range.
    """
    run = load_run(workdir, checkpoint)
    model = run.model
    experiment = run.experiment
    _check_run(model, experiment, num_slots)
    evaluator = Evaluator(
        model,
        1,
        num_slots=num_slots,
        num_steps=experiment.eval.num_steps,
        seed=EVALUATION_SEED if seed is None else seed,
    )

    def encode(images, first_scene=0):
        return evaluator.forward(images, first_scene).slots.numpy()

    examples = None
    if files:
        images = read_pictures(files, model.config.image_size, model.config.channels, fit)
        titles = [printable(pathlib.Path(file).name) for file in files]
        slots = [encode(image[None])[0] for image in images]
    else:
        arrays = open_scenes(experiment, split, data_dir)[0].frames()
        _check_scenes(scenes, len(arrays))
        images = [arrays.image[n].astype(np.float32) / np.float32(255.0) for n in scenes]
        titles = [f"scene {n} of {split}" for n in scenes]

        # The noise belongs to the number of a scene, so slots are those that an evaluation finds.
        slots = [encode(image[None], n)[0] for image, n in zip(images, scenes, strict=True)]
        if with_examples:
            examples = encode(arrays.image[:EXAMPLES].astype(np.float32) / np.float32(255.0))

    return EditSession(
        name=f"{experiment.model_name}, step {run.step:,}",
        layout=slot_layout.layout_of_model(model),
        decode=_decoder_of(model, slots[0].shape[-1]),
        images=images,
        slots=slots,
        titles=titles,
        examples=np.stack(slots) if examples is None else examples,
    )


def from_export(name_or_path, files, *, fit="crop", num_slots=None, seed=0):
    """Opens a session on picture files with an exported model; arguments as for `from_run`."""
    decomposer = zoo.load(name_or_path)
    images = read_pictures(files, decomposer.image_size, decomposer.channels, fit)
    slots = [decomposer.encode(i[None], num_slots=num_slots, seed=seed)[0] for i in images]
    return EditSession(
        name=decomposer.metadata["name"],
        layout=slot_layout.layout_of_metadata(decomposer.metadata),
        decode=decomposer.decode,
        images=images,
        slots=slots,
        titles=[printable(pathlib.Path(file).name) for file in files],
        examples=np.stack(slots),
    )


def read_pictures(paths, image_size, channels, fit):
    """Returns pictures, or the first frames of clips, as float32 [H, W, C] at the model's size."""
    images = []
    for path in paths:
        frames = pictures.read(path, image_size, channels, fit, max_frames=1)
        _, picture = next(frames, (None, None))
        if picture is None:
            raise UserError(f"`{path}` must hold a picture. Received: a clip without frames.")
        unit = picture.astype(np.float32) / np.float32(255.0)
        images.append(np.clip(tf.image.resize(unit, image_size, antialias=True).numpy(), 0.0, 1.0))
    return images


def slot_facts(session, slots):
    """Returns what is known about the slots [K, D] of a scene, for `viz.slots_figure`."""
    layout = session.layout
    found = session.decode(slots[None])
    facts = {
        "recon": found.recon[0],
        "masks": found.masks[0],
        "slot_recons": found.slot_recons[0],
        "background": layout.background_slot(len(slots)),
        "positions": layout.positions(slots) if "position" in layout.parts else None,
        "depths": layout.depths(slots) if "depth" in layout.parts else None,
    }
    if layout.background is not None and "depth" in layout.parts:
        facts["amodal_masks"], facts["slot_recons"] = editing.complete_objects(
            slots, layout, session.decode
        )
    return facts


def slot_table(facts):
    """Returns lines with the number, visible share, position and rank in depth of every slot."""
    masks = facts["masks"]
    positions = facts["positions"]
    ranks = None
    if facts["depths"] is not None:
        order = np.argsort(facts["depths"], kind="stable")
        ranks = np.argsort(order, kind="stable") + 1

    header = f"{'slot':>4}{'visible':>10}"
    if positions is not None:
        header += f"{'row':>8}{'column':>8}"
    if ranks is not None:
        header += f"{'depth':>8}"

    lines = [header]
    owner = masks[..., 0].argmax(0)
    for k in range(len(masks)):
        line = f"{k + 1:>4}{100 * (owner == k).mean():>8.1f} %"
        if k == facts["background"]:
            lines.append(f"{line}  background")
            continue
        if positions is not None:
            line += "".join(f"{value:>8.1f}" for value in positions[k])
        if ranks is not None:
            line += f"{ranks[k]:>8}"
        lines.append(line)
    return lines


def apply_edits(session, edits):
    """Applies edits in order, each to the result of the one before.

    Returns:
      (results, scene): an `EditResult` for every edit, and the last `scene_edits.EditedScene`.
    """
    scene, other = _scenes(session)
    results = []
    for edit in edits:
        result, scene = _apply(session, edit, scene, other)
        results.append(result)
    return results, scene


def tour(session):
    """Returns the `EditResult`s of one edit of each kind that the model allows."""
    scene, other = _scenes(session)
    areas = []
    for slots in session.slots:
        owner = session.decode(slots[None]).masks[0, ..., 0].argmax(0)
        areas.append(np.bincount(owner.ravel(), minlength=len(scene.slots)))
    edits = edit_tour.tour(scene, session.layout, areas, other, session.examples)
    return [_apply(session, edit, scene, other)[0] for edit in edits]


def _scenes(session):
    scenes = [scene_edits.EditedScene.of(slots) for slots in session.slots]
    return scenes[0], scenes[1] if len(scenes) > 1 else None


def _apply(session, edit, scene, other):
    frames, after = scene_edits.apply(edit, scene, session.layout, other, session.examples)
    found = session.decode(frames)
    return EditResult(edit.text, found.recon, found.masks[0], after.numbers), after


def _decoder_of(model, slot_size):
    """Returns `EditSession.decode` of a model, traced once for any number of scenes and slots."""
    signature = [tf.TensorSpec([None, None, slot_size], tf.float32)]
    decode = tf.function(
        lambda slots: model.decode(slots)._asdict(), input_signature=signature, autograph=False
    )

    def to_arrays(slots):
        scene = decode(tf.constant(slots))
        return DecodedScene(**{name: value.numpy() for name, value in scene.items()})

    return to_arrays


def _check_run(model, experiment, num_slots):
    if model.is_video:
        raise UserError(
            "`--workdir` must be a run of an image model. "
            f"Received: {experiment.model_name}, a video model."
        )
    check_num_slots(num_slots, experiment.model.minimum_slots)
    if model.slots_are_fixed and num_slots not in (None, experiment.model.num_slots):
        raise UserError(
            f"`--num_slots` must be {experiment.model.num_slots} (fixed) for this model. "
            f"Received: num_slots={num_slots}."
        )


def _check_scenes(numbers, count):
    for flag, number in zip(("scene", "other"), numbers, strict=False):
        if number >= count:
            raise UserError(f"`--{flag}` must be in 0 ... {count - 1}. Received: {flag}={number}.")
