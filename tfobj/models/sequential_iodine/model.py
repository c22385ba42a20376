"""Sequential IODINE: one refinement per frame of a video clip (Greff et al. 2019, appendix A.1).

Cell t decodes lambda, which depends on the frames before t, scores frame t with it, and refines
it. So L_t measures a prediction, and training on sum_t w_t L_t with w_t = t / (T - 1) teaches the
refinement network and its LSTM to look ahead. Slots keep their objects without any matching.

The same cells with the weights of an image model are SEQ-IODINE as evaluated by Zablotskaia et
al. 2020 (supplement A.3): R becomes the number of frames. With more steps than in training, the
gradients of that model explode; on binary balls they clamp gradients and updates to +-10
(`clamp`).
"""

import keras
import tensorflow as tf

from tfobj.distributions.gaussian import diagonal_gaussian
from tfobj.inference.graph_schedules import refinement_loss_weight
from tfobj.models.iodine.model import Iodine
from tfobj.models.sequential_iodine.config import SequentialIodineConfig
from tfobj.models.video import VideoModel
from tfobj.nn import static
from tfobj.nn.slots import batch_and_slots, fold_slots, unfold_slots


@keras.saving.register_keras_serializable("tfobj")
class SequentialIodine(VideoModel, Iodine):
    """Sequential IODINE; see the module's docstring."""

    config_class = SequentialIodineConfig
    has_steps = False
    has_prior = False

    def memory_names(self):
        if self.config.lstm_size:
            return "posterior", "hidden", "cell"
        return ("posterior",)

    def initial_memory(self, batch, num_slots, seed):
        """Returns lambda before the first frame, and (h, c) of the LSTM if there is one."""
        lstm = self.refinement.initial_memory(batch * num_slots)
        posterior = self.first_posterior(batch, num_slots)
        return posterior, *(unfold_slots(m, batch, num_slots) for m in lstm)

    def weight_terms(self):
        return self.decoder.weight_terms()

    def run_cell(self, image, memory, seed, cell, num_steps, weight_terms):
        posterior, *lstm = memory
        scored = self.score(image, posterior, seed, cell.frame, weight_terms, training=True)
        scored = self.clamped(scored)
        memory = self.refined(image, posterior, scored, lstm)

        loss = self.frame_weight(cell) * self.negative_elbo(scored)
        kl = tf.reduce_sum(scored.kl, axis=1)
        frame_outputs = {**self.frame_outputs(posterior, scored), "nll": scored.nll, "kl": kl}
        return memory, loss, frame_outputs

    def imagine_cell(self, memory, seed, cell, num_steps, weight_terms):
        """Refines lambda by its own prediction: the decoded posterior mean replaces the frame."""
        posterior, *lstm = memory
        mean = diagonal_gaussian(posterior).distribution.loc
        predicted = self.mixture(self.render(mean, weight_terms)).mean()
        scored = self.clamped(self.score(predicted, posterior, seed, cell.frame, weight_terms))
        memory = self.refined(predicted, posterior, scored, lstm)
        return memory, self.frame_outputs(posterior, scored)

    def frame_weight(self, cell):
        """Returns w_t, the weight of a frame's loss; in a stream, that of clips of two frames."""
        num_frames = cell.num_frames
        if num_frames is None:
            num_frames = 2
        # A clip of one frame would divide by zero.
        last = static.maximum(num_frames - 1, 1)
        return refinement_loss_weight(cell.frame, last, self.config.loss_weights)

    def refined(self, image, posterior, scored, lstm):
        """Returns the memory after the refinement by a frame [B, H, W, C]."""
        batch, num_slots = batch_and_slots(posterior)
        new, lstm = self.update(image, posterior, scored, [fold_slots(m) for m in lstm])
        if self.config.clamp is not None:
            bound = self.config.clamp
            new = posterior + tf.clip_by_value(new - posterior, -bound, bound)
        return new, *(unfold_slots(m, batch, num_slots) for m in lstm)

    def clamped(self, scored):
        """Returns the `ScoredDecode` with all gradients within +- `clamp`."""
        bound = self.config.clamp
        if bound is None:
            return scored

        def clip(x):
            return tf.clip_by_value(x, -bound, bound)

        terms = scored.terms._replace(
            means_gradient=clip(scored.terms.means_gradient),
            logits_gradient=clip(scored.terms.logits_gradient),
        )
        return scored._replace(terms=terms, posterior_gradient=clip(scored.posterior_gradient))

    def frame_outputs(self, posterior, scored):
        """Returns the outputs of a frame that are not terms; see `VideoModel.run_cell`."""
        mixture = self.mixture(scored.decoded)
        return {
            "recon": mixture.mean(),
            "masks": mixture.masks,
            "slot_recons": mixture.means,
            "slots": diagonal_gaussian(posterior).distribution.loc,
        }

    @classmethod
    def of_pictures(cls, model, clamp=None):
        """Returns SEQ-IODINE: a model with the settings and weights of a trained `Iodine`."""
        config = cls.config_class.from_dict({**model.config.to_dict(), "clamp": clamp})
        sequential = cls(config, run_seed=model.run_seed)
        sequential.set_weights(model.get_weights())
        return sequential
