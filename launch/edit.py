r"""Edits the objects of a scene: moves, removes, swaps, reorders and changes what a model found.

    python launch/edit.py --workdir=runs/factored --scene=3              # numbers the slots
    python launch/edit.py --workdir=runs/factored --scene=3 --edit=tour  # one of each possible edit
    python launch/edit.py --workdir=runs/factored --scene=3 \
        --edit=move:slot=1,rows=5,columns=-8 --edit=remove:slot=2
    python launch/edit.py --workdir=runs/factored --scene=3 --other=7 \
        --edit=interpolate:part=appearance
    python launch/edit.py --saved_model=saved_models/factored photo.png --edit=depth:slot=1,to=front

Edits are applied in the order given, each to the result of the one before; objects keep their
numbers. Slots and latents are counted from 1, as in all figures, and scenes from 0, as in the
report.

    move:slot=1,rows=5,columns=-8      pixels down and to the right; row=20,column=30 is a place
    depth:slot=1,to=front              or to=back; depth:order=2+1+3 puts these one behind the
                                       other, nearest first
    swap:slots=1+2                     their positions; part=appearance, part=depth, ... swaps that
    swap:slot=1,other=3                object 1 for object 3 of the second scene (--other), as a
                                       whole, or only the part= named
    remove:slot=1                      or remove:slots=1+3
    duplicate:slot=1,rows=0,columns=10 a copy beside it
    insert:other=3                     object 3 of the second scene; row= and column= say where
    set:slot=1,latent=3,value=1.5      one number of its appearance (of the whole slot, if the
                                       model's slots have no parts; part= chooses)
    traverse:slot=1,latent=3           the same over its usual values; from=, to=, num= change them
    interpolate:part=position          to the second scene; without part=, everything; num= images
    interpolate:slots=1+2,part=appearance   object 1 becomes like object 2
    tour                               a sheet with one of each

What a model allows depends on the parts that its slots have; other edits are refused with a list of
the possible ones. --out gets edit_<edits>.png (input, reconstruction, and the result of every edit
with its segmentation), edited.png (the last result, at the model's size) and slots.npz (before,
after: [K, D], and the numbers of their slots). Without --edit, it gets slots.png and slots.npz.
Files of these names that this program did not write stay, and the result gets a number.
"""

import pathlib
import sys

if not __package__:  # `python launch/edit.py` from a checkout
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from absl import flags

from tfobj import commands
from tfobj.launch import shared_flags

_WORKDIR = shared_flags.workdir()
_CHECKPOINT = shared_flags.checkpoint()
_SAVED_MODEL = shared_flags.saved_model(
    text="Instead of --workdir: folder of an exported model, or the name of a shipped one."
)
_SPLIT = shared_flags.split()
_SCENE = flags.DEFINE_integer(
    "scene", None, "Number of the scene in the split; default 0.", lower_bound=0
)
_OTHER = flags.DEFINE_integer(
    "other", None, "Number of the second scene, for edits with two.", lower_bound=0
)
_EDIT = flags.DEFINE_multi_string("edit", [], "An edit, see above; repeatable.")
_OUT = shared_flags.out()
_NUM_SLOTS = shared_flags.num_slots()
_SEED = shared_flags.seed(
    default=None,
    text="Seed of the inference noise; default: that of evaluations for a run, 0 for an export.",
)
_FIT = shared_flags.fit()
_DATA_DIR = shared_flags.data_dir()

NAMED_EDITS = 4
"""Edits in the name of the figure; the others are counted."""


def main(argv):
    files = argv[1:]
    edits = parse_edits()
    check_source(files)
    if _OTHER.value is None and len(files) < 2:
        check_single_scene(edits)
    commands.load_tensorflow(check_model())

    session = open_session(files, edits)
    out = pathlib.Path(_OUT.value)
    if edits:
        edit(session, edits, out)
    else:
        show(session, out)
    return 0


def parse_edits():
    """Returns the edits of the command line; refuses what can be refused without a model."""
    from tfobj.errors import UserError
    from tfobj.serving import edit_syntax, pictures

    pictures.check_fit(_FIT.value)
    edits = [edit_syntax.parse(text) for text in _EDIT.value]
    if len(edits) > 1 and any(edit.name == edit_syntax.TOUR for edit in edits):
        raise UserError("`--edit=tour` must stand alone. Received: other edits beside it.")
    return edits


def check_single_scene(edits):
    """Raises a `UserError` for edits that take objects from a second scene."""
    from tfobj.serving import edit_syntax

    for step in edits:
        edit_syntax.check_second_scene(step)


