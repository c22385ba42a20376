"""Rows and their report."""

import json

import pytest

from tfobj.bench import benchmark, page, turns
from tfobj.errors import UserError

SMALL = {
    "model.encoder_channels": (4,),
    "model.encoder_kernels": (3,),
    "model.decoder_channels": (4,),
    "model.decoder_kernels": (3,),
    "model.slot_size": 4,
    "model.num_steps": 1,
    "train.batch_size": 2,
    "data.num_train": 8,
    "data.num_test": 2,
}


def test_rows_are_models_times_settings_times_measurements():
    rows = benchmark.make_rows(
        ["iodine", "slot_attention"],
        "tetris",
        overrides={"train.batch_size": 2},
        also=[{"train.precision": "bfloat16"}],
        what=("train", "inference"),
    )
    assert list(map(str, rows)) == [
        "iodine train",
        "iodine inference",
        "iodine train train.precision=bfloat16",
        "iodine inference train.precision=bfloat16",
        "slot_attention train",
        "slot_attention inference",
        "slot_attention train train.precision=bfloat16",
        "slot_attention inference train.precision=bfloat16",
    ]
    assert {row.experiment.train.batch_size for row in rows} == {2}
    assert {row.experiment.data.num_train for row in rows} == {512}


def test_settings_may_be_those_of_one_model():
    rows = benchmark.make_rows(
        ["iodine", "slot_attention"], "tetris", also=[{"model": "iodine", "model.num_steps": 1}]
    )
    assert list(map(str, rows)) == [
        "iodine train",
        "iodine train model.num_steps=1",
        "slot_attention train",
    ]
    with pytest.raises(UserError, match="Unknown model of `also` 'iodin'. Did you mean 'iodine'"):
        benchmark.make_rows(
            ["iodine", "slot_attention"], "tetris", also=[{"model": "iodin", "model.num_steps": 1}]
        )


def test_equal_pipelines_are_measured_once():
    rows = benchmark.make_rows(
        ["iodine", "slot_attention"],
        "tetris",
        overrides={"train.batch_size": 2},
        also=[{"train.batch_size": 4}],
        what=("data",),
    )
    assert [row.experiment.train.batch_size for row in rows] == [2, 4]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"models": ["iodin"]}, "Unknown model 'iodin'. Did you mean 'iodine'"),
        ({"dataset": "tetriss"}, "Unknown dataset 'tetriss'"),
        ({"what": ["training"]}, "Unknown measurement 'training'. Did you mean 'train'"),
        (
            {"also": [{"train.precison": "bfloat16"}]},
            "Unknown setting 'train.precison'. Did you mean 'train.precision'",
        ),
    ],
)
def test_unknown_names_get_the_nearest(arguments, message):
    with pytest.raises(UserError, match=message):
        benchmark.make_rows(**{"models": ["iodine"], "dataset": "tetris", **arguments})


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"seconds": 0.0}, "`seconds` must be positive"),
        ({"seconds": float("nan")}, "`seconds` must be positive"),
        ({"blocks": 0}, "`blocks` must be at least 1"),
        ({"strategy": "gpus"}, "Unknown strategy 'gpus'. Did you mean 'gpu'"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        benchmark.run(benchmark.make_rows(["iodine"], "tetris"), **arguments)
    with pytest.raises(UserError, match="`rows` must have at least one entry"):
        benchmark.run([])


def test_report_of_real_processes(tmp_path, capfd):
    rows = benchmark.make_rows(
        ["slot_attention"], "tetris", overrides=SMALL, what=benchmark.MEASUREMENTS
    )
    report = benchmark.run(rows, strategy="cpu", seconds=0.05, blocks=2, data_dir=tmp_path)
    train, inference, data = report["rows"]
    assert [line["what"] for line in report["rows"]] == ["train", "inference", "data"]
    for line in report["rows"]:
        assert len(line["ms_per_step_per_block"]) == 2
        assert 0 < line["ms_per_step_min"] <= line["ms_per_step"]
        assert line["ms_per_step_spread"] >= 0
        assert line["images_per_second"] == pytest.approx(2000 / line["ms_per_step"])
        assert line["peak_memory_mb"] > 100
        assert len(line["matmul_gflops_per_block"]) == 2
        assert (line["model"], line["dataset"], line["batch_size"], line["precision"]) == (
            "slot_attention",
            "tetris",
            2,
            "float32",
        )
    assert 2 < train["gflop_per_step"] / inference["gflop_per_step"] < 3.1
    assert data["gflop_per_step"] is None
    assert train["pipeline_ratio"] == pytest.approx(
        data["images_per_second"] / train["images_per_second"]
    )
    assert report["calibration"]["convolution_gflops"]["float32"] > 0
    assert report["calibration"]["matmul_gflops"] > 0
    text = benchmark.format_report(report)
    assert "the pipeline makes" in text
    assert max(map(len, text.splitlines())) <= 130
    assert capfd.readouterr().out == "", "progress belongs on stderr"


def test_other_work_is_measured(monkeypatch, tmp_path):
    """Of 100 ticks 70 were idle or waited for a disk."""
    times = tmp_path / "stat"
    monkeypatch.setattr(turns, "PROCESSOR_TIMES", times)
    assert turns.busy_share(0.0) == 0.0  # not on this system
    times.write_text("cpu  100 0 0 900 0 0 0 0 0 0\n")
    later = "cpu  130 0 0 960 10 0 0 0 0 0\n"
    monkeypatch.setattr(turns.time, "sleep", lambda seconds: times.write_text(later))
    assert turns.busy_share() == pytest.approx(0.3)


def test_reports_of_the_page_are_chosen_by_name_and_table():
    assert page.chosen_reports(["all"]) == list(page.REPORTS)
    speed = page.chosen_reports(["speed"])
    assert len(speed) == 11 and all(name.startswith("speed_") for name in speed)
    assert page.chosen_reports(["clips", "speed_monet_multi_dsprites"]) == [
        "speed_monet_multi_dsprites",
        "clips_04_frames",
        "clips_10_frames",
        "clips_40_frames",
    ]
    with pytest.raises(UserError, match="'sped'. Did you mean 'speed'"):
        page.chosen_reports(["sped"])


@pytest.mark.parametrize("name", [name for name in page.REPORTS if name != "serve"])
def test_reports_of_the_page_have_rows(name):
    plan = page.REPORTS[name]
    rows = benchmark.make_rows(
        plan.models, plan.dataset, plan.preset, plan.overrides, plan.also, plan.what
    )
    assert len(rows) >= 2


def test_reports_are_written_one_by_one_with_the_time_left(tmp_path, capsys):
    (tmp_path / "clips_04_frames.json").write_text('{"minutes": 3.0}')

    def measure_one(plan, strategy):
        if plan is page.REPORTS["clips_40_frames"]:
            raise KeyboardInterrupt
        return {"rows": [plan.overrides["model.num_frames"], strategy]}

    with pytest.raises(KeyboardInterrupt):
        page.measure(page.chosen_reports(["clips"]), tmp_path, measure_one, "cpu")
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "clips_04_frames.json",
        "clips_10_frames.json",
    ]
    report = json.loads((tmp_path / "clips_10_frames.json").read_text())
    assert report["rows"] == [10, "cpu"]
    assert report["command"] == "python launch/benchmark.py --rows=clips_10_frames"
    assert "[1/3] clips_04_frames, about 9 min left" in capsys.readouterr().err
