"""Figures and animations of clips: pictures in their cells, stable colours, marks, files."""

import numpy as np
import pytest
from PIL import Image

from tfobj.errors import UserError
from tfobj.viz import canvas, palette, video

SIZE = 16
SLOTS = 4


def clip(frames=6, channels=3, switch=None, size=SIZE):
    """Returns a clip of two squares that move to the right.

    They are in slots 1 and 2, and from frame `switch` on in slots 2 and 1. The background is in
    slot 0, and slot 3 is empty.
    """
    rng = np.random.default_rng(0)
    true = np.zeros((frames, size, size), np.uint8)
    for t in range(frames):
        true[t, 2:6, 1 + t : 6 + t] = 1
        true[t, 9:14, 3 + t : 7 + t] = 2
    ids = true.astype(np.int64)
    if switch is not None:
        ids[switch:] = np.array([0, 2, 1])[ids[switch:]]
    masks = np.moveaxis(np.eye(SLOTS, dtype=np.float32)[ids], -1, 1)[..., None]
    image = rng.random((frames, size, size, channels), dtype=np.float32)
    slot_recons = rng.random((frames, SLOTS, size, size, channels), dtype=np.float32)
    return {
        "image": image,
        "recon": (masks * slot_recons).sum(1),
        "masks": masks,
        "slot_recons": slot_recons,
        "true_mask": true,
    }


def cells(figure):
    """Axes of the cells with pictures, by row and column."""
    axes = [axes for axes in figure.axes if axes.images]
    rows = sorted({round(a.get_position().y1, 4) for a in axes}, reverse=True)
    return [
        sorted(
            (a for a in axes if round(a.get_position().y1, 4) == row),
            key=lambda a: a.get_position().x0,
        )
        for row in rows
    ]


def shown(axes):
    return np.asarray(axes.images[0].get_array())


def words(figure):
    return [text.get_text() for text in figure.texts]


def test_overlay_tints_and_outlines():
    image = np.full((8, 8, 3), [1.0, 0.0, 0.0])
    ids = np.zeros((8, 8), int)
    ids[2:6, 4:] = 2
    picture = video.overlay(image, ids, num_slots=3, scale=4)
    grey = np.full(3, 0.299)
    background, _, colour = palette.slot_colours(3)
    assert picture.shape == (32, 32, 3)
    np.testing.assert_allclose(picture[0, 0], 0.85 * grey + 0.15 * background, atol=1e-6)
    np.testing.assert_allclose(picture[12, 20], 0.45 * grey + 0.55 * colour, atol=1e-6)
    for row, column in ((8, 20), (9, 20), (23, 20), (12, 16), (12, 17)):
        np.testing.assert_allclose(picture[row, column], colour, atol=1e-6)
    for row, column in ((10, 20), (12, 18), (12, 31)):  # inside, and at the border of the picture
        assert not np.allclose(picture[row, column], colour, atol=0.05)
    np.testing.assert_allclose(
        picture[7, 20], picture[0, 0], atol=1e-6
    )  # the background has no outline
    film = video.overlay(np.stack([image, image]), np.stack([ids, ids]), num_slots=3, scale=4)
    np.testing.assert_array_equal(film, [picture, picture])
    assert video.overlay(image[..., :1], ids).shape == (8, 8, 3)


def test_overlay_is_dimmed_where_no_slot_visibly_draws():
    """A slot that claims more than it visibly draws is outlined around what it draws."""
    image = np.full((8, 8, 3), 0.5)
    ids = np.zeros((8, 8), int)
    ids[:, 5:] = 2
    owned = np.zeros((8, 8), bool)
    owned[:4, 5:] = True
    picture = video.overlay(image, ids, owned=owned, num_slots=3, scale=4)

    background, _, colour = palette.slot_colours(3)
    np.testing.assert_allclose(picture[6, 26], 0.45 * 0.5 + 0.55 * colour, atol=1e-6)
    tint = palette.DIMMED * 0.55
    np.testing.assert_allclose(picture[26, 26], (1 - tint) * 0.5 + tint * colour, atol=1e-6)
    np.testing.assert_allclose(picture[0, 0], (1 - tint) * 0.5 + tint * background, atol=1e-6)

    is_outline = np.isclose(picture, colour.astype(np.float32), atol=1e-6).all(-1)
    assert is_outline[14:16, 20:].all() and is_outline[:16, 20:22].all()
    assert not is_outline[16:].any()


