"""Edits the objects of a scene: moves, removes, swaps, orders and changes what a model has found, and renders the result.

    python launch/edit.py --workdir=runs/factored --scene=3                                  # shows the slots and their numbers
    python launch/edit.py --workdir=runs/factored --scene=3 --edit=tour                      # one of each edit that the model allows
    python launch/edit.py --workdir=runs/factored --scene=3 --edit=move:slot=1,rows=5,columns=-8 --edit=remove:slot=2
    python launch/edit.py --workdir=runs/factored --scene=3 --other=7 --edit=interpolate:part=appearance
    python launch/edit.py --saved_model=saved_models/factored photo.png --edit=depth:slot=1,to=front

Edits are made in the order given, each on the result of the one before; objects keep their numbers. Slots and latents are counted from 1
as in all figures, scenes from 0 as in the report.

    move:slot=1,rows=5,columns=-8           pixels down and to the right;  move:slot=1,row=20,column=30 is a place
    depth:slot=1,to=front                   or to=back;  depth:order=2+1+3 puts these one behind the other, nearest first
    swap:slots=1+2                          their positions;  part=appearance, part=depth, ... swaps that instead
    swap:slot=1,other=3                     object 1 for object 3 of the second scene (--other), as a whole or with part= in a part
    remove:slot=1                           or remove:slots=1+3
    duplicate:slot=1,rows=0,columns=10      a copy beside it
    insert:other=3                          object 3 of the second scene;  row= and column= say where
    set:slot=1,latent=3,value=1.5           a number of its appearance (of the whole slot, if the model tells no parts apart; part= chooses)
    traverse:slot=1,latent=3                the same over its usual values;  from=, to=, num= change them
    interpolate:part=position               to the second scene; part=appearance, no part: everything;  num= pictures
    interpolate:slots=1+2,part=appearance   object 1 becomes like object 2
    tour                                    a sheet with one of each

Which of them a model allows depends on what its slots tell apart; the others are answered with those that are possible.
--out gets edit_<edits>.png (input, reconstruction, result of every edit and its segmentation), edited.png (the last result, at the model's size) and slots.npz
(before, after: [K, D]; numbers of their slots); without --edit slots.png and slots.npz.
"""

import pathlib
import sys
from typing import Any, NamedTuple

if not __package__:  # `python launch/edit.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run.")
_CHECKPOINT = flags.DEFINE_enum(
    "checkpoint",
    "latest",
    ["latest", "best"],
    "Which state of the run: the last one, or the best on validation.",
)
_SAVED_MODEL = flags.DEFINE_string(
    "saved_model",
    None,
    "Instead of --workdir: folder of an exported model, or the name of a shipped one.",
)
_SPLIT = flags.DEFINE_string("split", "test", "Split of the run's protocol that scenes are from.")
_SCENE = flags.DEFINE_integer(
    "scene", None, "Number of the scene in the split; default 0.", lower_bound=0
)
_OTHER = flags.DEFINE_integer(
    "other", None, "Number of the second scene, for edits with two.", lower_bound=0
)
_EDIT = flags.DEFINE_multi_string("edit", [], "An edit, see above; repeatable.")
_OUT = flags.DEFINE_string("out", "out", "Folder for the results; made if need be.")
_NUM_SLOTS = flags.DEFINE_integer("num_slots", None, "Slots; default: the model's.")
_SEED = flags.DEFINE_integer(
    "seed",
    None,
    "Seed of the inference noise; default: that of evaluations for a run, 0 for an exported model.",
)
_FIT = flags.DEFINE_string(
    "fit",
    "crop",
    "How a picture of another shape is fitted: crop (centre), pad (black borders), stretch.",
)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "TFDS data folder.")

EXAMPLES = 32
"""Scenes of the split that tell the usual values of latents."""
NAMED_EDITS = 4
"""Edits in the name of the figure; the rest is counted."""