def check_source(files):
    """Raises a `UserError` unless there is one model, and scenes that fit it."""
    from tfobj.errors import UserError

    if _WORKDIR.value and _SAVED_MODEL.value:
        raise UserError("Give the model: --workdir=RUN or --saved_model=FOLDER, not both.")
    if not _WORKDIR.value and not _SAVED_MODEL.value:
        raise UserError("Give the model: --workdir=RUN or --saved_model=FOLDER.")
    if _SAVED_MODEL.value and not files:
        raise UserError(
            "Give a picture to edit, e.g. photo.png; scenes by number are those of a run "
            "(--workdir)."
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


def check_model():
    """Returns the model whose code is needed, None for an export; refuses one that is not there."""
    from tfobj.serving import zoo
    from tfobj.training import run_folder

    if _SAVED_MODEL.value:
        zoo.find(_SAVED_MODEL.value)
        return None
    return run_folder.check_run(_WORKDIR.value, _CHECKPOINT.value).model_name


def open_session(files, edits):
    """Returns the `EditSession` of the model and the scenes of the command line."""
    from tfobj.serving import edit_session, edit_syntax

    if _SAVED_MODEL.value:
        return edit_session.from_export(
            _SAVED_MODEL.value,
            files,
            fit=_FIT.value,
            num_slots=_NUM_SLOTS.value,
            seed=_SEED.value or 0,
        )

    scenes = [_SCENE.value or 0]
    if _OTHER.value is not None:
        scenes.append(_OTHER.value)
    return edit_session.from_run(
        _WORKDIR.value,
        _CHECKPOINT.value,
        scenes=scenes,
        split=_SPLIT.value,
        files=files,
        fit=_FIT.value,
        num_slots=_NUM_SLOTS.value,
        seed=_SEED.value,
        data_dir=_DATA_DIR.value,
        with_examples=any(edit.name in ("traverse", edit_syntax.TOUR) for edit in edits),
    )


def show(session, out):
    """Shows the slots of each scene: a figure, arrays and a table."""
    from tfobj import viz
    from tfobj.serving import edit_session, scene_edits
    from tfobj.serving.output_files import unused_path, write_arrays

    written = []
    for name, image, slots, title in zip(
        ("slots", "slots_other"), session.images, session.slots, session.titles, strict=False
    ):
        facts = edit_session.slot_facts(session, slots)
        print("\n".join([title, *edit_session.slot_table(facts)]))
        recon = facts.pop("recon")
        figure = viz.slots_figure(image, recon, **facts, title=f"{session.name}: {title}")
        written.append(viz.save_figure(figure, unused_path(out / f"{name}.png")))
        numbers = scene_edits.EditedScene.of(slots).numbers
        written.append(unused_path(out / f"{name}.npz"))
        write_arrays(written[-1], before=slots, numbers_before=numbers)
    print(
        f"\nWritten: {', '.join(map(str, written[:2]))}. "
        f"This model allows: {', '.join(session.layout.possible_edits())}; see --help."
    )


def edit(session, edits, out):
    """Applies the edits, or the tour, and writes the results."""
    from tfobj import viz
    from tfobj.serving import edit_session, edit_syntax, scene_edits
    from tfobj.serving.output_files import unused_path, write_arrays, write_image
    from tfobj.viz import editing as figures

    is_tour = edits[0].name == edit_syntax.TOUR
    start = scene_edits.EditedScene.of(session.slots[0])
    arrays = {"before": start.slots, "numbers_before": start.numbers}
    if is_tour:
        results = edit_session.tour(session)
        name = edit_syntax.TOUR
    else:
        results, after = edit_session.apply_edits(session, edits)
        arrays |= {"after": after.slots, "numbers_after": after.numbers}
        name = "_".join(edit.name for edit in edits[:NAMED_EDITS])
        if len(edits) > NAMED_EDITS:
            name += f"_{len(edits) - NAMED_EDITS}_more"

    before = [session.decode(slots[None]) for slots in session.slots]
    heads = [
        ("input", session.images[0]),
        ("reconstruction", before[0].recon[0]),
        (
            "segmentation",
            figures.render_slots(before[0].masks[0], start.numbers, before[0].recon[0]),
        ),
    ]
    if len(before) > 1:
        heads.append(("second scene", before[1].recon[0]))
    figure = figures.edits_figure(
        heads,
        [(r.text, figures.edit_pictures(r.recon, r.masks, r.numbers)) for r in results],
        title=f"{session.name}: {' and '.join(session.titles)}",
    )
    written = [viz.save_figure(figure, unused_path(out / f"edit_{name}.png"))]
    if not is_tour:
        written.append(unused_path(out / "edited.png"))
        write_image(written[-1], results[-1].recon[-1])
    written.append(unused_path(out / "slots.npz"))
    write_arrays(written[-1], **arrays)
    print(
        f"{len(results)} {'edit' if len(results) == 1 else 'edits'} of {session.titles[0]}. "
        f"Written: {', '.join(map(str, written))}"
    )


if __name__ == "__main__":
    commands.run(main)
