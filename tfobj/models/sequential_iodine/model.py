"""IODINE on clips (Greff et al. 2019, appendix A.1): one refinement per frame.

Cell t decodes lambda, which has seen the frames before, scores frame t with it, and refines. So L_t measures a prediction, and training
on sum_t w_t L_t, w_t = t / (T - 1), teaches the refinement network and its LSTM to look ahead; slots keep their objects without any matching.

The same cells with the weights of a model of pictures are SEQ-IODINE, as Zablotskaia et al. 2020 evaluated it (supplement A.3): R becomes
the number of frames. Run for more steps than it was trained for, its gradients explode; they clamp gradients and updates to +-10
(`clamp`, on binary balls).
"""

import dataclasses

import keras
import tensorflow as tf

from tfobj.config import require
from tfobj.distributions.gaussian import diagonal_gaussian
from tfobj.inference.schedules import refinement_loss_weight
from tfobj.models.iodine.model import Iodine, IodineConfig
from tfobj.models.video import VideoConfig, VideoModel
from tfobj.nn.slots import batch_and_slots, fold_slots, unfold_slots


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequentialIodineConfig(VideoConfig, IodineConfig):
    """Sequential IODINE: the settings of IODINE, of which `num_steps` means nothing here, and those of clips."""

    num_frames: int = 4
    curriculum: tuple[tuple[int, int], ...] = ()
    """((step, frames), ...): clips become longer."""
    clamp: float | None = None
    """Bound on every gradient that the refinement sees and on every number of its update; none: no bound."""

    minimum_frames = 2

    def __post_init__(self):
        super().__post_init__()
        require(
            self.clamp is None or self.clamp > 0, "model.clamp", "positive, or none", self.clamp
        )
        require(
            self.loss_weights != "list",
            "model.loss_weights",
            "linear or constant: clips differ in length",
            self.loss_weights,
        )


@keras.saving.register_keras_serializable("tfobj")
class SequentialIodine(VideoModel, Iodine):
    """IODINE on clips; see the module's docstring."""

    config_class = SequentialIodineConfig
    has_steps = False
    has_prior = False

    def memory_names(self):
        return "posterior", *(("hidden", "cell") if self.config.lstm_size else ())

    def initial_memory(self, batch, num_slots, seed):
        """Returns (lambda, and h, c of the LSTM if there is one), before the first frame."""
        memory = self.refinement.initial_memory(batch * num_slots)
        return self.first_posterior(batch, num_slots), *(
            unfold_slots(m, batch, num_slots) for m in memory
        )

    def operators(self):
        return self.decoder.operators()

    def cell(self, image, memory, seed, cell, num_steps, operators):
        posterior, *lstm = memory
        evidence = self.clamped(
            self.score(image, posterior, seed, cell.frame, operators, training=True)
        )
        memory = self.refined(image, posterior, evidence, lstm)
        num_frames = 2 if cell.num_frames is None else cell.num_frames
        last = (
            max(num_frames - 1, 1) if isinstance(num_frames, int) else tf.maximum(num_frames - 1, 1)
        )  # a clip of one frame has no weight to divide
        weight = refinement_loss_weight(cell.frame, last, self.config.loss_weights)
        kl = tf.reduce_sum(evidence.kl, axis=1)
        return (
            memory,
            weight * self.negative_elbo(evidence),
            {**self.record(posterior, evidence), "nll": evidence.nll, "kl": kl},
        )

    def imagined_cell(self, memory, seed, cell, num_steps, operators):
        """The drawing of the posterior mean takes the place of the frame, and refines like one."""
        posterior, *lstm = memory
        drawn = self.mixture(
            self.render(diagonal_gaussian(posterior).distribution.loc, operators)
        ).mean()
        evidence = self.clamped(self.score(drawn, posterior, seed, cell.frame, operators))
        return self.refined(drawn, posterior, evidence, lstm), self.record(posterior, evidence)

    def refined(self, image, posterior, evidence, lstm):
        """Returns the memory after the refinement by a frame."""
        batch, num_slots = batch_and_slots(posterior)
        new, lstm = self.update(image, posterior, evidence, [fold_slots(m) for m in lstm])
        if self.config.clamp is not None:
            new = posterior + tf.clip_by_value(
                new - posterior, -self.config.clamp, self.config.clamp
            )
        return new, *(unfold_slots(m, batch, num_slots) for m in lstm)

    def clamped(self, evidence):
        """Returns the evidence with its gradients within +- `clamp`."""
        bound = self.config.clamp
        if bound is None:
            return evidence
        clip = lambda x: tf.clip_by_value(x, -bound, bound)
        terms = evidence.terms._replace(
            means_gradient=clip(evidence.terms.means_gradient),
            logits_gradient=clip(evidence.terms.logits_gradient),
        )
        return evidence._replace(terms=terms, posterior_gradient=clip(evidence.posterior_gradient))

    def record(self, posterior, evidence):
        """Returns what `VideoModel` keeps of a frame."""
        mixture = self.mixture(evidence.decoded)
        return {
            "recon": mixture.mean(),
            "masks": mixture.masks,
            "slot_recons": mixture.means,
            "slots": diagonal_gaussian(posterior).distribution.loc,
        }

    @classmethod
    def of_pictures(cls, model, clamp=None):
        """Returns SEQ-IODINE: this class with settings and weights of an `Iodine` that was trained on pictures."""
        config = cls.config_class.from_dict({**model.config.to_dict(), "clamp": clamp})
        sequential = cls(config, run_seed=model.run_seed)
        sequential.set_weights(model.get_weights())
        return sequential