class Source(NamedTuple):
    """A model at work on one or two pictures."""

    name: str
    layout: Any
    """`slot_layout.SlotLayout`."""
    decode: Any
    """float32 [n, K, D] -> `DecodedScene` of NumPy arrays."""
    images: list
    """float32 [H, W, C] in [0, 1], one or two."""
    slots: list
    """[K, D] of each."""
    titles: list
    examples: Any
    """[n, K, D] of scenes that tell usual values."""


def main(argv):
    from tfobj.errors import UserError
    from tfobj.serving import edit_syntax, pictures

    pictures.check_fit(_FIT.value)
    edits = [edit_syntax.parse(text) for text in _EDIT.value]
    if len(edits) > 1 and any(edit.name == edit_syntax.TOUR for edit in edits):
        raise UserError("`--edit=tour` must stand alone. Received: other edits beside it.")
    _check_source(argv[1:])
    if _OTHER.value is None and len(argv) < 3:
        for step in edits:
            edit_syntax.check_second_scene(step)
    commands.load_tensorflow()
    source = (
        open_run(argv[1:], any(edit.name in ("traverse", edit_syntax.TOUR) for edit in edits))
        if _WORKDIR.value
        else open_export(argv[1:])
    )
    out = pathlib.Path(_OUT.value)
    if edits:
        edit(source, edits, out)
    else:
        show(source, out)
    return 0


def open_run(files, with_examples):
    """Returns the `Source` of --workdir: scenes of its split by number, or pictures."""
    import numpy as np
    import tensorflow as tf

    from tfobj.errors import UserError
    from tfobj.models.base import DecodedScene
    from tfobj.serving import slot_layout
    from tfobj.structs import check_num_slots
    from tfobj.training.checkpoint import load_run
    from tfobj.training.evaluation import EVALUATION_SEED, Evaluator
    from tfobj.training.experiment import open_scenes

    run = load_run(_WORKDIR.value, _CHECKPOINT.value)
    model, experiment = run.model, run.experiment
    if model.is_video:
        raise UserError(
            f"`--workdir` must be a run of a model of pictures. Received: {experiment.model_name}, which takes clips."
        )
    check_num_slots(_NUM_SLOTS.value, experiment.model.minimum_slots)
    if model.slots_are_fixed and _NUM_SLOTS.value not in (None, experiment.model.num_slots):
        raise UserError(
            f"`--num_slots` must be {experiment.model.num_slots} (fixed) for this model. Received: num_slots={_NUM_SLOTS.value}."
        )
    evaluator = Evaluator(
        model,
        1,
        num_slots=_NUM_SLOTS.value,
        num_steps=experiment.eval.num_steps,
        seed=EVALUATION_SEED if _SEED.value is None else _SEED.value,
    )

    def encode(images, first_scene=0):
        return evaluator.forward(images, first_scene).slots.numpy()

    examples = None
    if files:
        images, titles = _read_pictures(files, model.config.image_size, model.config.channels)
        slots = [encode(image[None])[0] for image in images]
    else:
        scenes = open_scenes(experiment, _SPLIT.value, _DATA_DIR.value)[0].frames()
        chosen = [
            0 if _SCENE.value is None else _SCENE.value,
            *([] if _OTHER.value is None else [_OTHER.value]),
        ]
        for flag, number in zip(("scene", "other"), chosen, strict=False):
            _check_scene(flag, number, len(scenes))
        images = [scenes.image[number].astype(np.float32) / np.float32(255.0) for number in chosen]
        slots = [
            encode(image[None], number)[0] for image, number in zip(images, chosen, strict=True)
        ]
        titles = [f"scene {number} of {_SPLIT.value}" for number in chosen]
        if with_examples:
            examples = encode(scenes.image[:EXAMPLES].astype(np.float32) / np.float32(255.0))
    signature = [
        tf.TensorSpec([None, None, slots[0].shape[-1]], tf.float32)
    ]  # one trace for whatever number of scenes and slots
    decode = tf.function(
        lambda latents: model.decode(latents)._asdict(), input_signature=signature, autograph=False
    )
    return Source(
        f"{experiment.model_name}, step {run.step:,}",
        slot_layout.layout_of_model(model),
        lambda latents: DecodedScene(
            **{name: value.numpy() for name, value in decode(tf.constant(latents)).items()}
        ),
        images,
        slots,
        titles,
        np.stack(slots) if examples is None else examples,
    )


