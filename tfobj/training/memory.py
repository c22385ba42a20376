"""How a step saves memory under `train.memory=low`: parts of a batch, or one cell at a time."""

from typing import NamedTuple

from tfobj.nn.batch_norm import BatchNorm

LEAST_PIXELS = 32_768
"""Pixels of all slots together that a part of the batch has at least: seven scenes of Tetris, two
of Multi-dSprites. With half as many, a step of Slot Attention takes 1.2 and one of MONet 1.7 times
as long on a CPU."""


class MemoryPlan(NamedTuple):
    """What a training step does about its memory."""

    micro_batches: int
    """Parts in which a replica's share of the batch is processed."""
    rematerialise: bool
    """Whether activations are recomputed for the gradient."""
    reason: str = ""
    """A line for the user; empty where the settings say it all."""


def plan_memory(experiment, model, replicas):
    """Returns the `MemoryPlan` of an `ExperimentConfig` for a built model on so many replicas.

    `train.memory=low` divides the batches of models of images as far as parts keep `LEAST_PIXELS`,
    which makes the same update. It recomputes the cells of models of clips, whose batches get
    smaller as their clips get longer. Batch norms see a part alone, so a model with them is left as
    it is; so is one for which `train.micro_batches` or `train.rematerialise` is given.
    """
    config = experiment.train
    plan = MemoryPlan(config.micro_batches, config.rematerialise)
    if config.memory != "low" or plan != (1, False, ""):
        return plan

    if experiment.model.is_video:
        reason = "cells are recomputed for the gradient (train.rematerialise=true)"
        return MemoryPlan(1, True, reason)

    layers = model._flatten_layers(include_self=False)
    if any(isinstance(layer, BatchNorm) for layer in layers):
        return plan._replace(reason="nothing to save without changing what batch norms see")

    height, width = experiment.model.image_size
    share = config.batch_size // replicas
    enough = LEAST_PIXELS / (experiment.model.num_slots * height * width)
    scenes = next(n for n in range(1, share + 1) if share % n == 0 and (n >= enough or n == share))
    reason = (
        f"{share // scenes} parts of {scenes} scene{'s' * (scenes > 1)} after each other "
        f"(train.micro_batches={share // scenes})"
    )
    return MemoryPlan(share // scenes, False, reason)
