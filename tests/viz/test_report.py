"""The page is whole, self-contained, escaped, and shows the worst scenes first."""

import html.parser

import numpy as np
import pytest

from tfobj.errors import UserError
from tfobj.metrics import SceneScorer, definitions
from tfobj.viz import canvas, panels, report


class Page(html.parser.HTMLParser):
    """Collects text, and checks that tags close and that every source is embedded."""

    def __init__(self, path):
        super().__init__()
        self.stack = []
        self.sources = []
        self.words = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        assert tag not in ("script", "link", "iframe")
        assert tag != "abbr" or dict(attrs)["title"]
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def run(num_scenes=6, seed=0):
    rng = np.random.default_rng(seed)
    true = np.zeros((num_scenes, 8, 8), np.uint8)
    true[:, 1:4, 1:4] = 1
    true[:, 5:, 5:] = 2
    flip = rng.random(true.shape) < np.linspace(0.5, 0.0, num_scenes)[:, None, None]
    predicted = np.where(flip, rng.integers(0, 3, true.shape), true)
    masks = np.moveaxis(np.eye(3, dtype=np.float32)[predicted], -1, 1)[..., None]
    slot_recons = rng.random((num_scenes, 3, 8, 8, 3)).astype(np.float32)
    recon = (masks * slot_recons).sum(1)
    image = np.clip(recon + 0.1, 0, 1)
    scorer = SceneScorer()
    scorer.update(image=image, recon=recon, masks=masks, true_mask=true)
    scenes = {
        "image": image,
        "recon": recon,
        "masks": masks,
        "slot_recons": slot_recons,
        "true_mask": true,
    }
    return scorer, scenes


def test_page(tmp_path):
    scorer, scenes = run()
    table = scorer.table()
    curve = report.distribution_figure(table["mse"], "mse")
    path = report.write_report(
        tmp_path / "report" / "index.html",
        title="a <b>run</b> & more",
        protocol="validation, 6 scenes",
        summary=scorer.summary(),
        table=table,
        scenes=scenes,
        figures=[("as figure", curve), ("as bytes", canvas.figure_to_png(curve))],
        config={"model": {"num_slots": 3}},
        warnings=["One slot explains 98 % of every image."],
    )
    page = Page(path)
    text = " ".join(page.words)
    assert [p.name for p in path.parent.iterdir()] == ["index.html"]
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert len(page.sources) == 1 + 2 + 2  # distribution, six scenes in two figures, two figures
    for words in (
        "a <b>run</b> & more",
        "validation, 6 scenes",
        "98 % of every image",
        '"num_slots": 3',
    ):
        assert words in text
    worst = np.argsort(table["fg_ari"])
    captions = [word for word in page.words if word.startswith("Scenes ")]
    assert captions[-2:] == [
        f"Scenes {', '.join(map(str, worst[s]))}." for s in (slice(0, 4), slice(4, 6))
    ]


def test_the_run_is_named_and_users_text_is_literal(tmp_path):
    scorer, _ = run()
    facts = {
        "command": "python launch/train.py --dataset='folder:<b>&\"x\"'",
        "hardware": "2 cores of <i>CPU</i>",
        "training_minutes": 12.5,
        "preset": None,
    }
    path = report.write_report(
        tmp_path / "r.html",
        title="<script>alert('t')</script> & \"q\"",
        protocol="folder:<b>",
        summary=scorer.summary(),
        facts=facts,
        figures=[('<img src="x">', canvas.figure_to_png(report.distribution_figure([1.0], "m")))],
    )
    source = path.read_text()
    words = " ".join(Page(path).words)
    for text in (facts["command"], facts["hardware"], "12.5", "minutes of training", "folder:<b>"):
        assert text in words
    assert "<script" not in source and '<img src="x">' not in source and "<b>&" not in source
    assert 'alt="&lt;img src=&quot;x&quot;&gt;"' in source
    assert "preset" not in words


def test_scores_are_explained_where_they_stand_and_in_a_list(tmp_path):
    scorer, _ = run()
    path = report.write_report(tmp_path / "r.html", title="t", summary=scorer.summary())
    text = definitions.define("miou").text
    assert f'<abbr title="mean IoU: {text}">miou</abbr>' in path.read_text()
    assert any(text in word for word in Page(path).words)
    assert "higher is better" in Page(path).words


