"""What the chief does with a run beside its steps: numbers, warnings, scores, figures."""

import dataclasses
import re
import time
from typing import Any

from tfobj.data.pipeline import evaluation_batches
from tfobj.metrics.health import diagnose
from tfobj.training.evaluation import Evaluator, validation_score
from tfobj.training.writers import MetricsWriter

_SHOWN_SCORES = ("fg_ari", "ari", "miou", "aiou", "dpa_30", "mse")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What actions are handed after each evaluation while training."""

    step: int
    workdir: Any
    model: Any
    evaluator: Evaluator
    scenes: Any
    """`SceneArrays` of the validation split."""
    summary: dict
    writer: MetricsWriter


class Observer:
    """Logs, evaluates, warns, and keeps the best state.

    Args:
      experiment: `ExperimentConfig`.
      workdir: folder of the run.
      model, optimizer: those that are trained.
      evaluator: `Evaluator` of the model.
      state: `RunState`.
      writer: `MetricsWriter`.
      console: `Console`.
      validation: `SceneArrays`.
      actions: callables of an `Evaluation`.
    """

    def __init__(
        self,
        experiment,
        workdir,
        model,
        optimizer,
        evaluator,
        state,
        writer,
        console,
        validation,
        actions,
    ):
        self.experiment = experiment
        self.workdir = workdir
        self.model = model
        self.optimizer = optimizer
        self.evaluator = evaluator
        self.state = state
        self.writer = writer
        self.console = console
        self.validation = validation
        self.actions = actions

        # Health is always measured on the same scenes, so that it can be compared over a run.
        self.probe = next(evaluation_batches(validation, evaluator.batch_size))["image"]
        self._best_step = state.step
        self._met_step = state.step
        self._warned = set()

    def log(self, step, terms, steps_per_second, batch_size):
        """Writes the means of the terms since the last log, the rates, and the model's health."""
        with self.optimizer.averaged():
            health = self.evaluator.health(self.probe)

        self.writer.write(
            step,
            "train",
            {
                **terms,
                "learning_rate": float(self.optimizer.learning_rate),
                "steps_per_second": steps_per_second,
                "images_per_second": steps_per_second * batch_size,
                **{f"health/{name}": value for name, value in health.items()},
            },
        )
        self.console.say(
            f"step {step:>8,}  loss {terms['loss']:.5g}  grad norm {terms['grad_norm']:.3g}  "
            f"{steps_per_second:.2f} steps/s  active slots {health['active_slots']:.2f}"
            f"{self._time_left(step)}"
        )
        self._warn(step, terms, health)

    def _time_left(self, step):
        if step >= self.experiment.train.steps:
            return ""
        return f"  {self.console.time_left}"

    def _warn(self, step, terms, health):
        geco = {name: value for name, value in terms.items() if name.startswith("geco_")}
        if geco.get("geco_constraint", 0.0) >= 0.0:
            self._met_step = step

        warnings = diagnose(
            {**health, **geco, "loss": terms["loss"]},
            num_slots=self.experiment.model.num_slots,
            step=step,
            steps_without_improvement=step - self._best_step,
            constraint_missed=(step - self._met_step) / self.experiment.train.steps,
        )
        for warning in warnings:
            # Once per run: the numbers go on in metrics.jsonl.
            kind = re.sub("[0-9., %]+", " ", warning.split(":")[0])
            if kind not in self._warned:
                self._warned.add(kind)
                self.console.say(f"warning: {warning}")

    def evaluate(self, step):
        """Scores the validation scenes, keeps the state if it is the best, and acts."""
        start = time.monotonic()
        if step >= self.experiment.train.steps:
            # What follows takes a while, and the bar is at its end.
            self.console.say(
                f"All {step:,} steps are done. Scoring {len(self.validation):,} validation scenes "
                "and drawing the last figures ..."
            )
        with self.optimizer.averaged():
            summary = self.evaluator.score(self.validation, progress=self._show_scored).summary()
        self.writer.write(step, "validation", summary)
        if step <= self.experiment.train.eval_every:
            # Of the forward pass, which the first evaluation has just traced.
            self.writer.graph(self.evaluator.trace(self.probe).graph)
        if self.state.save_best(validation_score(summary, self.experiment.eval.best_metric)):
            self._best_step = step

        scores = [f"{name} {summary[name]:.4f}" for name in _SHOWN_SCORES if name in summary]
        if summary["failed_scenes"]:
            scores.append(
                f"failed: {summary['failed_scenes']} of {summary['num_scenes']} scenes (outputs "
                "not finite, counted with the worst value)"
            )
        self.console.say(f"step {step:>8,}  validation  {'  '.join(scores)}")
        evaluation = Evaluation(
            step,
            self.workdir,
            self.model,
            self.evaluator,
            self.validation,
            summary,
            self.writer,
        )
        with self.optimizer.averaged():
            for action in self.actions:
                self.console.working("drawing figures")
                action(evaluation)
        self.console.time_left.add_evaluation(time.monotonic() - start)

    def _show_scored(self, done, total):
        self.console.working("scoring validation scenes", done, total)