def test_filmstrip_cells():
    data = clip(frames=6)
    figure = video.filmstrip_figure(**data, every=2, title="film")
    grid = cells(figure)
    assert len(grid) == 4 + SLOTS and all(len(row) == 3 for row in grid)
    scale = canvas.cell_size(SIZE, SIZE)[0] // SIZE
    overlay = video.overlay(
        data["image"], data["masks"][..., 0].argmax(1), num_slots=SLOTS, scale=scale
    )
    for column, t in enumerate((0, 2, 4)):
        np.testing.assert_allclose(shown(grid[0][column]), data["image"][t], atol=1e-6)
        np.testing.assert_allclose(shown(grid[1][column]), data["recon"][t], atol=1e-6)
        np.testing.assert_allclose(shown(grid[2][column]), overlay[t], atol=1e-6)
        for k in range(SLOTS):
            cutout = palette.over_checkerboard(data["slot_recons"][t, k], data["masks"][t, k])
            np.testing.assert_allclose(shown(grid[4 + k][column]), cutout, atol=1e-6)
    text = words(figure)
    assert {"film", "input", "reconstruction", "segmentation", "truth", "slot 1", "slot 4"} <= set(
        text
    )
    assert [word for word in text if word.startswith("frame")] == ["frame 1", "frame 3", "frame 5"]


def test_filmstrip_takes_ten_frames_at_most():
    data = clip(frames=8, size=24)
    long = {name: np.concatenate([values] * 5)[:39] for name, values in data.items()}
    figure = video.filmstrip_figure(long["image"], long["recon"], long["masks"])
    assert [len(row) for row in cells(figure)] == [10] * 3
    assert [word for word in words(figure) if word.startswith("frame")] == [
        f"frame {1 + 4 * i}" for i in range(10)
    ]


