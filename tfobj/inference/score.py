"""Decode, score, and differentiate: what every refinement step of iterative amortised inference begins with.

A step needs the gradient of its likelihood with respect to the latents (it is an input of the refinement network), and
training needs that of the whole loss with respect to the decoder's weights. Written down plainly, the decoder is
differentiated twice per step: once by the step, once by the outer backward pass. Where the decoder reaches the
outer loss through the step's likelihood alone (all its outputs are stopped on their way into the refinement
network: EfficientMORL, and IODINE with such inputs), both gradients are multiples of each other,

    d sum_t w_t NLL_t / d z_t = w_t dNLL_t/dz_t ,     d sum_t w_t NLL_t / d theta = sum_t w_t dNLL_t/dtheta ,

and one pass yields both: 14 % (one refinement) to 20 % (three) of the work of a training step less, and the decoder's
activations are free at once, so that their memory is that of one decode.
"""

import tensorflow as tf


def decode_and_score(render, read, latents, weight_terms, stopped=False):
    """Returns (decoded, nll, terms, latent gradient) of one decode.

    Args:
      render: function of (latents, weight_terms) -> decoded [B, K, H, W, C].
      read: function of decoded -> (nll [B], terms (nest of tensors), d sum nll / d decoded).
      latents: [B, K, D].
      weight_terms: nest of tensors that depend on the decoder's weights alone (`BroadcastDecoder.weight_terms`).
      stopped: no gradient flows back through decoded, terms and latent gradient, which makes one decoder
        backward enough. The gradient of `nll` is then exact for losses that weigh all scenes of the batch
        equally: means or sums over scenes.
    """
    if stopped:
        return _stopped(render, read, latents, weight_terms)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(latents)
        decoded = render(latents, weight_terms)
    nll, terms, decoded_gradient = read(decoded)
    return decoded, nll, terms, tape.gradient(decoded, latents, output_gradients=decoded_gradient)


def _stopped(render, read, latents, weight_terms):
    structure = []

    @tf.custom_gradient
    def run(latents, *flat_weight_terms):
        with tf.GradientTape() as tape:
            tape.watch([latents, *flat_weight_terms])
            decoded = render(latents, tf.nest.pack_sequence_as(weight_terms, flat_weight_terms))
        weights = tape.watched_variables()
        nll, terms, decoded_gradient = read(decoded)
        to_latents, to_weight_terms, to_weights = tape.gradient(
            decoded,
            [latents, list(flat_weight_terms), list(weights)],
            output_gradients=decoded_gradient,
            unconnected_gradients="zero",
        )
        structure.append(terms)

        def gradient(upstream, *_, variables=()):
            weight = tf.reduce_mean(upstream)  # d loss / d nll_b, the same for every scene b
            by_weight = {w.ref(): g for w, g in zip(weights, to_weights, strict=True)}
            to_inputs = [
                to_latents * upstream[:, None, None],
                *(g * tf.cast(weight, g.dtype) for g in to_weight_terms),
            ]
            to_variables = [
                by_weight[v.ref()] * weight if v.ref() in by_weight else None for v in variables
            ]
            return (to_inputs, to_variables) if variables else to_inputs

        return (nll, decoded, to_latents, *tf.nest.flatten(terms)), gradient

    nll, decoded, to_latents, *flat_terms = run(latents, *tf.nest.flatten(weight_terms))
    return decoded, nll, tf.nest.pack_sequence_as(structure[0], flat_terms), to_latents