def open_export(files):
    """Returns the `Source` of --saved_model on pictures."""
    import numpy as np

    from tfobj.serving import slot_layout, zoo

    decomposer = zoo.load(_SAVED_MODEL.value)
    layout = slot_layout.layout_of_metadata(decomposer.metadata)
    images, titles = _read_pictures(files, decomposer.image_size, decomposer.channels)
    slots = [
        decomposer.encode(image[None], num_slots=_NUM_SLOTS.value, seed=_SEED.value or 0)[0]
        for image in images
    ]
    return Source(
        decomposer.metadata["name"],
        layout,
        decomposer.decode,
        images,
        slots,
        titles,
        np.stack(slots),
    )


def show(source, out):
    """Shows the slots of the scene and, if there is one, of the second scene: figures, arrays and a table."""
    from tfobj import viz
    from tfobj.serving import edit_syntax
    from tfobj.viz import editing as figures

    for image, slots, title, name in zip(
        source.images, source.slots, source.titles, ("slots", "slots_other"), strict=False
    ):
        scene, facts = edit_syntax.EditedScene.of(slots), slot_facts(source, slots)
        figure = figures.slots_figure(
            image, facts.pop("recon"), **facts, title=f"{source.name}: {title}"
        )
        viz.save_figure(figure, out / f"{name}.png")
        _write_slots(out / f"{name}.npz", before=slots, numbers_before=scene.numbers)
        print_slots(title, facts)
    print(
        f"\nWritten: {out / 'slots.png'}, {out / 'slots.npz'}. This model allows: {', '.join(source.layout.possible_edits())}; see --help."
    )


def slot_facts(source, slots):
    """Returns what `viz.editing.slots_figure` wants of slots [K, D], as a dict."""
    from tfobj.serving import editing

    layout = source.layout
    found = source.decode(slots[None])
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
            slots, layout, source.decode
        )
    return facts


def print_slots(title, facts):
    """Prints the number, the visible share, the position and the rank in depth of every slot."""
    import numpy as np

    masks, background = facts["masks"], facts["background"]
    share = [(masks[..., 0].argmax(0) == k).mean() for k in range(len(masks))]
    has_positions, has_depths = facts["positions"] is not None, facts["depths"] is not None
    print(
        f"{title}\n{'slot':>4}{'visible':>10}"
        + (f"{'row':>8}{'column':>8}" if has_positions else "")
        + (f"{'depth':>8}" if has_depths else "")
    )
    rank = (
        np.argsort(np.argsort(facts["depths"], kind="stable"), kind="stable") + 1
        if has_depths
        else None
    )
    for k in range(len(masks)):
        line = f"{k + 1:>4}{100 * share[k]:>8.1f} %"
        if k == background:
            print(f"{line}  background")
            continue
        line += (
            "".join(f"{value:>8.1f}" for value in facts["positions"][k]) if has_positions else ""
        )
        print(line + (f"{rank[k]:>8}" if has_depths else ""))


