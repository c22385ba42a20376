"""Clips as arrays and as streams of windows."""

import numpy as np
import pytest

from tfobj.data.packed import SceneArrays
from tfobj.data.pipeline import BatchStream
from tfobj.errors import UserError


def clips(num=3, frames=7):
    """Clips whose pixels say clip and frame: 10 * clip + frame."""
    values = (10 * np.arange(num)[:, None] + np.arange(frames)).astype(np.uint8)
    image = np.broadcast_to(values[:, :, None, None, None], (num, frames, 2, 2, 1)).copy()
    return SceneArrays(
        image,
        image[..., 0].copy(),
        factors={"radius": np.zeros((num, 2), np.float32)},
        tracks={"position": np.zeros((num, frames, 2, 2), np.float32)},
    )


def test_windows_do_not_overlap_and_every_one_is_seen_once():
    stream = BatchStream(clips(), batch_size=2, seed=5, num_frames=3)
    assert stream.num_scenes == 6  # two windows of three of seven frames, of three clips
    firsts = [
        int(window[0, 0, 0, 0]) for step in range(3) for window in stream.batch(step)["image"]
    ]
    assert sorted(firsts) == [0, 3, 10, 13, 20, 23] and firsts != sorted(firsts)
    batch = stream.batch(0)
    assert batch["image"].shape == (2, 3, 2, 2, 1) and batch["mask"].shape == (2, 3, 2, 2)
    np.testing.assert_array_equal(
        np.diff(batch["image"][:, :, 0, 0, 0].astype(int), axis=1), np.ones((2, 2))
    )


def test_tensorflow_reads_the_same_windows():
    stream = BatchStream(clips(), batch_size=4, seed=5, num_frames=2)
    for step, batch in zip(range(2, 6), stream.dataset(start_step=2), strict=False):
        expected = stream.batch(step)
        np.testing.assert_allclose(
            batch["image"], expected["image"].astype(np.float32) / np.float32(255)
        )
        np.testing.assert_array_equal(batch["mask"], expected["mask"])


def test_first_frames_and_frames_as_pictures():
    arrays = clips()
    short = arrays.first_frames(2)
    assert (
        short.num_frames == 2
        and short.mask.shape == (3, 2, 2, 2)
        and short.tracks["position"].shape == (3, 2, 2, 2)
    )

    pictures = arrays.frames()
    assert (
        pictures.num_frames is None
        and len(pictures) == 21
        and pictures.factors == pictures.tracks == {}
    )
    np.testing.assert_array_equal(pictures.image[:8, 0, 0, 0], [0, 1, 2, 3, 4, 5, 6, 10])


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: clips().first_frames(8),
            r"`num_frames` must be in 1 ... 7. Received: num_frames=8.",
        ),
        (
            lambda: BatchStream(clips(), 2),
            "`num_frames` must be given for clips, and not for images. Received: num_frames=None.",
        ),
        (
            lambda: BatchStream(clips().frames(), 2, num_frames=3),
            "`num_frames` must be given for clips, and not for images. Received: num_frames=3.",
        ),
        (
            lambda: BatchStream(clips(), 2, num_frames=8),
            "`num_frames` must be at most the 7 frames of the clips. Received: num_frames=8.",
        ),
    ],
)
def test_wrong_numbers_of_frames(make, message):
    with pytest.raises(UserError, match=message):
        make()
