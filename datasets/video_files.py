"""Reads and writes video files by PyAV: mp4, webm, mov, avi, mkv and animated GIF.

PyAV comes with `pip install tfobj[video]`. Frames come with the times at which they appear, so that
a variable frame rate can be detected and made constant. They are turned, mirrored, stretched to
square pixels and converted from the video's own colours, as a player shows them.

Axes: T frames, H x W pixels.
"""

import contextlib
import dataclasses
import fractions
import pathlib

import numpy as np
from PIL import Image

from tfobj import files
from tfobj.data import levels, truncation
from tfobj.data.media import Unreadable
from tfobj.errors import UserError, first_line, printable

SUFFIXES = (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".gif")
"""Suffixes of files that count as clips.

PyAV reads many more kinds, and goes by a file's content.
"""

WRITTEN_SUFFIXES = (".mp4", ".mov", ".mkv")

_UNEVEN = 0.2
"""Deviation from the usual interval, relative to it, that rounding does not explain."""

_LATE = 0.1
"""Delay of a frame, in intervals, that a constant rate allows: clocks may tick in milliseconds."""

_CODECS = {"libx264": {"crf": "12"}, "mpeg4": {"qscale": "2"}}
"""Codecs with their options, best quality for the size first; PyAV may lack the first."""

_DEFAULT_RATE = 25.0
"""Frames per second where a file does not tell."""

_MOST_ASPECT = 8.0
"""Pixels that are longer than this, either way, are taken for a mistake in the header."""

# FFmpeg's numbers of colour matrices.
_BT709 = 1
_UNSPECIFIED = 2
_BT601 = 5

_LIMITED_RANGE = 1
"""FFmpeg's number of luminance in 16 ... 235."""

_HD_WIDTH = 1280
_SD_HEIGHT = 576
"""Untagged videos of this width, or higher than this, are BT.709; smaller ones BT.601."""


@dataclasses.dataclass(frozen=True)
class Video:
    """A clip in memory.

    Attributes:
      frames: uint8 [T, H, W, 3], RGB.
      times: float64 [T], seconds at which the frames appear; the first is 0.
      frame_rate: frames per second; the mean if the rate varies, and 25 for a single frame.
    """

    frames: np.ndarray
    times: np.ndarray
    frame_rate: float

    @property
    def has_variable_rate(self):
        """Whether frames are shown for different times."""
        return is_uneven(self.times)

    def resampled(self, frame_rate=None):
        """Returns the clip at a constant rate.

        Args:
          frame_rate: frames per second; None keeps the clip's rate.

        Returns:
          A `Video` whose frame k is the one on view k / `frame_rate` seconds after the first.
          Frames are repeated or left out, but never blended.

        Raises:
          UserError: if the rate is not positive.
        """
        if frame_rate is None:
            frame_rate = self.frame_rate
        if not frame_rate > 0:
            raise UserError(f"`frame_rate` must be positive. Received: frame_rate={frame_rate}.")

        count = 1 + int(np.floor(self.times[-1] * frame_rate + _LATE))
        times = np.arange(count) / frame_rate
        shown = np.searchsorted(self.times, times + _LATE / frame_rate, side="right") - 1
        return Video(self.frames[np.maximum(shown, 0)], times, float(frame_rate))


def is_uneven(times):
    """Returns whether frames are shown for different times.

    Args:
      times: seconds at which they appear, in order.
    """
    intervals = np.diff(times)
    if not intervals.size:
        return False
    usual = np.median(intervals)
    return bool((np.abs(intervals - usual) > _UNEVEN * usual).any())


def mean_rate(times):
    """Returns the mean number of frames per second; 25 for a single frame."""
    duration = times[-1] - times[0]
    if not duration > 0:
        return _DEFAULT_RATE
    return (len(times) - 1) / duration


def frame_times(path):
    """Returns when the frames of a video appear according to its container.

    No frame is decoded, so that damaged frames go unnoticed.

    Args:
      path: path of the file, or a binary file object.

    Returns:
      float64 [T], seconds after the first frame; empty if the container does not tell.

    Raises:
      Unreadable: if the file is missing or not a video; names the file.
      UserError: if PyAV is not installed.
    """
    with _opened(path) as (_, container, stream):
        # Packets come in the order of decoding, which may not be that of the frames.
        ticks = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
        first = ticks[0] if ticks else 0
        return (np.array(ticks, np.float64) - first) * float(stream.time_base)


