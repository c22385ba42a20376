"""Writes the folder in which a run travels to a host with JAX and NumPy."""

import hashlib
import pathlib

import tfobj
from tfobj import files
from tfobj.errors import UserError
from tfobj.portable import artifact, lowering, scenes, stablehlo
from tfobj.training.evaluation import EVALUATION_SEED
from tfobj.training.experiment import open_scenes

_OF_FORWARD = ("batch_size", "num_frames", "params", "outputs")

_README = """# {model} on {protocol}, to be trained with JAX

The training step of tfobj {version} with its state: {num_variables} variables after {step:,}
updates, batches of {batch_size} {scenes_of_shape}, products in {precision} precision. The host
needs Python 3.11, JAX {jax} or later and NumPy, and a checkout of tfobj {version} that need not be
installed. TensorFlow is not needed.

First twenty steps, whose losses can be compared with those of `launch/train.py` with the same
settings; then the run itself:

    python launch/run_step.py --artifact=FOLDER --workdir=check --steps=20 --log_every=1
    python launch/run_step.py --artifact=FOLDER --workdir=run

Rerun the same command to resume a run that was stopped. Scenes: {scenes}. Back on a host with
TensorFlow:

    python launch/import_state.py --state=run --workdir=runs/imported

`docs/jax_hosts.md` of tfobj says more.
"""


def export(experiment, to, workdir=None, precision="default", num_scenes=None, data_dir=None):
    """Writes step, forward pass, state and description of an experiment to a new folder.

    Args:
      experiment: `ExperimentConfig`.
      to: folder, which must not exist or be empty. It appears whole or not at all.
      workdir: folder of a run whose newest checkpoint is the state; None starts from the seed's
        initial weights.
      precision: "default" leaves the precision of products to the device (TF32 on NVIDIA GPUs);
        "highest" asks for float32.
      num_scenes: training scenes to write beside it, with the test scenes; None writes none.
      data_dir: TFDS data folder, for scenes that are not drawn from a seed.

    Returns:
      The manifest.

    Raises:
      UserError: the folder is in use, the step cannot run elsewhere, JAX is missing, or there are
        too few scenes.
    """
    to = pathlib.Path(to)
    _check_unused(to)
    split_scenes = {}
    if num_scenes is not None:
        split_scenes = _open(experiment, num_scenes, data_dir)

        # The run's config says which scenes were used, here and on its return.
        if experiment.data.has_splits:
            experiment = experiment.override({"data.num_train": num_scenes})

    with files.atomic_folder(to) as partial:
        step = lowering.lower_step(experiment, workdir)
        entries = _write_stages(experiment, step, partial, 0, precision)
        names = _write_scenes(partial / artifact.DATA, split_scenes)
        entry = entries[0]
        count = int(step.state[entry["counter"]])
        artifact.write_state(partial / artifact.STATE, count, step.state)
        manifest = {
            "format": artifact.FORMAT,
            "tfobj": tfobj.__version__,
            "seed": experiment.seed,
            "protocol": experiment.data.protocol,
            "image_shape": entry["image_shape"],
            "num_frames": _num_frames(experiment),
            "batch_size": experiment.train.batch_size,
            "precision": precision,
            "counter": entry["counter"],
            "variables": artifact.describe_variables(step.state),
            "steps": entries,
            "data": names,
        }
        files.write_text(partial / "README.md", _readme(manifest, count))
        artifact.write_manifest(partial, manifest)
    return manifest


def _check_unused(to):
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise UserError(
            f"`--to` must be a new folder. Received: {to}, which is not empty; --append adds a "
            "stage to an exported run."
        )


def _num_frames(experiment):
    """Returns the frames of the clips of an experiment's data; None for images."""
    protocol = scenes.protocol_of(experiment.data.to_dict())
    return protocol.num_frames if protocol else None


def _write_scenes(folder, split_scenes):
    """Writes scenes by split; returns the names of their files by split."""
    names = {"train": [], "evaluation": []}
    if split_scenes:
        folder.mkdir()
    for split, arrays in split_scenes.items():
        names[split] = scenes.write(folder, split, arrays)
    return names


