"""Reads and writes video files: mp4, webm, mov, avi, mkv, and animated GIF, by PyAV (`pip install tfobj[video]`).

Frames come with the times at which they are shown, so that a variable frame rate is seen and can be made constant.

Axes: T frames, H x W pixels.
"""

import contextlib
import dataclasses
import fractions
import pathlib

import numpy as np

from tfobj import files
from tfobj.errors import UserError, first_line

SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".gif")
"""Of files that are clips. PyAV knows many more kinds, and goes by a file's content."""

WRITTEN_SUFFIXES = (".mp4", ".mov", ".mkv")

# Intervals between frames that differ by more than this share of the usual one are no rounding of the file's clock.
_UNEVEN = 0.2
# A frame that appears so late, in intervals, is still in time for a constant rate: clocks may tick in milliseconds.
_LATE = 0.1
# In decreasing order of quality for the size; the first one that this PyAV has is taken.
_CODECS = {"libx264": {"crf": "12"}, "mpeg4": {"qscale": "2"}}


class Unreadable(UserError):
    """A file that is no video, is damaged, or has no frames; others may still be read."""


@dataclasses.dataclass(frozen=True)
class Video:
    """A clip in memory.

    Attributes:
      frames: uint8 [T, H, W, 3], RGB.
      times: float64 [T], seconds at which frames appear; the first is 0.
      frame_rate: frames per second, of a clip of variable rate the mean; 25 for a single frame.
    """

    frames: np.ndarray
    times: np.ndarray
    frame_rate: float

    @property
    def has_variable_rate(self):
        """Whether frames are shown for different times."""
        return is_uneven(self.times)

    def resampled(self, frame_rate=None):
        """The clip at a constant rate.

        Args:
          frame_rate: frames per second; None is that of the clip.

        Returns:
          a `Video` whose frame k is what is seen k / `frame_rate` seconds after the first one; frames are repeated or
          left out, and never mixed.

        Raises:
          UserError: if the rate is not positive.
        """
        frame_rate = self.frame_rate if frame_rate is None else frame_rate
        if not frame_rate > 0:
            raise UserError(f"`frame_rate` must be positive. Received: frame_rate={frame_rate}.")
        count = 1 + int(np.floor(self.times[-1] * frame_rate + _LATE))
        times = np.arange(count) / frame_rate
        shown = np.searchsorted(self.times, times + _LATE / frame_rate, side="right") - 1
        return Video(self.frames[np.maximum(shown, 0)], times, float(frame_rate))


def is_uneven(times):
    """Whether frames that appear at `times`, in seconds and in order, are shown for different times."""
    intervals = np.diff(times)
    usual = np.median(intervals) if intervals.size else 0.0
    return bool((np.abs(intervals - usual) > _UNEVEN * usual).any())


def mean_rate(times):
    """Returns frames per second, of a variable rate the mean; 25 for a single frame."""
    return (len(times) - 1) / (times[-1] - times[0]) if times[-1] > times[0] else 25.0


def frame_times(path):
    """Returns when the frames of a video appear, float64 [T] seconds after the first, as its container says; no frame is decoded.

    Empty where the container does not say it. Errors as of `iterate_frames`, but for damaged frames, which are not seen.
    """
    with _opened(path) as (_, container, stream):
        ticks = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        return (np.array(ticks, np.float64) - (ticks[0] if ticks else 0)) * float(stream.time_base)


def at_constant_rate(timed_frames, frame_rate):
    """Yields (time, frame) at a constant rate; frames are repeated or left out like by `Video.resampled`, one in memory at a time."""
    count, seen = 0, None
    for time, frame in timed_frames:
        while seen is not None and (count + _LATE) / frame_rate < time:
            yield count / frame_rate, seen
            count += 1
        last, seen = time, frame
    while seen is not None and count <= np.floor(last * frame_rate + _LATE):
        yield count / frame_rate, seen
        count += 1


def iterate_frames(path):
    """Yields (time in seconds after the first frame, uint8 [H, W, 3]) of a video, one frame in memory at a time.

    Args:
      path: the file, or a binary file object.

    Raises:
      Unreadable: the file is missing, is no video, damaged, or has no frames; names the file.
      UserError: PyAV is not installed.
    """
    count, first = 0, None
    with _opened(path) as (name, container, stream):
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                time = count / rate if frame.time is None else frame.time
                first = time if first is None else first
                # Cameras held upright store the picture lying, and by how much it is to be turned.
                pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
                yield time - first, np.ascontiguousarray(pixels)
                count += 1
        except (_pyav(path).FFmpegError, OSError) as error:
            raise _undecodable(name, error, f" after frame {count}" if count else "") from error
    if not count:
        raise Unreadable(f"`{name}` must hold at least one frame. Received: 0 frames.")