def test_equal_numbers_are_said_to_be_equal(tmp_path):
    scorer, _ = run()
    table = scorer.table()
    # Sums in another order differ in the last digit.
    table["msc"] = table["miou"] * (1 + 1e-15)
    summary = scorer.summary() | {"msc": table["msc"].mean(), "msc_std": table["msc"].std()}
    same = report.same_everywhere(summary, table)
    assert ["msc", "miou", "miou_micro"] in [
        [name for name in group if name in ("msc", "miou", "miou_micro")] for group in same
    ]
    path = report.write_report(tmp_path / "r.html", title="t", summary=summary, table=table)
    page = Page(path)
    assert "Names joined by = are different scores" in " ".join(page.words)
    tiles = path.read_text().split('<div class="tiles">')[1].split("</div></div>")[0]
    assert tiles.count(report.report_page.number(summary["miou"])) == 1
    table["msc"] = table["msc"][::-1]
    assert not any(
        {"msc", "miou"} <= set(group) for group in report.same_everywhere(summary, table)
    )


def test_failed_scenes_are_announced_and_drawn_first(tmp_path):
    scorer, scenes = run()
    broken = {name: values.copy() for name, values in scenes.items()}
    broken["masks"][4, 0, 0, 0] = broken["recon"][4, 0, 0] = broken["slot_recons"][4, 0] = np.nan
    failing = SceneScorer()
    failing.update(**{n: v for n, v in broken.items() if n != "slot_recons"})
    table = failing.table()
    for column in ("fg_ari", "mse"):
        order, _ = report.worst_first(table, column)
        assert order[0] == 4 and len(order) == 6
    path = report.write_report(
        tmp_path / "r.html",
        title="t",
        summary=failing.summary(),
        table=table,
        scenes=broken,
        sort_by="mse",
    )
    words = Page(path).words
    assert any(word.startswith("1 of 6 scenes failed: an output") for word in words)
    assert [word for word in words if word.startswith("Scenes ")][0].startswith("Scenes 4, ")
    histogram = report.distribution_figure(table["mse"], "mse")
    assert histogram.axes[0].get_title("right") == "mean inf: 1 failed, not drawn"


@pytest.mark.parametrize(
    "num, expected",
    [
        (0, {}),
        (1, {"Worst": [0]}),
        (2, {"Worst": [0], "Best": [1]}),
        (3, {"Worst": [0], "Median": [1], "Best": [2]}),
        (7, {"Worst": [0, 1], "Median": [2, 3], "Best": [6, 5]}),
        (
            101,
            {"Worst": [0, 1, 2, 3], "Median": [48, 49, 50, 51], "Best": [100, 99, 98, 97]},
        ),
    ],
)
def test_the_worst_median_and_best_scenes_are_chosen(num, expected):
    found = report.extremes(np.arange(num))
    assert {name.split()[0]: rows.tolist() for name, rows in found.items()} == expected


def test_groups_of_scenes_have_headings(tmp_path):
    scorer, scenes = run()
    order, _ = report.worst_first(scorer.table())
    groups = {
        name: {n: v[rows] for n, v in scenes.items()} | {"index": rows}
        for name, rows in report.extremes(order).items()
    }
    path = report.write_report(
        tmp_path / "r.html", title="t", summary={}, table=scorer.table(), scenes=groups
    )
    words = Page(path).words
    places = [words.index(name) for name in ("Worst scenes", "Median scenes", "Best scenes")]
    assert places == sorted(places)
    assert len(Page(path).sources) == 1 + 3


def test_index_maps_drawn_scenes_to_rows():
    scorer, scenes = run()
    chosen = {name: values[[4, 1]] for name, values in scenes.items()} | {"index": np.array([4, 1])}
    order, name = report.worst_first(scorer.table(), "fg_ari")
    ((caption, figure),) = report._scene_figures(chosen, scorer.table(), order, name)
    assert caption == "Scenes 1, 4."
    first = next(axes for axes in figure.axes if axes.images)
    np.testing.assert_allclose(first.images[0].get_array(), scenes["image"][1])
    with pytest.raises(UserError, match=r"`scenes\['index'\]` must have shape \[2\]"):
        next(report._scene_figures({**chosen, "index": np.arange(3)}, scorer.table(), order, name))


def test_without_labels_the_largest_error_is_worst(tmp_path):
    order, name = report.worst_first({"mse": np.array([0.1, 0.3, np.nan, 0.2])}, "fg_ari")
    assert (order.tolist(), name) == ([1, 3, 0], "mse")
    path = report.write_report(
        tmp_path / "r.html", title="bare", summary={"num_scenes": 0, "mse": float("nan")}
    )
    assert "–" in " ".join(Page(path).words)


def test_png_files_are_embedded(tmp_path):
    png = canvas.save_figure(panels.masks_grid(np.ones((1, 2, 4, 4, 1))), tmp_path / "masks.png")
    path = report.write_report(tmp_path / "r.html", title="t", summary={}, figures=[("masks", png)])
    assert len(Page(path).sources) == 1