def append(experiment, to, from_step):
    """Adds a stage to an exported run.

    From `from_step` on, the step of `experiment` advances the same state.

    Args:
      experiment: `ExperimentConfig` of the stage.
      to: folder of the exported run.
      from_step: number of updates before the stage.

    Returns:
      The manifest.

    Raises:
      UserError: the state, the batch size, the seed or the data differ, or `from_step` is not after
        the last stage.
    """
    manifest = artifact.read_manifest(to)
    last = manifest["steps"][-1]["from_step"]
    if from_step <= last:
        raise UserError(
            f"`--from_step` must be after the last stage, which begins at step {last}. "
            f"Received: {from_step}."
        )
    if manifest["data"]["train"]:
        num_train = manifest["steps"][0]["config"]["data"]["num_train"]
        experiment = experiment.override({"data.num_train": num_train})

    shared = {
        "batch_size": experiment.train.batch_size,
        "seed": experiment.seed,
        "protocol": experiment.data.protocol,
    }
    for name, value in shared.items():
        if manifest[name] != value:
            raise UserError(
                f"All stages must have one {name.replace('_', ' ')}, {manifest[name]!r}. "
                f"Received: {value!r}."
            )

    step = lowering.lower_step(experiment, from_step=from_step)
    variables = artifact.describe_variables(step.state)
    artifact.check_same_variables(manifest["variables"], variables, "The new stage")
    precision = manifest["precision"]
    manifest["steps"] += _write_stages(experiment, step, pathlib.Path(to), from_step, precision)
    artifact.write_manifest(to, manifest)
    return manifest


def _write_stages(experiment, step, folder, from_step, precision):
    """Writes a stage, and those after it if the number of refinement steps changes while training.

    Returns:
      Their entries of the manifest.
    """
    # One for all of these stages: it depends on the settings alone.
    forward = _write_forward(experiment, folder, from_step, precision)
    entries = [_write_stage(step, forward, folder, from_step, precision)]

    # A stage after the last step is never trained.
    until_step = step.manifest["until_step"]
    while until_step is not None and until_step < experiment.train.steps:
        step = lowering.lower_step(experiment, from_step=until_step)
        entries.append(_write_stage(step, forward, folder, until_step, precision))
        until_step = step.manifest["until_step"]
    return entries


def _write_forward(experiment, folder, from_step, precision):
    """Writes the forward pass that is scored; returns what the manifest says of it."""
    batch_size = min(experiment.eval.batch_size, scenes.NUM_EVALUATION)
    num_frames = _num_frames(experiment)
    if num_frames is not None:
        num_frames = experiment.eval.scored_frames(num_frames)
    forward = lowering.lower_forward(experiment, batch_size, num_frames)
    path = folder / f"forward_{from_step:06d}{artifact.PROGRAM}"
    return {
        "seed": EVALUATION_SEED,
        **_write_program(path, forward, precision),
        **{name: forward.manifest[name] for name in _OF_FORWARD},
    }


def _write_stage(step, forward, folder, from_step, precision):
    """Writes the step of a stage; returns the stage's entry of the manifest."""
    path = folder / f"step_{from_step:06d}{artifact.PROGRAM}"
    written = _write_program(path, step, precision)
    return {"from_step": from_step, **written, **step.manifest, "forward": forward}


def _write_program(path, lowered, precision):
    """Writes a program; returns what the manifest says of its file."""
    for param in lowered.manifest["params"]:
        if param["kind"] == "const":
            raise UserError(
                "A step can be exported if all its arrays are weights. Received: an array "
                f"{param['shape']} that the model holds as a constant; make it a weight with "
                "trainable=False."
            )

    program = stablehlo.to_portable(lowered.hlo)
    if precision != "default":
        program = stablehlo.force_precision(program, precision.upper())
    with files.atomic_path(path) as partial:
        partial.write_bytes(program)

    import jax  # There is one, since the conversion worked.

    return {
        "file": path.name,
        "sha256": hashlib.sha256(program).hexdigest(),
        "jax": jax.__version__,
    }


def _open(experiment, num_scenes, data_dir):
    """Returns {"train": the first scenes without masks, "evaluation": the test scenes}."""
    protocol = scenes.protocol_of(experiment.data.to_dict())
    if scenes.can_generate(protocol):
        # The builder's scenes, without building it.
        train = scenes.generate(protocol, "train", num_scenes, with_masks=False)
        evaluation = scenes.generate(protocol, "test", scenes.NUM_EVALUATION)
    else:
        train, _ = open_scenes(experiment, "train", data_dir)
        train = scenes.without_masks(train.take(num_scenes))
        evaluation, _ = open_scenes(experiment, "test", data_dir)
        evaluation = evaluation.take(min(scenes.NUM_EVALUATION, len(evaluation)))
    return {"train": train.take(num_scenes), "evaluation": evaluation}


def _readme(manifest, step):
    entry = manifest["steps"][0]
    count = entry["config"]["data"]["num_train"]
    kind = "images"
    if entry["num_frames"] is not None:
        kind = f"clips of {entry['num_frames']} frames"
    described = "drawn from the seed when the run starts"
    if manifest["data"]["train"]:
        described = "in data/"
    if manifest["data"]["train"] and count:
        described = f"{count:,} of them, in data/"

    return _README.format(
        model=entry["model"],
        protocol=manifest["protocol"],
        version=manifest["tfobj"],
        num_variables=len(manifest["variables"]),
        step=step,
        batch_size=entry["batch_size"],
        scenes_of_shape=f"{kind} of {'x'.join(map(str, manifest['image_shape']))}",
        precision=manifest["precision"],
        jax=entry["jax"],
        scenes=described,
    )
