"""Scores without TensorFlow and SciPy are those of every evaluation, for images and clips."""

import numpy as np
import pytest

from tfobj.data.packed import SceneArrays
from tfobj.metrics.scores import SceneScorer
from tfobj.portable import scoring


@pytest.mark.parametrize("frames", [(), (11,)], ids=["images", "clips"])
def test_scores_are_those_of_an_evaluation(frames):
    rng = np.random.default_rng(0)
    scenes = SceneArrays(
        rng.integers(0, 256, (7, *frames, 6, 5, 3), dtype=np.uint8),
        rng.integers(0, 3, (7, *frames, 6, 5), dtype=np.uint8),
    )
    scenes.mask[2] = 0  # nothing to score in the foreground
    masks = rng.random((7, *frames, 4, 6, 5, 1), dtype=np.float32)
    recon = rng.random((7, *frames, 6, 5, 3), dtype=np.float32)
    masks[5, ..., 0, 0, 0, 0] = np.nan
    recon[6, ..., 0, 0, 0] = np.inf

    def forward(image, seed):
        rows = np.minimum(seed[2] + np.arange(len(image)), 6)
        return masks[rows], recon[rows]

    got = scoring.score(forward, scenes, batch_size=4, seed=1)
    scorer = SceneScorer()
    image = scenes.image.astype(np.float32) / np.float32(255.0)
    scorer.update(image=image, recon=recon, masks=masks, true_mask=scenes.mask)
    expected = scorer.summary()
    assert {"mse", "fg_ari", "ari", "failed_fg_ari", "undefined_fg_ari"} < got.keys()
    assert ("fg_ari_frame_10" in got) == bool(frames)
    assert got == pytest.approx({name: expected[name] for name in got}, nan_ok=True)
