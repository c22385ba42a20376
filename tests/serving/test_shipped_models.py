"""Every model that ships scores what its card says, measured anew on test scenes."""

import numpy as np
import pytest

from tfobj.metrics import video
from tfobj.metrics.scores import SceneScorer
from tfobj.portable import scenes
from tfobj.serving import zoo

NUM_SCENES = 64
TOLERANCE = 0.02
"""The card's mean is over all of its scenes, and its noise is of another seed."""
MOST_BYTES = 60_000_000


def segmentations(decomposer, image, num_frames):
    """Returns the slot of every pixel of images, or of clips, which are tracked one by one."""
    if num_frames is None:
        return decomposer.decompose(image).segmentation
    clips = [[frame.segmentation for frame in decomposer.track(clip)] for clip in image]
    return np.stack([np.concatenate(frames) for frames in clips])


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.read_index())
def test_the_card_is_true(name):
    decomposer = zoo.load(name)
    card = decomposer.metadata["evaluation"]
    protocol = scenes.protocol_of(decomposer.metadata["experiment"]["data"])
    arrays = scenes.generate(protocol, "test", NUM_SCENES)
    num_frames = card.get("num_frames")
    if num_frames is not None:
        arrays = arrays.first_frames(num_frames)

    scorer = SceneScorer(prefixes=video.PREFIXES)
    scorer.update(
        segments=segmentations(decomposer, arrays.image, num_frames), true_mask=arrays.mask
    )
    assert scorer.summary()["fg_ari"] == pytest.approx(card["fg_ari"], abs=TOLERANCE)


def test_what_ships_is_small():
    assert sum(entry["bytes"] for entry in zoo.read_index().values()) <= MOST_BYTES
