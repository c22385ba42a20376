"""Video files: round trips, times and rates, damaged and missing files, missing PyAV."""

import builtins
import io
import struct

import numpy as np
import pytest
from PIL import Image

from tfobj.data import media
from tfobj.datasets import video_files
from tfobj.datasets.video_files import Video, read_video, write_video
from tfobj.errors import UserError
from tfobj.serving import pictures

pytest.importorskip("av")


def moving_square(num_frames=12, height=64, width=96, channels=3):
    """Returns a red square on gray that moves 6 columns per frame."""
    color = (200, 40, 60) if channels == 3 else 200
    frames = np.full((num_frames, height, width, channels), 90, np.uint8)
    for frame in range(num_frames):
        left = 6 * frame
        frames[frame, 16:48, left : left + 20] = color
    return frames


def difference(frames, expected):
    return np.abs(frames.astype(int) - expected).mean()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "square.mp4"
    write_video(path, moving_square(), 25.6)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_what_is_written_is_read(tmp_path, suffix):
    """Not exactly: colour is stored at half the resolution."""
    path = tmp_path / f"clip{suffix}"
    write_video(path, moving_square(), 25.6)
    video = read_video(path)

    assert video.frames.shape == (12, 64, 96, 3)
    assert video.frames.dtype == np.uint8
    assert difference(video.frames, moving_square()) < 3
    np.testing.assert_allclose(video.times, np.arange(12) / 25.6, atol=1e-3)
    assert video.frame_rate == pytest.approx(25.6, rel=1e-3)
    assert not video.has_variable_rate
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_gray_frames_of_odd_sides_from_an_iterator_are_padded(tmp_path):
    frames = moving_square(3, 33, 47, channels=1)
    write_video(tmp_path / "gray.mp4", iter(frames), 10)
    video = read_video(tmp_path / "gray.mp4")
    assert video.frames.shape == (3, 34, 48, 3)
    assert difference(video.frames[:, :33, :47], frames) < 3
    assert difference(video.frames[:, 33], video.frames[:, 32].astype(int)) < 3


def test_mpeg4_is_written_where_h264_is_missing(tmp_path, monkeypatch):
    codecs = {"none": {}, "mpeg4": video_files._CODECS["mpeg4"]}
    monkeypatch.setattr(video_files, "_CODECS", codecs)
    write_video(tmp_path / "clip.mp4", moving_square(), 10)
    assert difference(read_video(tmp_path / "clip.mp4").frames, moving_square()) < 3


def test_first_frames_and_a_single_frame_can_be_read(clip):
    assert read_video(clip, max_frames=5).frames.shape[0] == 5

    single = read_video(clip, max_frames=1)
    assert single.frames.shape[0] == 1
    assert single.times.tolist() == [0.0]
    assert not single.has_variable_rate
    assert single.resampled(10).frames.shape[0] == 1


def test_frames_come_one_by_one_and_the_file_is_closed(clip):
    frames = video_files.iterate_frames(clip)
    time, frame = next(frames)
    assert time == 0.0
    assert frame.shape == (64, 96, 3)

    frames.close()
    assert len(list(video_files.iterate_frames(clip))) == 12


def test_file_objects_are_read(clip):
    buffer = io.BytesIO(clip.read_bytes())
    np.testing.assert_array_equal(read_video(buffer).frames, read_video(clip).frames)


@pytest.mark.parametrize("name", ["data:1.mp4", "%03d $x$.mp4", "two\nlines.mp4", "\udcff.mp4"])
def test_files_of_any_name_are_read(clip, tmp_path, name):
    (tmp_path / name).write_bytes(clip.read_bytes())
    np.testing.assert_array_equal(read_video(tmp_path / name).frames, read_video(clip).frames)
    assert len(list(media.iterate_frames(tmp_path / name))) == 12
    (tmp_path / name).write_bytes(b"no video")
    with pytest.raises(video_files.Unreadable) as error:
        read_video(tmp_path / name)
    assert str(error.value).isprintable()


def write_gif(path, durations):
    first, *others = map(Image.fromarray, moving_square(len(durations)))
    first.save(path, save_all=True, append_images=others, duration=durations)


