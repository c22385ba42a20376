"""Lowers the training step and the scored forward pass to XLA's HLO, which needs no TensorFlow.

TensorFlow lowers a compiled function to one program whose parameters are its inputs and the
variables that it reads, and whose results are its outputs and the variables that it writes. The
step that is lowered is that of `tfobj.training.step`, not a second one: gradients, clipping and
Adam are those of `launch/train.py`.

The learning rate is an input. Its schedule is plain arithmetic (`tfobj.training.schedule`), so the
host that runs the program computes it, and one program serves all steps.
"""

import re
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.inference.schedules import stage_at
from tfobj.training.checkpoint import RunState, by_path
from tfobj.training.evaluation import infer_scenes
from tfobj.training.experiment import build_model
from tfobj.training.optimizer import make_optimizer
from tfobj.training.schedule import schedule_of
from tfobj.training.stage_batches import batch_size_of, stream_start
from tfobj.training.step import make_train_step

_CPU = "/device:CPU:0"
_OPERATION = re.compile(r"= \S.*? ([a-z][a-z0-9-]*)\(")
_FORBIDDEN = ("custom-call", "rng", "rng-get-and-update-state", "infeed", "outfeed", "send", "recv")


class LoweredStep(NamedTuple):
    """A program, its parameters and outputs, and the values that it starts from.

    Attributes:
      manifest: facts of the run, and of the program `params` and `outputs`, lists of dicts in the
        program's order. A parameter has `kind` ("input", "state" or "const"), `name`, `shape`,
        `dtype`, and `key` if it is not an input: its entry in `state`. An output has `kind`
        ("metric" or "state"), `shape`, `dtype`, and either `name`, or `param`, the number of the
        parameter whose new value it is.
      state: key -> value of every variable of model and optimizer, by path, and of every "const".
      hlo: the program, a serialized HloModuleProto.
    """

    manifest: dict
    state: dict
    hlo: bytes


