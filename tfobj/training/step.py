"""The training step and the inner loop: n updates on the device without Python in between.

On one device and on many the update is the same function of (weights, batch, seed, step): losses
are means over the global batch, each replica contributes 1 / N of its own mean, gradients are
summed over replicas and then clipped, and scene b of the global batch gets the noise of scene b,
wherever it is.
"""

import tensorflow as tf

from tfobj import execution, random, replicas
from tfobj.execution import Execution
from tfobj.inference.schedules import stage_at
from tfobj.training.memory import plan_memory
from tfobj.training.strategy import check_batch_size, uses_xla

_DEFAULT_EXECUTION = Execution()


class TrainStep:
    """Compiled updates of a model.

    Args:
      strategy: `tf.distribute.Strategy` in whose scope model and optimizer were made.
      model: `SceneModel`.
      optimizer: of `make_optimizer`; its iteration counter is the step of the run.
      run_seed: seed of the noise.
      execution: `Execution`; XLA compiles only forward and backward of the update, since the
        reduction over replicas crosses devices.
      micro_batches: parts in which a replica's share of the batch is processed, one after the
        other; the gradient is that of the whole batch, in the memory of one part.

    Attributes:
      compiled: whether the last call of `run` traced and compiled, which takes the time of many
        updates.
    """

    def __init__(
        self, strategy, model, optimizer, run_seed, execution=_DEFAULT_EXECUTION, micro_batches=1
    ):
        self.strategy = strategy
        self.model = model
        self.optimizer = optimizer
        self.run_seed = run_seed
        self.execution = execution
        self.micro_batches = micro_batches
        with strategy.scope():
            optimizer.build(model.trainable_variables)
        self._stages = model.stages()

        # One trace for every stage.
        self._forward_backward = tf.function(
            self._mean_gradients, jit_compile=True if execution.xla else None, autograph=False
        )
        self._one = tf.function(self._one_step, autograph=False, reduce_retracing=False)
        self._many = tf.function(self._many_steps, autograph=False)
        self.compiled = False

    def run(self, iterator, num_steps):
        """Makes `num_steps` updates with the iterator's next batches.

        Returns:
          (terms, first_bad_step): dict of scalar means over these steps ("loss", "grad_norm" before
          clipping, the model's terms), and the number of the first step whose loss was not finite,
          or -1.
        """
        done = 0
        sums = {}
        counts = {}
        first_bad_step = -1
        traces = self._many.experimental_get_tracing_count()
        while done < num_steps:
            step = int(self.optimizer.iterations.numpy())
            stage, change = stage_at(self._stages, step)
            count = num_steps - done
            if change is not None:
                count = min(count, change - step)
            terms, bad_step = self._many(iterator, tf.constant(count, tf.int32), stage)

            # Stages may have terms of their own, so each term has its own count.
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value) * count
                counts[name] = counts.get(name, 0) + count
            if first_bad_step < 0:
                first_bad_step = int(bad_step)
            done += count
        self.compiled = self._many.experimental_get_tracing_count() > traces
        return {name: total / counts[name] for name, total in sums.items()}, first_bad_step

    def trace(self, iterator):
        """Returns the concrete function of the first update, whose graph can be looked at."""
        return self._one.get_concrete_function(iterator, stage_at(self._stages, 0)[0])

    def _one_step(self, iterator, stage):
        """One update; returns (terms, step before it)."""
        # A tensor: Keras' `value` is the variable itself, tf.cast to its own type hands it through,
        # and it would be read after the update.
        step = tf.cast(tf.convert_to_tensor(self.optimizer.iterations.value), tf.int64)
        terms = self.strategy.run(
            self._replica_step, args=(next(iterator), step), kwargs={"stage": stage}
        )
        mean = lambda value: self.strategy.reduce("MEAN", value, axis=None)
        return {name: mean(value) for name, value in terms.items()}, step

    def _replica_step(self, batch, step, stage):
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed = random.make_seed(self.run_seed, step, replica * batch["image"].shape[0])
        return self.update(batch, seed, step, stage)

    def update(self, batch, seed, step, stage):
        """One replica's part of an update, in a replica context; returns its terms.

        Args:
          batch: its share of the global batch.
          seed: int32 [3] of `random.make_seed`, whose last entry is the number of its first scene
            in the global batch.
          step: int64 scalar tensor, updates finished.
          stage: `Stage` of the step.
        """
        terms, statistics, gradients = self._forward_backward(batch, seed, step, stage)
        gradients = replicas.sum_over(gradients)
        terms = {**terms, "grad_norm": tf.linalg.global_norm(gradients)}
        variables = self.model.trained_variables(stage)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        if self.model.has_state:
            self.model.update_state(*replicas.mean_over((terms, statistics)), step)
        return terms

    def _mean_gradients(self, batch, seed, step, stage):
        """Returns (terms, statistics, gradients) of a replica's share of the batch.

        They are means over the share; gradients are divided by the number of replicas.
        """
        scale = 1.0 / (self.strategy.num_replicas_in_sync * self.micro_batches)

        def mean_gradients(batch, seed):
            with execution.using(self.execution):
                outputs, terms, gradients = self.model.loss_and_gradients(
                    batch, seed, step, loss_scale=scale, stage=stage
                )
            return terms, outputs.statistics, gradients

        if self.micro_batches == 1:
            return mean_gradients(batch, seed)

        size = batch["image"].shape[0] // self.micro_batches
        of_part = tf.function(mean_gradients, autograph=False)

        def part(i):
            """Returns (scenes i * size ... (i + 1) * size - 1, their seed)."""
            rows = {}
            for name, value in batch.items():
                begin = [i * size] + [0] * (value.shape.rank - 1)
                rows[name] = tf.slice(value, begin, [size, *value.shape[1:]])
            return rows, random.later_scenes(seed, i * size)

        # A loop and not a list: it keeps the memory of one part.
        like = of_part.get_concrete_function(*part(0)).structured_outputs
        sums = tf.nest.map_structure(lambda x: tf.zeros(x.shape, x.dtype), like)
        _, (terms, statistics, gradients) = tf.while_loop(
            lambda i, _: i < self.micro_batches,
            lambda i, sums: (i + 1, tf.nest.map_structure(tf.add, sums, of_part(*part(i)))),
            (tf.constant(0), sums),
            maximum_iterations=self.micro_batches,
            parallel_iterations=1,
        )
        mean = lambda values: {name: value / self.micro_batches for name, value in values.items()}
        return mean(terms), mean(statistics), gradients

    def _many_steps(self, iterator, num_steps, stage):
        """Makes updates in a loop on the device; returns (mean terms, first bad step or -1)."""
        terms_like, _ = self._one.get_concrete_function(iterator, stage).structured_outputs
        zeros = {name: tf.zeros([], value.dtype) for name, value in terms_like.items()}

        def body(i, sums, first_bad_step):
            terms, step = self._one(iterator, stage)
            bad = tf.logical_not(tf.math.is_finite(terms["loss"])) & (first_bad_step < 0)
            sums = {name: sums[name] + terms[name] for name in sums}
            return i + 1, sums, tf.where(bad, step, first_bad_step)

        _, sums, first_bad_step = tf.while_loop(
            lambda i, *_: i < num_steps, body, (tf.constant(0), zeros, tf.constant(-1, tf.int64))
        )
        means = {name: value / tf.cast(num_steps, value.dtype) for name, value in sums.items()}
        return means, first_bad_step


def make_train_step(strategy, model, optimizer, experiment, xla=None):
    """Returns the `TrainStep` of an `ExperimentConfig`.

    Args:
      strategy, model, optimizer: as for `TrainStep`.
      experiment: `ExperimentConfig`.
      xla: overrides what its `train.compile` chooses for the strategy's devices.

    Raises:
      UserError: the batch cannot be divided by replicas and micro-batches.
    """
    config = experiment.train
    check_batch_size(strategy, config.batch_size, config.micro_batches)
    if xla is None:
        xla = uses_xla(strategy, config.compile)
    plan = plan_memory(experiment, model, strategy.num_replicas_in_sync)
    chosen = Execution(xla=xla, rematerialise=plan.rematerialise)
    return TrainStep(strategy, model, optimizer, experiment.seed, chosen, plan.micro_batches)
