"""From an experiment to programs that need no TensorFlow: the training step and the scored forward pass as XLA's HLO.

TensorFlow lowers a compiled function to one program whose parameters are its inputs and the variables that it
reads, and whose results are its outputs and the variables that it writes. What is lowered is the step of
`tfobj.training.step`, not a second one: gradients, clipping and Adam are those of `launch/train.py`.

The learning rate is an input. Its schedule is plain arithmetic (`tfobj.training.schedule`), so the host that
runs the program computes it, and one program serves all steps.
"""

import re
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tfobj.errors import UserError
from tfobj.inference.schedules import stage_at
from tfobj.training.checkpoint import RunState, by_path
from tfobj.training.experiment import build_model
from tfobj.training.optimizer import make_optimizer
from tfobj.training.schedule import schedule_of
from tfobj.training.step import make_train_step

_CPU = "/device:CPU:0"
_OPERATION = re.compile(r"= \S.*? ([a-z][a-z0-9-]*)\(")
_FORBIDDEN = ("custom-call", "rng", "rng-get-and-update-state", "infeed", "outfeed", "send", "recv")


class LoweredStep(NamedTuple):
    """A program, what it takes and gives, and the values that it starts from.

    Attributes:
      manifest: facts of the run, and of the program `params` and `outputs`, lists of dicts in the program's order. A
        parameter has `kind` ("input", "state" or "const"), `name`, `shape`, `dtype`, and `key` if it is not an input:
        its entry in `state`. An output has `kind` ("metric" or "state"), `shape`, `dtype`, and either `name`, or
        `param`, the number of the parameter whose new value it is.
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

    Its inputs are `image` uint8 [B, H, W, C], `seed` int32 [3] of `tfobj.random.make_seed`, `step` int64 (updates
    finished) and `learning_rate` float32; its metrics are the loss and its terms before the update, as in training.

    Args:
      experiment: `ExperimentConfig`; B is `train.batch_size`.
      workdir: folder of a run whose newest checkpoint is the state; None starts from the seed's initial weights.
      from_step: what is lowered is the step after that many updates, where stages of training follow each other.

    Returns:
      `LoweredStep`; its manifest has the updates after which another program is needed as `until_step`, or None there.

    Raises:
      UserError: the step holds an operation that does not run everywhere, or the run has no readable checkpoint.
    """
    with tf.device(_CPU):
        model, optimizer, rate = _build(experiment, workdir)
        train_step = make_train_step(
            tf.distribute.get_strategy(), model, optimizer, experiment, xla=True
        )
        names = []
        stage, until_step = stage_at(model.stages(), from_step)

        def step(image, seed, step, learning_rate):
            rate.tensor = learning_rate
            terms = train_step.update({"image": _as_float(image)}, seed, step, stage)
            names[:] = sorted(terms)
            return [terms[name] for name in names]

        inputs = (
            _image_spec(experiment, experiment.train.batch_size, tf.uint8),
            tf.TensorSpec([3], tf.int32, "seed"),
            tf.TensorSpec([], tf.int64, "step"),
            tf.TensorSpec([], tf.float32, "learning_rate"),
        )
        lowered = _lower(experiment, step, inputs, names, model.weights, optimizer.variables)
        return lowered._replace(
            manifest={
                **lowered.manifest,
                "counter": optimizer.iterations.path,
                "until_step": until_step,
            }
        )


def lower_forward(experiment, batch_size):
    """Lowers the forward pass that evaluations score: `image` float32 [B, H, W, C] in [0, 1], `seed` int32 [3] -> `masks`, `recon`.

    Returns:
      `LoweredStep` without optimizer variables; `eval.num_steps` is the number of refinement steps. Its outputs of kind
      "metric" are `masks` [B, K, H, W, 1] and `recon` [B, H, W, C].
    """
    with tf.device(_CPU):
        model = build_model(experiment)

        def forward(image, seed):
            outputs = model(image, num_steps=experiment.eval.num_steps, seed=seed, training=False)
            return [tf.cast(outputs.masks, tf.float32), tf.cast(outputs.recon, tf.float32)]

        inputs = (
            _image_spec(experiment, batch_size, tf.float32),
            tf.TensorSpec([3], tf.int32, "seed"),
        )
        return _lower(experiment, forward, inputs, ["masks", "recon"], model.weights, [])