class _FedRate(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate that is an input of the step being traced."""

    tensor = None

    def __call__(self, step):
        return self.tensor

    def get_config(self):
        return {}


def lower_step(experiment, workdir=None, from_step=0):
    """Lowers the training step of an experiment.

    Its inputs are `image` uint8 [B, H, W, C], `seed` int32 [3] of `tfobj.random.make_seed`, `step`
    int64 (updates finished) and `learning_rate` float32; its metrics are the loss and its terms
    before the update, as in training. Models of clips take `image` [B, T, H, W, C], with the frames
    and the batch of the stage.

    Args:
      experiment: `ExperimentConfig`; B is `train.batch_size`.
      workdir: folder of a run whose newest checkpoint is the state; None starts from the seed's
        initial weights.
      from_step: number of updates before the step, where stages of training follow each other.

    Returns:
      `LoweredStep`. Its manifest has `until_step`, the number of updates after which another
      program is needed, or None, and, of the batches, `num_frames`, the frames of a clip, None for
      images, and `stream_start`, the number of updates before the first batch of their stream.

    Raises:
      UserError: the step holds an operation that does not run everywhere, or the run has no
        readable checkpoint.
    """
    with tf.device(_CPU):
        model, optimizer, rate = _build(experiment, workdir)
        train_step = make_train_step(
            tf.distribute.get_strategy(), model, optimizer, experiment, xla=True
        )
        stage, until_step = stage_at(model.stages(), from_step)
        batch_size = batch_size_of(stage, model.stages(), experiment.train, num_replicas=1)
        names = []  # Known after tracing: a stage may have terms of its own.

        def step(image, seed, step, learning_rate):
            rate.tensor = learning_rate
            terms = train_step.update({"image": _as_float(image)}, seed, step, stage)
            names[:] = sorted(terms)
            return [terms[name] for name in names]

        inputs = (
            _image_spec(experiment, batch_size, tf.uint8, stage.num_frames),
            tf.TensorSpec([3], tf.int32, "seed"),
            tf.TensorSpec([], tf.int64, "step"),
            tf.TensorSpec([], tf.float32, "learning_rate"),
        )
        lowered = _lower(experiment, step, inputs, names, model.weights, optimizer.variables)
        facts = {
            "counter": optimizer.iterations.path,
            "until_step": until_step,
            "num_frames": stage.num_frames,
            "stream_start": stream_start(model.stages(), from_step),
        }
        return lowered._replace(manifest={**lowered.manifest, **facts})


def lower_forward(experiment, batch_size, num_frames=None):
    """Lowers the forward pass that evaluations score.

    Its inputs are `image` float32 [B, (T,) H, W, C], values in [0, 1], and `seed` int32 [3]. A
    model of images sees the frames of clips one by one, as in every evaluation.

    Args:
      experiment: `ExperimentConfig`; `eval.num_steps` is the number of refinement steps.
      batch_size: B.
      num_frames: T; None for images.

    Returns:
      `LoweredStep` without optimizer variables. Its outputs of kind "metric" are `masks`
      [B, (T,) K, H, W, 1] and `recon` [B, (T,) H, W, C], and its manifest has `num_frames`.
    """
    with tf.device(_CPU):
        model = build_model(experiment)

        def infer(image, seed):
            return model(image, num_steps=experiment.eval.num_steps, seed=seed, training=False)

        def forward(image, seed):
            outputs = infer_scenes(model, infer, image, seed)
            # Loops over frames lose the number of frames, and reshapes the batch.
            masks = tf.ensure_shape(outputs.masks, [*lead, num_slots, *size, 1])
            recon = tf.ensure_shape(outputs.recon, images.shape)
            return [tf.cast(masks, tf.float32), tf.cast(recon, tf.float32)]

        images = _image_spec(experiment, batch_size, tf.float32, num_frames)
        *lead, _, _, _ = images.shape
        num_slots = experiment.model.num_slots
        size = experiment.model.image_size
        inputs = (images, tf.TensorSpec([3], tf.int32, "seed"))
        lowered = _lower(experiment, forward, inputs, ["masks", "recon"], model.weights, [])
        _read_averages(lowered.manifest["params"], experiment, model)
        return lowered._replace(manifest={**lowered.manifest, "num_frames": num_frames})


def _read_averages(params, experiment, model):
    """Names the average in place of each weight among the parameters, if the run keeps some."""
    if not experiment.train.ema_decay:
        return
    optimizer = make_optimizer(experiment.train)
    optimizer.build(model.trainable_variables)
    paths = {weight.path: average.path for weight, average in optimizer.averages}
    for param in params:
        param["name"] = paths.get(param["name"], param["name"])


def check_runs_everywhere(hlo_text):
    """Checks that a program makes no custom calls and draws no random numbers but Philox.

    Args:
      hlo_text: the program as TensorFlow prints it at stage "hlo".

    Raises:
      UserError: names the operation and the line.
    """
    for line in hlo_text.splitlines():
        found = _OPERATION.search(line)
        operation = found and found[1]
        is_other_rng = operation == "rng-bit-generator" and "algorithm=rng_philox" not in line
        if operation not in _FORBIDDEN and not is_other_rng:
            continue

        what = "an operation of one device or host"
        if operation.startswith("rng"):
            what = "random numbers of another algorithm than Philox"
        raise UserError(
            "A step can be exported if every device computes the same from it. "
            f"Received: `{operation}`, {what}, in: {line.strip()[:200]}"
        )


def _build(experiment, workdir):
    """Returns (model, optimizer, rate).

    They are the run's objects with its state, but the learning rate is fed.
    """
    model = build_model(experiment)
    optimizer = make_optimizer(experiment.train)
    optimizer.build(model.trainable_variables)
    if workdir is not None:
        state = RunState(workdir, model, optimizer, experiment.train.keep_checkpoints)
        if state.restore() == 0:
            raise UserError(f"`{workdir}` has no checkpoint to start from.")

    # An object like the schedule that it replaces: the optimizer has no variable for the rate, in
    # training and here.
    rate = _FedRate()
    optimizer.learning_rate = rate
    return model, optimizer, rate


def _as_float(image):
    # Division, as in `tfobj.data.pipeline`: correctly rounded, so equal on every engine.
    return tf.cast(image, tf.float32) / 255.0


def _image_spec(experiment, batch_size, dtype, num_frames=None):
    frames = [] if num_frames is None else [num_frames]
    shape = [batch_size, *frames, *experiment.model.image_size, experiment.model.channels]
    return tf.TensorSpec(shape, dtype, "image")


def _lower(experiment, function, inputs, names, weights, optimizer_variables):
    """Lowers `function(*inputs)`, whose list of outputs is called `names` after tracing."""
    variables = [*weights, *optimizer_variables]
    paths = {id(variable.handle): path for path, variable in by_path(variables).items()}
    state = {variable.path: np.asarray(variable.numpy()) for variable in variables}
    compiled = tf.function(function, jit_compile=True, autograph=False)
    traced = compiled.get_concrete_function(*inputs)
    stages = compiled.experimental_get_compiler_ir(*inputs)
    text = stages(stage="hlo")
    check_runs_everywhere(text)

    # Parameters are the inputs, and then what the trace has captured: variables and constants.
    params = [_describe_spec("input", spec.name, spec) for spec in inputs]
    for number, captured in enumerate(traced.captured_inputs):
        kind = "state"
        if captured.dtype == tf.resource:
            key = paths[id(captured)]
        else:
            kind = "const"
            key = f"constant_{number}"
            state[key] = captured.numpy()
        params.append(
            {
                "kind": kind,
                "name": key,
                "key": key,
                "shape": list(state[key].shape),
                "dtype": str(state[key].dtype),
            }
        )

    results = tf.nest.flatten(traced.structured_outputs)
    outputs = [
        _describe_spec("metric", name, result) for name, result in zip(names, results, strict=True)
    ]
    outputs += _written_variables(text, params, len(results))
    manifest = {
        "model": experiment.model_name,
        "num_slots": experiment.model.num_slots,
        "protocol": experiment.data.protocol,
        "image_shape": [*experiment.model.image_size, experiment.model.channels],
        "batch_size": inputs[0].shape[0],
        "metrics": list(names),
        "schedule": schedule_of(experiment.train)._asdict(),
        "config": experiment.to_dict(),
        "fingerprint": experiment.fingerprint(),
        "params": params,
        "outputs": outputs,
    }
    return LoweredStep(manifest, state, stages(stage="hlo_serialized"))


def _describe_spec(kind, name, spec):
    return {
        "kind": kind,
        "name": name,
        "shape": spec.shape.as_list(),
        "dtype": spec.dtype.name,
    }


def _written_variables(text, params, num_results):
    """Returns the outputs of a program that are new values of variables."""
    updates = _updates(text.split("\n", 1)[0])

    if sorted(updates) != list(range(num_results, num_results + len(updates))):
        raise ValueError(
            f"The written variables must be the last outputs. Received: {sorted(updates)} after "
            f"{num_results} outputs."
        )
    return [
        {
            "kind": "state",
            "param": number,
            "shape": params[number]["shape"],
            "dtype": params[number]["dtype"],
        }
        for _, number in sorted(updates.items())
    ]


def _updates(head):
    """Returns {output: parameter whose variable it updates}, from the first line of a program."""
    return {
        int(output): int(parameter)
        for output, parameter in re.findall(r"\{(\d+)\}: \((\d+), \{\}", head)
    }