def test_gif_with_frames_of_different_durations_has_a_variable_rate(tmp_path):
    """Few colours are stored exactly."""
    write_gif(tmp_path / "a.gif", [100, 50, 200, 100])
    video = read_video(tmp_path / "a.gif")
    np.testing.assert_allclose(video.times, [0, 0.1, 0.15, 0.35])
    np.testing.assert_array_equal(video.frames, moving_square(4))
    assert video.has_variable_rate
    assert video.frame_rate == pytest.approx(3 / 0.35)

    even = read_video(tmp_path / "a.gif", frame_rate=20)
    np.testing.assert_array_equal(even.frames, moving_square(4)[[0, 0, 1, 2, 2, 2, 2, 3]])
    np.testing.assert_allclose(even.times, np.arange(8) / 20)
    assert even.frame_rate == 20
    assert not even.has_variable_rate


def test_gif_with_frames_of_one_duration_has_a_constant_rate(tmp_path):
    write_gif(tmp_path / "a.gif", [40] * 4)
    video = read_video(tmp_path / "a.gif")
    assert not video.has_variable_rate
    assert video.frame_rate == pytest.approx(25)


def video_at(times):
    """Returns a video of single pixels, whose gray levels are the numbers of the frames."""
    numbers = np.arange(len(times), dtype=np.uint8)
    frames = numbers[:, None, None, None] * np.ones((1, 1, 1, 3), np.uint8)
    return Video(frames, np.array(times), 30.0)


def test_rounded_clocks_are_no_variable_rate():
    """At 30 frames per second, milliseconds are 0, 33, 67, 100 ..."""
    video = video_at(np.round(np.arange(60) / 30, 3))
    assert not video.has_variable_rate
    np.testing.assert_array_equal(video.resampled().frames, video.frames)
    np.testing.assert_array_equal(video.resampled(15).frames, video.frames[::2])
    assert video.resampled(60).frames.shape[0] == 119


def test_a_gap_is_filled_with_the_frame_before_it():
    uneven = video_at([0, 1 / 30, 2 / 30, 5 / 30])
    assert uneven.has_variable_rate
    np.testing.assert_array_equal(uneven.resampled(30).frames[:, 0, 0, 0], [0, 1, 2, 2, 2, 3])


@pytest.mark.parametrize("rate", [7.0, 24.0, 60.0, 91.0])
def test_a_stream_at_constant_rate_has_the_frames_of_the_clip(rate):
    times = np.cumsum(np.random.default_rng(3).exponential(1 / 30, 40)) - 0.01
    video = video_at(times - times[0])
    stream = list(video_files.at_constant_rate(zip(video.times, video.frames, strict=True), rate))
    expected = video.resampled(rate)
    np.testing.assert_array_equal(np.stack([frame for _, frame in stream]), expected.frames)
    np.testing.assert_allclose([time for time, _ in stream], expected.times)