def at_constant_rate(timed_frames, frame_rate):
    """Brings a stream of frames to a constant rate, with one frame in memory at a time.

    Frames are repeated or left out as in `Video.resampled`.

    Args:
      timed_frames: iterable of (seconds after the first frame, frame).
      frame_rate: frames per second.

    Yields:
      (time, frame)
    """
    count = 0
    shown = None
    for time, frame in timed_frames:
        # Until this frame appears, the one before it is on view.
        while shown is not None and (count + _LATE) / frame_rate < time:
            yield count / frame_rate, shown
            count += 1
        last = time
        shown = frame

    while shown is not None and count <= np.floor(last * frame_rate + _LATE):
        yield count / frame_rate, shown
        count += 1


def iterate_frames(path, check=True):
    """Reads a video, with one frame in memory at a time.

    Args:
      path: path of the file, or a binary file object.
      check: whether a file whose structure shows that it was cut short is refused before its first
        frame; FFmpeg takes many of them for shorter videos.

    Yields:
      (seconds after the first frame, uint8 [H, W, 3])

    Raises:
      Unreadable: if the file is missing, not a video, damaged, or has no frames; names the file.
      UserError: if PyAV is not installed.
    """
    count = 0
    first = None
    with _opened(path, check) as (name, container, stream):
        rate = float(stream.average_rate or stream.guessed_rate or _DEFAULT_RATE)
        aspect = _pixel_aspect(stream)
        stream.thread_type = "AUTO"
        with _border(name, lambda: f" after frame {count}" if count else ""):
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise ValueError("a frame is incomplete")
                time = frame.time
                if time is None:
                    time = count / rate
                if first is None:
                    first = time
                yield time - first, _pixels(frame, aspect)
                count += 1

    if not count:
        raise Unreadable(f"`{name}` must hold at least one frame. Received: 0 frames.")


def _pixel_aspect(stream):
    """Returns the width of a stream's pixels relative to their height."""
    aspect = float(stream.sample_aspect_ratio or 1)
    if not 1 / _MOST_ASPECT <= aspect <= _MOST_ASPECT:
        return 1.0
    return aspect


def _pixels(frame, aspect):
    """Returns a decoded frame as a player shows it, uint8 [H, W, 3]."""
    # The shorter side of a pixel grows, so that nothing is lost.
    width = round(frame.width * max(1, aspect))
    height = round(frame.height / min(1, aspect))

    # FFmpeg would convert every untagged video by BT.601.
    colorspace = None
    if frame.colorspace == _UNSPECIFIED and not frame.format.is_rgb:
        colorspace = _usual_colorspace(frame)

    has_alpha = any(component.is_alpha for component in frame.format.components)
    pixels = frame.reformat(
        width,
        height,
        "rgba" if has_alpha else "rgb24",
        src_colorspace=colorspace,
        interpolation="BICUBIC",
        dst_color_range="JPEG",
    ).to_ndarray()
    if has_alpha:
        pixels = np.asarray(levels.to_rgb(Image.fromarray(pixels)))
    return np.ascontiguousarray(_upright(pixels, frame))


def _usual_colorspace(frame):
    """Returns the colour matrix of a video that names none: players go by its size."""
    is_hd = frame.width >= _HD_WIDTH or frame.height > _SD_HEIGHT
    return _BT709 if is_hd else _BT601


def _upright(pixels, frame):
    """Turns and mirrors pixels by the frame's display matrix.

    A camera held upright stores its frames lying on the side, and the matrix beside them; one that
    looks at its user stores them mirrored.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return pixels

    # A pixel at (x, y) is shown at (a x + c y, b x + d y), but for a shift.
    (a, b, _), (c, d, _), _ = np.frombuffer(memoryview(matrix), np.int32).reshape(3, 3)
    across = a
    down = d
    if abs(int(b)) > abs(int(a)):
        pixels = pixels.swapaxes(0, 1)
        across = c
        down = b
    if across < 0:
        pixels = pixels[:, ::-1]
    if down < 0:
        pixels = pixels[::-1]
    return pixels


@contextlib.contextmanager
def _opened(path, check=False):
    """Yields (name, container, stream) of a video; raises the errors of `iterate_frames`."""
    av = _pyav(path)
    name = _name(path)
    with contextlib.ExitStack() as stack:
        with _border(name):
            # FFmpeg would take the beginning of a name such as `data:1.mp4` for a protocol, and
            # PyAV does not open names that are no UTF-8.
            source = path if hasattr(path, "read") else stack.enter_context(open(path, "rb"))
            damage = truncation.find_damage(source) if check else None
            # Names and comments inside the file may be in any encoding.
            container = stack.enter_context(av.open(source, metadata_errors="replace"))
            stream = container.streams.best("video")
        if damage is not None:
            raise _undecodable(name, damage)
        if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
            raise Unreadable(f"`{name}` must hold a video. Received: a file with other content.")
        yield name, container, stream


@contextlib.contextmanager
def _border(name, where=str):
    """Turns whatever PyAV throws for a foreign file into an `Unreadable` that names it.

    Beside its own errors these are OSError, ValueError, MemoryError, UnicodeDecodeError, ...
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise _undecodable(name, reason, where()) from error


