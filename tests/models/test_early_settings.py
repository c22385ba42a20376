"""`model.early`: a training begins with other settings, exactly as if they were the model's."""

import conformance
import pytest

from tfobj.errors import UserError
from tfobj.models.base import Stage
from tfobj.models.efficient_morl import EfficientMORLConfig
from tfobj.models.iodine import IodineConfig
from tfobj.registry import model_class
from tfobj.training.stage_batches import stream_start

CASES = [
    case
    for case in [*conformance.MODELS, *conformance.CLIP_MODELS]
    if not case.name and case.config.early_names
]


def changed(config):
    """Returns the setting of `early` that changes all that may change, and the same as a dict."""
    changes = {}
    for name in config.early_names:
        value = getattr(config, name)
        changes[name] = value + 1 if isinstance(value, int) else 0.9 * value
    text = " ".join(f"{name}={value}" for name, value in changes.items())
    return f"9 {text}", changes


def loss_of(case, **overrides):
    model = conformance.build(case, **overrides)
    compiled = False if case.config.is_video else None
    _, terms, _ = conformance.gradients(
        model, conformance.scenes(case.config), compiled=compiled, stage=model.stages()[0][1]
    )
    assert model.config.early == overrides.get("early", ())
    return float(terms["loss"])


SLOW = ("video_decomposition", "sequential_iodine")
"""Models whose two graphs take ten seconds and more; `rnem` stands for models of clips."""


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=c.id, marks=[pytest.mark.slow] if c.model in SLOW else []) for c in CASES],
)
def test_a_stage_computes_as_a_model_with_its_settings(case):
    text, changes = changed(case.config)
    early = loss_of(case, early=(text,))
    assert early == pytest.approx(loss_of(case, **changes), rel=1e-6)
    assert early != pytest.approx(float(conformance.training_pass(case)[1]["loss"]), rel=1e-6)


def test_entries_overlap_and_end():
    config = IodineConfig(early=("10 num_steps=2 likelihood_scale=0.3", "30 num_slots=3"))
    model = model_class("iodine")(config)
    assert model.stages() == (
        (0, Stage(2, early=(("likelihood_scale", "0.3"), ("num_slots", "3"), ("num_steps", "2")))),
        (10, Stage(5, early=(("num_slots", "3"),))),
        (30, Stage(5)),
    )


def test_entries_cut_the_stages_of_a_curriculum():
    config = EfficientMORLConfig(
        image_size=(16, 16), num_steps=3, curriculum=((20, 1),), early=("10 likelihood_scale=0.5",)
    )
    model = model_class("efficient_morl")(config)
    assert [(start, stage.num_steps, bool(stage.early)) for start, stage in model.stages()] == [
        (0, 3, True),
        (10, 3, False),
        (20, 1, False),
    ]


def test_clips_go_on_where_their_length_stays():
    stages = (
        (0, Stage(1, num_frames=2, early=(("num_slots", "3"),))),
        (10, Stage(1, num_frames=2)),
        (30, Stage(1, num_frames=4)),
    )
    assert [stream_start(stages, step) for step in (0, 9, 10, 29, 30, 99)] == [0, 0, 0, 0, 30, 30]


@pytest.mark.parametrize(
    "entry, message",
    [
        ("num_steps=2", '"UPDATES name=value ..." with UPDATES above 0'),
        ("0 num_steps=2", "with UPDATES above 0"),
        ("100", "with UPDATES above 0"),
        ("", "with UPDATES above 0"),
        ("9" * 5_000 + " num_steps=2", "with UPDATES above 0"),
        ("\u0664 num_steps=2", "with UPDATES above 0"),
        ("100 num_steps", "with UPDATES above 0"),
        ("100 num_step=2", "Did you mean 'num_steps'"),
        ("100 latent_size=2", "Unknown setting in `model.early` 'latent_size'"),
        ("100 num_steps=-1", "num_steps"),
        ("100 likelihood_scale=wide", "model.likelihood_scale"),
    ],
)
def test_mistakes_are_named_when_the_run_is_set_up(entry, message):
    with pytest.raises(UserError, match=message):
        IodineConfig(early=(entry,))


def test_a_model_without_such_settings_says_so():
    with pytest.raises(UserError, match="nothing can change in this model"):
        model_class("slot_mlp").config_class(early=("5 num_slots=2",))