def write_uneven(path, frames, milliseconds):
    """Writes a video whose frames appear at given times."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=1000)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame, time in zip(frames, milliseconds, strict=True):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts = time
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def uneven_clip(tmp_path_factory):
    """A clip whose mean rate is four frames in 0.24 s, one in 60 ms."""
    path = tmp_path_factory.mktemp("uneven") / "uneven.mkv"
    write_uneven(path, moving_square(5), [0, 40, 80, 200, 240])
    return path


def test_times_of_frames_are_known_without_decoding(clip, uneven_clip):
    """This includes frames that are stored in another order than they are shown."""
    for path in (clip, uneven_clip):
        np.testing.assert_allclose(video_files.frame_times(path), read_video(path).times, atol=1e-9)
    assert video_files.is_uneven(video_files.frame_times(uneven_clip))


def test_frames_for_a_video_model_have_a_constant_rate(uneven_clip):
    plain = [image for _, image in pictures.read(uneven_clip, (64, 96), even=False)]
    even = [image for _, image in pictures.read(uneven_clip, (64, 96), even=True)]
    assert len(plain) == 5
    np.testing.assert_array_equal(even, [plain[i] for i in (0, 1, 2, 2, 4)])


UPRIGHT = {
    (1, 0, 0, 1): lambda x: x,
    (0, 1, -1, 0): lambda x: np.rot90(x, -1, axes=(1, 2)),
    (0, -1, 1, 0): lambda x: np.rot90(x, 1, axes=(1, 2)),
    (-1, 0, 0, -1): lambda x: x[:, ::-1, ::-1],
    (-1, 0, 0, 1): lambda x: x[:, :, ::-1],
    (1, 0, 0, -1): lambda x: x[:, ::-1],
    (0, 1, 1, 0): lambda x: x.swapaxes(1, 2),
    (0, -1, -1, 0): lambda x: x[:, ::-1, ::-1].swapaxes(1, 2),
}


@pytest.mark.parametrize("matrix", UPRIGHT)
def test_frames_are_turned_and_mirrored_as_the_camera_noted(clip, tmp_path, matrix):
    """The matrix is in the track header of the file, as phones write it."""
    content = bytearray(clip.read_bytes())
    place = content.index(b"tkhd") + 4 + 4 + 20 + 16
    a, b, c, d = (value << 16 for value in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "upright.mp4").write_bytes(content)

    frames = read_video(tmp_path / "upright.mp4").frames
    np.testing.assert_array_equal(frames, UPRIGHT[matrix](read_video(clip).frames))


def write_plain(path, colour, size=(64, 96), matrix=None, colour_range=1, aspect=None):
    """Writes a video of one colour by FFmpeg's number of a colour matrix; None leaves it out.

    `aspect` is the width of a pixel relative to its height.
    """
    import av

    # Without a tag, players go by the size.
    used = matrix
    if used is None:
        used = 1 if size[0] > 576 else 5
    frame = np.empty((*size, 3), np.uint8)
    frame[:] = colour
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "4"})
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        if matrix is not None:
            stream.codec_context.colorspace = matrix
            stream.codec_context.color_range = colour_range
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(
            format="yuv420p", dst_colorspace=used, dst_color_range=colour_range
        )
        container.mux(stream.encode(picture))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    "options",
    [
        {"matrix": 1},
        {"matrix": 1, "colour_range": 2},
        {"matrix": 5},
        {"matrix": 6, "size": (720, 1280)},
        {"matrix": 9},
        {},
        {"size": (720, 1280)},
    ],
    ids=lambda options: str(options) or "untagged",
)
def test_colours_are_those_of_the_matrix_that_the_video_names(tmp_path, options):
    colour = (0, 188, 0)
    write_plain(tmp_path / "a.mp4", colour, **options)
    found = read_video(tmp_path / "a.mp4").frames[0, 20, 20]
    assert np.abs(found.astype(int) - colour).max() <= 4


@pytest.mark.parametrize("size", [(64, 96), (720, 1280)])
def test_written_colours_are_read(tmp_path, size):
    frame = np.empty((1, *size, 3), np.uint8)
    frame[:] = (0, 188, 60)
    write_video(tmp_path / "a.mp4", frame, 10)
    assert difference(read_video(tmp_path / "a.mp4").frames, frame) < 3


@pytest.mark.parametrize(
    ("aspect", "expected"),
    [
        ((16, 15), (64, 102)),
        ((1, 2), (128, 96)),
        ((1, 1), (64, 96)),
        ((100, 1), (64, 96)),
    ],
)
def test_pixels_become_square(tmp_path, aspect, expected):
    """An aspect beyond all reason is a mistake in the header."""
    import fractions

    write_plain(tmp_path / "a.mp4", (50, 100, 150), aspect=fractions.Fraction(*aspect))
    assert read_video(tmp_path / "a.mp4").frames.shape == (1, *expected, 3)


@pytest.fixture(scope="module")
def noisy_clips(tmp_path_factory):
    """Returns the content of a video of 40 frames by suffix."""
    folder = tmp_path_factory.mktemp("noise")
    noise = np.random.default_rng(0).integers(0, 255, (40, 32, 48, 3), np.uint8)
    contents = {}
    for suffix in (".mp4", ".mkv", ".mov"):
        write_video(folder / f"a{suffix}", noise, 25)
        contents[suffix] = (folder / f"a{suffix}").read_bytes()
    contents[".faststart.mp4"] = encoded(folder / "b.mp4", noise, {"movflags": "faststart"})
    contents[".avi"] = encoded(folder / "b.avi", noise, {})
    return contents


def encoded(path, frames, options):
    """Returns the content of a video that is written to `path` with options of its container."""
    import av

    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path.read_bytes()


@pytest.mark.parametrize("kept", [0.6, 0.9, 0.99])
@pytest.mark.parametrize("suffix", [".mp4", ".faststart.mp4", ".mkv", ".mov", ".avi"])
def test_a_video_that_was_cut_short_is_damaged(tmp_path, noisy_clips, suffix, kept):
    """FFmpeg alone takes many of them for shorter videos."""
    content = noisy_clips[suffix]
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(content)
    assert len(list(media.iterate_frames(path))) == 40

    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(video_files.Unreadable, match=f"cut{suffix}` cannot be decoded as a video"):
        next(media.iterate_frames(path))
    with pytest.raises(video_files.Unreadable, match=f"cut{suffix}` cannot be decoded as a video"):
        read_video(path)

    # Without its index at the end, nothing of an MP4 file can be read.
    if suffix in (".mp4", ".mov"):
        return
    damages = []
    frames = list(media.iterate_frames(path, use_damaged=True, damages=damages))
    # The end of an AVI file is an index, which its frames do without.
    assert 10 < len(frames) < 40 or (suffix == ".avi" and kept > 0.9)
    assert len(damages) == 1


@pytest.mark.parametrize("name", ["text.mp4", "empty.mp4", "cut.mp4", "nowhere.mp4"])
def test_unreadable_files_give_one_line(clip, tmp_path, name):
    content = clip.read_bytes()
    damaged = {"text.mp4": b"no video", "empty.mp4": b"", "cut.mp4": content[: len(content) // 2]}
    if name in damaged:
        (tmp_path / name).write_bytes(damaged[name])

    message = rf"{name}` cannot be decoded as a video \("
    with pytest.raises(video_files.Unreadable, match=message) as error:
        read_video(tmp_path / name)
    assert "\n" not in str(error.value)


def test_sound_alone_is_not_a_video(tmp_path):
    import av

    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())

    message = "sound.mp4` must hold a video. Received: a file with other content"
    with pytest.raises(UserError, match=message):
        read_video(tmp_path / "sound.mp4")


def test_frames_of_changing_size_are_refused(clip, monkeypatch):
    frames = [(0.0, np.zeros((4, 6, 3), np.uint8)), (0.1, np.zeros((6, 4, 3), np.uint8))]
    monkeypatch.setattr(video_files, "iterate_frames", lambda path: iter(frames))
    with pytest.raises(UserError, match="must hold frames of one size. Received: 6x4 and 4x6"):
        read_video(clip)


def test_a_file_without_frames_is_refused(tmp_path):
    import av

    with av.open(str(tmp_path / "none.mkv"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = 32
        stream.height = 32
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode())
    with pytest.raises(video_files.Unreadable, match="none.mkv` "):
        read_video(tmp_path / "none.mkv")


@pytest.mark.parametrize(
    "name, frames, rate, message",
    [
        ("a.avj", moving_square(), 10, "`path` must end in .mp4, .mov, .mkv. Received"),
        ("a.mp4", [], 10, "`frames` must hold at least one frame"),
        (
            "a.mp4",
            moving_square().astype(float),
            10,
            r"`frames` must be uint8 .* Received: a frame of shape \(64, 96, 3\), dtype float64",
        ),
        ("a.mp4", moving_square()[..., :2], 10, "`frames` must be uint8"),
        ("a.mp4", [moving_square()[0], moving_square()[0, :32]], 10, "`frames` must have one size"),
        ("a.mp4", moving_square(), 0, "`frame_rate` must be positive. Received: frame_rate=0"),
    ],
)
def test_errors_of_writing_leave_nothing(tmp_path, name, frames, rate, message):
    with pytest.raises(UserError, match=message) as error:
        write_video(tmp_path / name, frames, rate)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_wrong_arguments_are_refused(clip):
    with pytest.raises(UserError, match="`max_frames` must be at least 1. Received: max_frames=0"):
        read_video(clip, max_frames=0)
    with pytest.raises(UserError, match="`frame_rate` must be positive. Received: frame_rate=-1"):
        read_video(clip, frame_rate=-1)


def test_missing_pyav_says_what_to_install(clip, monkeypatch):
    original = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "av":
            raise ImportError("No module named 'av'")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    message = r"square.mp4` is a video, and .* needs PyAV: pip install tfobj\[video\]"
    with pytest.raises(UserError, match=message):
        read_video(clip)
    with pytest.raises(UserError, match=r"pip install tfobj\[video\]"):
        write_video(clip.with_name("b.mp4"), moving_square(), 10)