def test_truth_keeps_its_colours_when_slots_are_exchanged():
    """The second object is in slot 2 in four of six frames, so it has its colour in all of them."""
    data = clip(switch=4)
    del data["slot_recons"]
    grid = cells(video.filmstrip_figure(**data))
    for t in range(6):
        np.testing.assert_allclose(shown(grid[3][t])[11, 4 + t], palette.SLOT_COLOURS[2], atol=1e-6)
        large = shown(grid[2][t])
        middle = large[large.shape[0] * 23 // 32, round((4.5 + t) * large.shape[1] / SIZE)]
        distance = np.linalg.norm(palette.SLOT_COLOURS[:3] - middle, axis=1)
        assert distance.argmin() == (2 if t < 4 else 1)


def test_scores_stand_below_their_frames():
    scores = {"FG-ARI": np.array([1, 0.5, np.nan, 0.25, 0, 1]), "MSE": np.full(6, 0.00123)}
    figure = video.filmstrip_figure(**clip(), scores=scores, every=2)
    text = words(figure)
    assert text.count("0.00123") == 3
    assert {"FG-ARI", "MSE", "1.000", "–", "0"} <= set(text)
    assert "0.500" not in text
    values = {t.get_text(): t.get_position() for t in figure.texts}
    assert values["–"][1] < cells(figure)[-1][0].get_position().y0  # below the last row
    column = cells(figure)[0][1].get_position()
    assert column.x0 < values["–"][0] < column.x1


def test_prediction_marks_the_border():
    data = clip(frames=9, size=18)
    del data["slot_recons"]
    figure = video.prediction_figure(**data, num_observed=3, title="ahead")
    text = words(figure)
    assert {
        "ahead",
        "observed",
        "predicted",
        "truth",
        "model",
        "segmentation",
        "true segments",
    } <= set(text)
    assert [word for word in text if word.startswith("frame")] == [
        *("frame 1", "frame 2", "frame 3"),
        *("frame 4 (+1)", "frame 5 (+2)", "frame 6 (+3)"),
        *("frame 7 (+4)", "frame 8 (+5)", "frame 9 (+6)"),
    ]
    grid = cells(figure)
    assert [len(row) for row in grid] == [9] * 4
    np.testing.assert_allclose(shown(grid[1][8]), data["recon"][8], atol=1e-6)
    lefts = [axes.get_position().x0 for axes in grid[0]]
    gaps = np.diff(lefts)
    assert gaps.argmax() == 2
    assert np.allclose(np.delete(gaps, 2), gaps[0])
    assert gaps[2] > 1.05 * gaps[0]
    lines = [
        a.get_position()
        for a in figure.axes
        if not a.images and a.get_position().width < a.get_position().height
    ]
    assert len(lines) == 1 and grid[0][2].get_position().x1 < lines[0].x0 < lines[0].x1 < lefts[3]
    assert lines[0].y0 <= grid[-1][0].get_position().y0 + 1e-9
    assert lines[0].y1 > grid[0][0].get_position().y1


def test_prediction_chooses_frames():
    long = {
        name: np.concatenate([values] * 5)[:40]
        for name, values in clip(frames=8, size=24).items()
        if name not in ("slot_recons", "true_mask")
    }
    frames = [
        word
        for word in words(video.prediction_figure(**long, num_observed=20))
        if word.startswith("frame")
    ]
    assert frames == [
        "frame 11",
        "frame 14",
        "frame 17",
        "frame 20",
        "frame 21 (+1)",
        "frame 25 (+5)",
        "frame 29 (+9)",
        "frame 32 (+12)",
        "frame 36 (+16)",
        "frame 40 (+20)",
    ]
    only = video.prediction_figure(**long, num_observed=20, frames=[20, 29])
    assert "observed" not in words(only) and [len(row) for row in cells(only)] == [2] * 3


def test_animation_shows_every_frame_pixel_by_pixel():
    data = clip()
    film = video.animation_frames(**data, title="film")
    assert film.dtype == np.uint8 and film.shape[0] == 6 and film.shape[3] == 3
    scale = canvas.cell_size(SIZE, SIZE)[0] // SIZE
    for pictures in (
        data["image"],
        data["recon"],
        palette.over_checkerboard(data["slot_recons"], data["masks"])[:, 2],
    ):
        wanted = np.uint8(np.rint(video.enlarge(pictures, scale) * 255.0))
        rows, columns = np.nonzero((film[0] == wanted[0, 0, 0]).all(-1))
        places = [
            (r, c)
            for r, c in zip(rows, columns, strict=True)
            if film[0, r : r + scale * SIZE, c : c + scale * SIZE].shape == wanted[0].shape
            and (film[0, r : r + scale * SIZE, c : c + scale * SIZE] == wanted[0]).all()
        ]
        assert len(places) == 1
        ((row, column),) = places
        np.testing.assert_array_equal(
            film[:, row : row + scale * SIZE, column : column + scale * SIZE], wanted
        )


def playhead(frame):
    """Returns the left end of the mark on the timeline, in the lowest 60 pixels, and its colour."""
    low = frame[-60:].astype(int)
    for colour in (palette.BACKGROUND, video.PREDICTED):
        found = (np.abs(low - colour * 255.0) <= 1).all(-1).sum(0)
        if found.max() == 16:
            return int(found.argmax()), colour
    raise AssertionError("no mark")


def test_animation_shows_the_time_and_what_is_predicted():
    data = clip()
    del data["slot_recons"]
    film = video.animation_frames(**data)
    ahead = video.animation_frames(**data, num_observed=4)
    places = [playhead(frame)[0] for frame in film]
    steps = np.diff(places)
    assert steps.min() > 0 and np.ptp(steps) <= 1
    assert [playhead(frame)[1] is video.PREDICTED for frame in ahead] == [False] * 4 + [True] * 2
    marked = np.uint8(np.rint(video.PREDICTED * 255))
    frames = [(frame[:-60] == marked).all(-1).sum() for frame in ahead]
    assert frames[:4] == [0] * 4 and frames[4] == frames[5] > 1000
    assert film.shape == ahead.shape


def test_animation_of_large_and_grey_pictures():
    data = clip(frames=2, channels=1, size=280)
    film = video.animation_frames(**data)
    assert film.shape[2] < 4 * 280 and len(np.unique(film)) > 50
    assert len(cells(video.filmstrip_figure(**data, every=2))) == 8


def test_gif_plays_at_its_rate_for_ever(tmp_path):
    film = video.animation_frames(**clip())
    path = video.save_animation(film, tmp_path / "films" / "clip.gif", frame_rate=12.5)
    with Image.open(path) as gif:
        assert gif.n_frames == 6 and gif.info["loop"] == 0 and gif.info["duration"] == 80
        for t in range(6):
            gif.seek(t)
            error = np.abs(np.asarray(gif.convert("RGB"), int) - film[t])
            # Random pictures have more colours than a GIF; flat ones are kept, before Pillow 12.3
            # roughly.
            assert error.mean() < 12 and (error.max(-1) <= 8).mean() > 0.4
    assert [p.name for p in path.parent.iterdir()] == ["clip.gif"]
    slow = video.save_animation(film, tmp_path / "slow.gif", frame_rate=3)
    fast = video.save_animation(film, tmp_path / "fast.gif", frame_rate=1000)
    with Image.open(slow) as gif, Image.open(fast) as other:
        assert gif.info["duration"] == 330 and other.info["duration"] == 20


def test_mp4_holds_the_frames(tmp_path):
    from tfobj.datasets import video_files

    film = video.animation_frames(**clip(), title="film")[:, :-1]
    path = video.save_animation(film, tmp_path / "clip.mp4", frame_rate=8)
    read = video_files.read_video(path)
    assert read.frame_rate == pytest.approx(8) and len(read.frames) == 6
    assert np.abs(read.frames[:, : film.shape[1], : film.shape[2]].astype(int) - film).mean() < 8
    assert [p.name for p in tmp_path.iterdir()] == ["clip.mp4"]


@pytest.mark.parametrize(
    "name, shape",
    [
        ("recon", (6, 16, 16, 1)),
        ("masks", (6, 4, 16, 16)),
        ("masks", (5, 4, 16, 16, 1)),
        ("slot_recons", (6, 3, 16, 16, 3)),
        ("true_mask", (6, 16, 15)),
        ("image", (1, 6, 16, 16, 3)),
    ],
)
def test_shapes_that_do_not_fit(name, shape):
    for function in (video.filmstrip_figure, video.animation_frames):
        with pytest.raises(UserError, match=f"`{name}` .*must have .*Received: .*"):
            function(**{**clip(), name: np.zeros(shape, np.float32)})


def test_other_errors(tmp_path):
    data = clip()
    with pytest.raises(
        UserError,
        match=r"`scores\['MSE'\]` must have one number per frame, 6. Received: shape \(5,\)",
    ):
        video.filmstrip_figure(**data, scores={"MSE": np.zeros(5)})
    for observed in (0, 6):
        for function, leave in (
            (video.prediction_figure, "slot_recons"),
            (video.animation_frames, ""),
        ):
            with pytest.raises(
                UserError,
                match=(
                    "`num_observed` must be at least 1 and less than the 6 frames. "
                    f"Received: {observed}"
                ),
            ):
                function(
                    **{name: values for name, values in data.items() if name != leave},
                    num_observed=observed,
                )
    with pytest.raises(UserError, match="`every` must be at least 1. Received: 0"):
        video.filmstrip_figure(**data, every=0)
    with pytest.raises(UserError, match="`frames` must be ascending indices of the 6 frames"):
        video.prediction_figure(
            data["image"], data["recon"], data["masks"], num_observed=3, frames=[4, 6]
        )
    film = np.zeros((2, 4, 4, 3), np.uint8)
    with pytest.raises(
        UserError, match=r"`path` must end in .gif, .mp4, .mov, .mkv. Received: .*clip.txt"
    ):
        video.save_animation(film, tmp_path / "clip.txt")
    with pytest.raises(
        UserError,
        match=r"`frames` must be uint8 \[T, H, W, 3\] with T at least 1. Received: float64",
    ):
        video.save_animation(film / 2, tmp_path / "clip.gif")
    with pytest.raises(UserError, match="`frame_rate` must be positive. Received: 0"):
        video.save_animation(film, tmp_path / "clip.gif", frame_rate=0)
    assert not list(tmp_path.iterdir())
