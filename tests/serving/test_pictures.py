"""A user's files at their own size: still pictures, animations, videos, and other files."""

import sys

import numpy as np
import pytest
from PIL import Image

from tfobj.datasets import video_files
from tfobj.errors import UserError
from tfobj.serving import pictures

SQUARE = (8, 8)


@pytest.mark.parametrize(
    ("size", "aspect", "fit", "expected"),
    [
        ((20, 60), (1, 1), "crop", (20, 20)),
        ((20, 60), (1, 1), "pad", (60, 60)),
        ((20, 60), (1, 1), "stretch", (20, 60)),
        ((20, 60), (10, 20), "crop", (20, 40)),
        ((20, 60), (10, 20), "pad", (30, 60)),
        ((1000, 2000), (64, 64), "crop", (512, 512)),
        ((1000, 2000), (64, 64), "stretch", (256, 512)),
        ((1, 4000), (64, 64), "stretch", (1, 512)),
    ],
)
def test_fitted_size_has_the_aspect_and_keeps_the_limit(size, aspect, fit, expected):
    assert pictures.fitted_size(size, aspect, fit) == expected


def wide():
    """Returns a picture of 20 x 60 pixels: red, green, blue thirds."""
    image = np.zeros((20, 60, 3), np.uint8)
    for third in range(3):
        image[:, 20 * third : 20 * third + 20, third] = 255
    return image


def read_one(path, **options):
    ((number, image),) = pictures.read(path, SQUARE, **options)
    assert number is None
    return image


def test_stills_keep_their_pixels(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(wide()).save(path)
    np.testing.assert_array_equal(read_one(path), wide()[:, 20:40])
    np.testing.assert_array_equal(read_one(path, fit="stretch"), wide())
    padded = read_one(path, fit="pad")
    np.testing.assert_array_equal(padded[20:40], wide())
    assert padded.shape == (60, 60, 3)
    assert not padded[:20].any()
    assert read_one(path, channels=1).shape == (20, 20, 1)
    assert read_one(path, fit="stretch", max_side=30).shape == (10, 30, 3)


def test_camera_orientation_swaps_the_sides(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    Image.fromarray(wide()).save(tmp_path / "a.png", exif=exif)
    image = read_one(tmp_path / "a.png", fit="stretch")
    assert image.shape == (60, 20, 3)
    assert image[5, 10, 0] == 255
    assert image[55, 10, 2] == 255


def test_animations_are_read_frame_by_frame(tmp_path):
    frames = [Image.fromarray(np.full((10, 20, 3), level, np.uint8)) for level in (0, 100, 200)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    found = list(pictures.read(tmp_path / "a.gif", SQUARE))
    assert [number for number, _ in found] == [0, 1, 2]
    assert [image.shape for _, image in found] == [(10, 10, 3)] * 3
    assert [int(image.mean()) for _, image in found] == [0, 100, 200]
    assert len(list(pictures.read(tmp_path / "a.gif", SQUARE, max_frames=2))) == 2


def test_animations_of_uneven_times_get_a_constant_rate(tmp_path):
    """Their mean rate is four frames in 0.24 s, one in 60 ms."""
    frames = [Image.fromarray(np.full((8, 8, 3), 50 * i, np.uint8)) for i in range(5)]
    times = [40, 40, 120, 40, 40]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=times)
    found = list(pictures.read(tmp_path / "a.gif", SQUARE, even=True))
    assert [number for number, _ in found] == [0, 1, 2, 3, 4]
    assert [int(image.mean()) for _, image in found] == [0, 50, 100, 100, 200]
    assert len(list(pictures.read(tmp_path / "a.gif", SQUARE, even=True, max_frames=2))) == 2
    frames[0].save(tmp_path / "b.gif")
    assert [number for number, _ in pictures.read(tmp_path / "b.gif", SQUARE, even=True)] == [None]


@pytest.mark.parametrize("size", [(4000, 3), (3, 4000), (1, 1)])
def test_thin_strips_are_padded_to_the_models_aspect(tmp_path, size):
    Image.new("RGB", size, (200, 0, 0)).save(tmp_path / "a.png")
    image = read_one(tmp_path / "a.png", fit="pad")
    side = min(512, max(size))
    assert image.shape == (side, side, 3)
    lines = (image == (200, 0, 0)).all(-1)
    assert sorted([lines.any(0).sum(), lines.any(1).sum()]) == [1, side]


def test_files_with_several_pictures_are_pictures(tmp_path):
    first, second = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    for name in ("a.tif", "b.mpo"):
        first.save(tmp_path / name, save_all=True, append_images=[second])
        assert read_one(tmp_path / name)[4, 4, 0] > 250


def test_large_photos_keep_their_shape(tmp_path):
    Image.new("RGB", (4000, 3000), (200, 0, 0)).save(tmp_path / "a.jpg")
    assert read_one(tmp_path / "a.jpg", fit="stretch").shape == (384, 512, 3)
    assert read_one(tmp_path / "a.jpg", fit="crop").shape == (512, 512, 3)


def test_video_without_decoder_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").touch()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(pictures.Unreadable, match=r"tfobj\[video\]"):
        list(pictures.read(tmp_path / "a.mp4", SQUARE))


def test_videos_are_read_frame_by_frame_and_damaged_ones_named(tmp_path):
    frames = np.stack([np.full((32, 64, 3), level, np.uint8) for level in (20, 120, 220)])
    video_files.write_video(tmp_path / "a.mp4", frames, 10.0)
    found = list(pictures.read(tmp_path / "a.mp4", SQUARE))
    assert [number for number, _ in found] == [0, 1, 2]
    assert [image.shape for _, image in found] == [(32, 32, 3)] * 3
    np.testing.assert_allclose([image.mean() for _, image in found], [20, 120, 220], atol=4)

    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:200])
    with pytest.raises(pictures.Unreadable, match="b.mp4` cannot be decoded as a video"):
        list(pictures.read(tmp_path / "b.mp4", SQUARE))


@pytest.mark.parametrize("content", [b"words", b"", b"\x89PNG\r\n\x1a\n broken", b"GIF89a"])
def test_files_that_are_no_pictures_are_named(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    message = "a.png` is not a picture that can be read"
    with pytest.raises(pictures.Unreadable, match=message) as error:
        list(pictures.read(tmp_path / "a.png", SQUARE))
    assert "\n" not in str(error.value)


def test_truncated_and_missing_files_are_named(tmp_path):
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    for name in ("a.png", "b.png", "c.mp4"):
        with pytest.raises(pictures.Unreadable, match=f"{name}` is not a picture"):
            list(pictures.read(tmp_path / name, SQUARE))


def test_an_unknown_fit_is_named(tmp_path):
    with pytest.raises(UserError, match="Unknown fit 'cropp'. Did you mean 'crop'"):
        list(pictures.read(tmp_path / "a.png", SQUARE, fit="cropp"))