def edit(source, edits, out):
    """Makes the edits, or the tour, and writes the results."""
    import numpy as np

    from tfobj import files, viz
    from tfobj.serving import edit_syntax
    from tfobj.viz import editing as figures

    start, *others = map(edit_syntax.EditedScene.of, source.slots)
    other = others[0] if others else None
    first = [source.decode(slots[None]) for slots in source.slots]
    is_tour = edits[0].name == edit_syntax.TOUR
    if is_tour:
        areas = [
            np.bincount(found.masks[0, ..., 0].argmax(0).ravel(), minlength=len(start.slots))
            for found in first
        ]
        edits = edit_syntax.tour(start, source.layout, areas, other, source.examples)
    results, scene = [], start
    for step in edits:
        frames, after = edit_syntax.apply(
            step, start if is_tour else scene, source.layout, other, source.examples
        )
        found = source.decode(frames)
        # One picture leaves room for the segmentation, in which objects keep their colours.
        results.append(
            (
                step.text,
                [
                    *found.recon,
                    *(
                        [figures.render_slots(found.masks[0], after.numbers)]
                        if len(frames) == 1
                        else []
                    ),
                ],
            )
        )
        final = found.recon[-1]
        scene = start if is_tour else after
    names = (
        [edit_syntax.TOUR]
        if is_tour
        else [step.name for step in edits[:NAMED_EDITS]]
        + [f"{len(edits) - NAMED_EDITS}_more"] * (len(edits) > NAMED_EDITS)
    )
    heads = [
        ("input", source.images[0]),
        ("reconstruction", first[0].recon[0]),
        ("segmentation", figures.render_slots(first[0].masks[0], start.numbers)),
        *([("second scene", first[1].recon[0])] if other else []),
    ]
    figure = figures.edits_figure(
        heads, results, title=f"{source.name}: {' and '.join(source.titles)}"
    )
    path = viz.save_figure(figure, out / f"edit_{'_'.join(names)}.png")
    written = [path]
    if not is_tour:
        from PIL import Image

        final = np.rint(255.0 * np.clip(final, 0.0, 1.0)).astype(np.uint8)
        with files.whole(out / "edited.png") as partial:
            Image.fromarray(final[..., 0] if final.shape[-1] == 1 else final).save(partial)
        written.append(out / "edited.png")
    after = {} if is_tour else {"after": scene.slots, "numbers_after": scene.numbers}
    _write_slots(out / "slots.npz", before=start.slots, numbers_before=start.numbers, **after)
    print(
        f"{len(edits)} {'edit' if len(edits) == 1 else 'edits'} of {source.titles[0]}. Written: {', '.join(map(str, [*written, out / 'slots.npz']))}"
    )


def _write_slots(path, **arrays):
    import numpy as np

    from tfobj import files

    with files.whole(path) as partial:
        np.savez_compressed(partial, **{name: np.asarray(value) for name, value in arrays.items()})


def _read_pictures(paths, image_size, channels):
    """Returns ([float32 [H, W, C] at the model's size], titles) of one or two picture files; of a clip its first frame."""
    import numpy as np
    import tensorflow as tf

    from tfobj.errors import UserError
    from tfobj.serving import pictures

    images = []
    for path in paths:
        _, picture = next(
            pictures.read(path, image_size, channels, _FIT.value, max_frames=1), (None, None)
        )
        if picture is None:
            raise UserError(f"`{path}` must hold a picture. Received: a clip without frames.")
        unit = picture.astype(np.float32) / np.float32(255.0)
        images.append(np.clip(tf.image.resize(unit, image_size, antialias=True).numpy(), 0.0, 1.0))
    return images, [pathlib.Path(path).name for path in paths]


def _check_source(files):
    """Raises a `UserError` unless there is one model, and scenes that go with it."""
    from tfobj.errors import UserError

    if bool(_WORKDIR.value) == bool(_SAVED_MODEL.value):
        raise UserError(
            "Give the model: --workdir=RUN or --saved_model=FOLDER"
            + (", not both." if _WORKDIR.value else ".")
        )
    if _SAVED_MODEL.value and not files:
        raise UserError(
            "Give a picture to edit, e.g. photo.png; scenes by number are those of a run (--workdir)."
        )
    if len(files) > 2:
        raise UserError(
            f"Pictures must be one, or two for edits with a second scene. Received: {len(files)}."
        )
    if files and (_SCENE.value is not None or _OTHER.value is not None):
        raise UserError("Give pictures, or scenes by number (--scene, --other); not both.")
    for file in files:
        if not pathlib.Path(file).expanduser().is_file():
            raise UserError(f"Pictures must be files. Received: {file}, which is none.")


def _check_scene(flag, number, count):
    from tfobj.errors import UserError

    if number >= count:
        raise UserError(f"`--{flag}` must be in 0 ... {count - 1}. Received: {flag}={number}.")


if __name__ == "__main__":
    commands.run(main)