def check_runs_everywhere(hlo_text):
    """Holds a program against the contract of exported steps: no custom calls, and no random numbers but Philox.

    Args:
      hlo_text: the program as TensorFlow prints it at stage "hlo".

    Raises:
      UserError: names the operation and the line.
    """
    for line in hlo_text.splitlines():
        found = _OPERATION.search(line)
        operation = found and found[1]
        if operation in _FORBIDDEN or (
            operation == "rng-bit-generator" and "algorithm=rng_philox" not in line
        ):
            what = (
                "random numbers of another algorithm than Philox"
                if operation.startswith("rng")
                else "an operation of one device or host"
            )
            raise UserError(
                f"A step can be exported if every device computes the same from it. Received: `{operation}`, {what}, "
                f"in: {line.strip()[:200]}"
            )


def _build(experiment, workdir):
    """Returns (model, optimizer, rate): the run's objects with its state, but with a learning rate that is fed."""
    model, optimizer = build_model(experiment), make_optimizer(experiment.train)
    optimizer.build(model.trainable_variables)
    if (
        workdir is not None
        and RunState(workdir, model, optimizer, experiment.train.keep_checkpoints).restore() == 0
    ):
        raise UserError(f"`{workdir}` has no checkpoint to start from.")
    # An object like the schedule that it replaces: the optimizer has no variable for the rate, in training and here.
    rate = _FedRate()
    optimizer.learning_rate = rate
    return model, optimizer, rate


def _as_float(image):
    # Division, as in `tfobj.data.pipeline`: correctly rounded, so equal on every engine.
    return tf.cast(image, tf.float32) / 255.0


def _image_spec(experiment, batch_size, dtype):
    return tf.TensorSpec(
        [batch_size, *experiment.model.image_size, experiment.model.channels], dtype, "image"
    )


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

    params = [
        {
            "kind": "input",
            "name": spec.name,
            "shape": spec.shape.as_list(),
            "dtype": spec.dtype.name,
        }
        for spec in inputs
    ]
    for number, captured in enumerate(traced.captured_inputs):
        if captured.dtype == tf.resource:
            kind, name = "state", paths[id(captured)]
            key = name
        else:
            kind, name, key = "const", f"constant_{number}", f"constant_{number}"
            state[key] = captured.numpy()
        params.append(
            {
                "kind": kind,
                "name": name,
                "key": key,
                "shape": list(state[key].shape),
                "dtype": str(state[key].dtype),
            }
        )

    results = tf.nest.flatten(traced.structured_outputs)
    outputs = [
        {
            "kind": "metric",
            "name": name,
            "shape": result.shape.as_list(),
            "dtype": result.dtype.name,
        }
        for name, result in zip(names, results, strict=True)
    ]
    updates = _updates(text.split("\n", 1)[0])
    if sorted(updates) != list(range(len(results), len(results) + len(updates))):
        raise ValueError(
            f"The written variables must be the last outputs. Received: {sorted(updates)} after {len(results)} outputs."
        )
    for _, number in sorted(updates.items()):
        outputs.append(
            {
                "kind": "state",
                "param": number,
                "shape": params[number]["shape"],
                "dtype": params[number]["dtype"],
            }
        )
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


def _updates(head):
    """Returns {output: parameter whose variable it updates}, from the first line of a program."""
    return {
        int(output): int(parameter)
        for output, parameter in re.findall(r"\{(\d+)\}: \((\d+), \{\}", head)
    }