def _undecodable(name, reason, where=""):
    return Unreadable(f"`{name}` cannot be decoded as a video{where} ({printable(reason)}).")


def read_video(path, max_frames=None, frame_rate=None):
    """Reads a whole video.

    Args:
      path: path of the file, or a binary file object.
      max_frames: number of frames to read at most; None reads all.
      frame_rate: constant rate of the result (`Video.resampled`); None leaves the rate as it is.

    Returns:
      A `Video`.

    Raises:
      Unreadable: as `iterate_frames`; also if the size of the frames changes.
      UserError: if PyAV is not installed.
    """
    if max_frames is not None and max_frames < 1:
        raise UserError(f"`max_frames` must be at least 1. Received: max_frames={max_frames}.")

    times = []
    frames = []
    for time, frame in iterate_frames(path):
        if frames and frame.shape != frames[0].shape:
            sizes = f"{_size(frames[0])} and {_size(frame)}"
            raise Unreadable(f"`{_name(path)}` must hold frames of one size. Received: {sizes}.")
        times.append(time)
        frames.append(frame)
        if len(frames) == max_frames:
            break

    video = Video(np.stack(frames), np.array(times), mean_rate(times))
    if frame_rate is None:
        return video
    return video.resampled(frame_rate)


def write_video(path, frames, frame_rate):
    """Writes a video, as H.264 if PyAV has an encoder for it, otherwise as MPEG-4.

    Both codecs store colour at half the resolution and need even sides: the last row or column of
    an odd side is repeated. The file appears complete or not at all.

    Args:
      path: path of the file to write, `.mp4`, `.mov` or `.mkv`.
      frames: uint8 [T, H, W, 3] (RGB) or [T, H, W, 1] (gray), or an iterable of such frames.
      frame_rate: frames per second.

    Raises:
      UserError: if the suffix, the frames or the rate do not fit, or PyAV is not installed.
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

            # The stream needs a size, which only the first frame of an iterable tells.
            if stream is None:
                stream = container.add_stream(codec, rate=rate, options=_CODECS[codec])
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.codec_context.colorspace = _usual_colorspace(stream)
                stream.codec_context.color_range = _LIMITED_RANGE
            if pixels.shape[:2] != (stream.height, stream.width):
                raise UserError(
                    f"`frames` must have one size. Received: {np.shape(frame)} among others."
                )
            picture = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(
                format="yuv420p",
                dst_colorspace=_usual_colorspace(stream),
                dst_color_range=_LIMITED_RANGE,
            )
            container.mux(stream.encode(picture))

        if stream is None:
            raise UserError("`frames` must hold at least one frame. Received: none.")
        container.mux(stream.encode())


def _even(frame):
    """Returns a frame as uint8 [H, W, 3] with even sides."""
    frame = np.asarray(frame)
    is_image = frame.ndim == 3 and frame.shape[-1] in (1, 3) and frame.size
    if frame.dtype != np.uint8 or not is_image:
        raise UserError(
            "`frames` must be uint8 [T, H, W, 3] or [T, H, W, 1]. "
            f"Received: a frame of shape {frame.shape}, dtype {frame.dtype}."
        )

    if frame.shape[-1] == 1:
        frame = np.repeat(frame, 3, axis=-1)
    return np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")


def _size(frame):
    height, width, _ = frame.shape
    return f"{width}x{height}"


def _name(path):
    """Returns the name of a file or file object for messages."""
    if hasattr(path, "read"):
        path = getattr(path, "name", path)
    return printable(path)


def _pyav(path):
    """Returns the module `av`; raises a `UserError` that names the file if it is not installed."""
    try:
        import av
    except ImportError as error:
        raise UserError(
            f"`{_name(path)}` is a video, and reading or writing it needs PyAV: "
            "pip install tfobj[video]."
        ) from error
    return av