@contextlib.contextmanager
def _opened(path):
    """Yields (name, container, stream) of a video; errors of the file are those of `iterate_frames`."""
    av = _pyav(path)
    name = getattr(path, "name", path)
    try:
        container = av.open(path if hasattr(path, "read") else str(path))
    except (av.FFmpegError, OSError) as error:
        raise _undecodable(name, error) from error
    with container:
        if not container.streams.video:
            raise Unreadable(f"`{name}` must hold a video. Received: a file with other content.")
        yield name, container, container.streams.video[0]


def _undecodable(name, error, where=""):
    return Unreadable(
        f"`{name}` cannot be decoded as a video{where} ({getattr(error, 'strerror', None) or first_line(error)})."
    )


def read_video(path, max_frames=None, frame_rate=None):
    """Reads a whole video.

    Args:
      path: the file, or a binary file object.
      max_frames: read only so many frames; None reads all.
      frame_rate: bring the clip to this constant rate (`Video.resampled`); None leaves it as it is.

    Returns:
      a `Video`.

    Raises:
      Unreadable: as `iterate_frames`; also if the size of the frames changes.
      UserError: PyAV is not installed.
    """
    if max_frames is not None and max_frames < 1:
        raise UserError(f"`max_frames` must be at least 1. Received: max_frames={max_frames}.")
    times, frames = [], []
    for time, frame in iterate_frames(path):
        if frames and frame.shape != frames[0].shape:
            sizes = " and ".join(
                f"{width}x{height}" for height, width, _ in (frames[0].shape, frame.shape)
            )
            raise Unreadable(
                f"`{getattr(path, 'name', path)}` must hold frames of one size. Received: {sizes}."
            )
        times.append(time)
        frames.append(frame)
        if len(frames) == max_frames:
            break
    video = Video(np.stack(frames), np.array(times), mean_rate(times))
    return video if frame_rate is None else video.resampled(frame_rate)


def write_video(path, frames, frame_rate):
    """Writes a video, as H.264 where PyAV has an encoder for it, else as MPEG-4. The file appears whole or not at all.

    Both store colour at half the resolution and need even sides: of an odd one the last row or column is repeated.

    Args:
      path: file to write, `.mp4`, `.mov` or `.mkv`.
      frames: uint8 [T, H, W, 3] RGB or [T, H, W, 1] gray, or an iterable of such frames.
      frame_rate: frames per second.

    Raises:
      UserError: another suffix, no frames, frames of another form, or PyAV is not installed.
    """
    av = _pyav(path)
    path = pathlib.Path(path)
    if path.suffix.lower() not in WRITTEN_SUFFIXES:
        raise UserError(
            f"`path` must end in {', '.join(WRITTEN_SUFFIXES)}. Received: path={str(path)!r}."
        )
    if not frame_rate > 0:
        raise UserError(f"`frame_rate` must be positive. Received: frame_rate={frame_rate}.")
    codec = next(name for name in _CODECS if name in av.codecs_available)
    rate = fractions.Fraction(frame_rate).limit_denominator(1001)
    stream = None
    with files.atomic_path(path) as partial, av.open(str(partial), "w") as container:
        for frame in frames:
            pixels = _even(frame)
            if stream is None:
                stream = container.add_stream(codec, rate=rate, options=_CODECS[codec])
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
            if pixels.shape[:2] != (stream.height, stream.width):
                raise UserError(
                    f"`frames` must have one size. Received: {np.shape(frame)} among others."
                )
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        if stream is None:
            raise UserError("`frames` must hold at least one frame. Received: none.")
        container.mux(stream.encode())


def _even(frame):
    """A frame as uint8 [H, W, 3] with even sides."""
    frame = np.asarray(frame)
    if (
        frame.dtype != np.uint8
        or frame.ndim != 3
        or frame.shape[-1] not in (1, 3)
        or not frame.size
    ):
        raise UserError(
            f"`frames` must be uint8 [T, H, W, 3] or [T, H, W, 1]. Received: a frame of shape {frame.shape}, dtype {frame.dtype}."
        )
    frame = np.repeat(frame, 3, axis=-1) if frame.shape[-1] == 1 else frame
    return np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")


def _pyav(path):
    try:
        import av
    except ImportError as error:
        raise UserError(
            f"`{getattr(path, 'name', path)}` is a video, which takes PyAV: pip install tfobj[video]."
        ) from error
    return av
