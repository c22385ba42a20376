"""The battery of `test_conformance.py`, continued: every model as a Keras model."""

import conformance
import keras
import numpy as np
import pytest
import tensorflow as tf
from conformance import (
    BATCH,
    CLIP_MODELS,
    MODELS,
    SEED,
    build,
    model_of,
    scenes,
    training_pass,
)

from tfobj import metrics
from tfobj.errors import UserError

UNNAMED = [case for case in (*MODELS, *CLIP_MODELS) if not case.name]
each_model = pytest.mark.parametrize("case", UNNAMED, ids=lambda case: case.id)
one_model = pytest.mark.parametrize("case", UNNAMED[:1], ids=lambda case: case.id)

NUM_SCENES = 6
"""One and a half batches: means over scenes are not means over batches."""


class Seen(keras.callbacks.Callback):
    """Keeps the names of what Keras reports at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.names = []

    def on_epoch_end(self, epoch, logs):
        self.names.append(set(logs))


@each_model
def test_call_takes_what_people_hold(case):
    """Bytes, the pixels as float32 and as float64, arrays and tensors: one and the same picture."""
    model = model_of(case)
    image = np.rint(scenes(case.config, batch=2) * 255).astype(np.uint8)
    if case.config.is_video:
        image = image[:, :1]
    pixels = image.astype(np.float32) / np.float32(255)
    expected = model(pixels, seed=conformance.seed()).recon

    for same in (image, tf.constant(image), image / 255.0, tf.constant(pixels), {"image": image}):
        found = model(same, seed=conformance.seed()).recon
        np.testing.assert_allclose(found, expected, atol=1e-5)
    for wrong in (pixels * 255, pixels - 0.1, pixels * np.nan, image.astype(int), image > 9):
        with pytest.raises(UserError, match="`image` must be uint8, or finite floats in .0, 1."):
            model(wrong)


@each_model
def test_fit_evaluate_predict_export(case, tmp_path):
    """`compile()` without arguments, arrays, ordinary callbacks."""
    model = build(case)
    image = scenes(case.config, batch=NUM_SCENES)
    seen = Seen()

    model.compile()
    history = model.fit(
        np.rint(image * 255).astype(np.uint8),
        batch_size=BATCH,
        epochs=2,
        validation_data=image,
        callbacks=[seen, keras.callbacks.EarlyStopping("val_loss", patience=5)],
        verbose=0,
    ).history
    assert int(model.optimizer.iterations) == 4
    assert (
        seen.names == [set(history)] * 2 and {"loss", "mse", "val_loss", "val_mse"} <= seen.names[0]
    )
    assert np.isfinite(conformance.flat(history.values())).all()

    outputs = model.predict(image, batch_size=BATCH, verbose=0)
    assert isinstance(outputs.recon, np.ndarray) and outputs.recon.shape == image.shape
    at_once = model.predict_on_batch(image[:2])
    np.testing.assert_allclose(at_once.masks, outputs.masks[:2], atol=1e-4)
    scores = model.evaluate(image, batch_size=BATCH, verbose=0, return_dict=True)
    assert scores["loss"] == history["val_loss"][-1]

    # The means are over scenes, although the last batch is smaller.
    on_batches = [
        model.test_on_batch(batch, return_dict=True)["mse"]
        for batch in (image[:BATCH], image[BATCH:])
    ]
    weights = [BATCH, NUM_SCENES - BATCH]
    np.testing.assert_allclose(scores["mse"], np.average(on_batches, weights=weights), rtol=1e-5)

    model.export(tmp_path / "exported", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "exported")
    served = loaded.serve(tf.constant(image[:2]))
    np.testing.assert_allclose(served["masks"], outputs.masks[:2], atol=1e-4)


@each_model
def test_fit_on_two_replicas_is_one_update_on_the_joined_batch(case, two_replicas):
    """Plain SGD, which shows the scale of a gradient; the replicas hold different scenes."""
    _, terms, gradients = training_pass(case)
    reference = model_of(case)
    trained = reference.trained_variables(reference.stages()[0][1])
    before = {variable.path: variable.numpy() for variable in trained}

    rate = 1e-2 / max(float(tf.reduce_max(tf.abs(g))) for g in gradients)
    with two_replicas.scope():
        model = build(case)
        model.run_seed = SEED[0]
        model.compile(keras.optimizers.SGD(rate))
        model.optimizer.iterations.assign(SEED[1])
    history = model.fit(scenes(case.config), batch_size=BATCH, shuffle=False, verbose=0).history

    for name, value in terms.items():
        np.testing.assert_allclose(history[name], [value], rtol=1e-4, err_msg=name)
    after = {variable.path: variable.numpy() for variable in model.trainable_variables}
    for (path, start), gradient in zip(before.items(), gradients, strict=True):
        # The largest step is 0.01.
        moved = after[path] - start
        np.testing.assert_allclose(moved, -rate * gradient, atol=2e-5, err_msg=path)


@one_model
@pytest.mark.parametrize("num_scenes", [7, 9])
def test_replicas_with_unequal_shares(case, num_scenes, two_replicas):
    """The last batch has 3 scenes, or 1, which leaves a replica without any."""
    image = np.concatenate([scenes(case.config, seed=s) for s in range(3)])[:num_scenes]
    results = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = build(case)
            model.compile(keras.optimizers.SGD(0.1, global_clipnorm=0.5))
        options = {"batch_size": BATCH, "verbose": 0}
        history = model.fit(image, shuffle=False, validation_data=image, **options).history
        weights = [v.numpy() for v in model.trainable_variables]
        results.append((weights, history, model.predict(image, **options)))

    (weights, history, outputs), (other_weights, other_history, other_outputs) = results
    for a, b in zip(weights, other_weights, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-6)
    for name, values in history.items():
        np.testing.assert_allclose(other_history[name], values, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(other_outputs.recon, outputs.recon, atol=1e-5)


@one_model
def test_datasets_metrics_and_ways_to_hand_over_a_batch(case):
    model = build(case)
    image = scenes(case.config, batch=NUM_SCENES)
    masks = np.zeros(image.shape[:3], np.uint8)
    masks[:, 2:5, 3:6] = 1
    model.compile("sgd", metrics=[metrics.ForegroundARI(num_true=2)])

    forms = ((image, masks), {"image": image, "mask": masks})
    data = [tf.data.Dataset.from_tensors(form) for form in forms]
    found = [model.evaluate(batches, verbose=0, return_dict=True) for batches in data]
    assert found[0] == found[1] and set(found[0]) == {"loss", "mse", "fg_ari"}
    assert model.test_on_batch(image, masks, return_dict=True) == found[0]
    assert np.isfinite(model.train_on_batch(image, masks, return_dict=True)["loss"])

    # What a dataset hides until it is read.
    with pytest.raises(UserError, match=r"finite floats in \[0, 1\]. Received: values in 0 ... 2"):
        model.fit(tf.data.Dataset.from_tensors((image * 250, masks)), shuffle=False, verbose=0)


@one_model
def test_compiled_model_survives_a_file(case, tmp_path):
    model = build(case)
    model.compile("adam")
    image = scenes(case.config)
    model.fit(image, verbose=0, callbacks=[keras.callbacks.ModelCheckpoint(tmp_path / "m.keras")])
    again = keras.models.load_model(tmp_path / "m.keras")
    assert again.evaluate(image, verbose=0) == model.evaluate(image, verbose=0)
    for trained in (model, again):
        trained.fit(image, verbose=0, shuffle=False)
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)

    lines = []
    model.summary(print_fn=lambda line, **kwargs: lines.append(line))
    assert f"{model.count_trainable():,}" in "\n".join(lines)


@one_model
@pytest.mark.parametrize(
    "wrong, message",
    [
        (lambda x: x[0], r"Received: \(10, 12, 3\). One image is a batch of one: image.None."),
        (lambda x: x[..., :1], r"Received: \(4, 10, 12, 1\)"),
        (lambda x: x[:, 1:], r"Received: \(4, 9, 12, 3\)"),
        (lambda x: x[:0], r"Received: \(0, 10, 12, 3\)"),
        (lambda x: {"img": x}, "A batch must hold 'image'. Received: a dict of 'img'"),
        (lambda x: None, "Received: "),
    ],
)
def test_batches_of_another_shape_are_refused_before_anything_is_traced(case, wrong, message):
    model = model_of(case)
    model.compile()
    batch = wrong(scenes(case.config))
    for use in (model, model.predict, model.fit):
        with pytest.raises(UserError, match=message):
            use(batch)


@one_model
@pytest.mark.parametrize("options", [{"gradient_accumulation_steps": 2}, {"use_ema": True}])
def test_optimizers_with_a_state_of_their_own_train(case, options):
    model = build(case)
    model.compile(keras.optimizers.Adam(1e-3, **options))
    before = model.get_weights()
    model.fit(scenes(case.config), batch_size=BATCH // 2, verbose=0)
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))


@one_model
def test_what_keras_cannot_do_is_refused(case, two_replicas):
    model = build(case)
    with pytest.raises(UserError, match="`loss` must be None.*Received: loss='mse'"):
        model.compile("adam", "mse")
    with pytest.raises(UserError, match="`format` must be 'tf_saved_model'.*'onnx'"):
        model.export("unused", format="onnx")
    model.compile()
    with pytest.raises(UserError, match="`sample_weight` must be None"):
        masks = np.zeros((BATCH, *case.config.image_size), np.uint8)
        model.fit(scenes(case.config), masks, sample_weight=np.ones(BATCH), verbose=0)

    model.compile(metrics=[metrics.ForegroundARI(num_true=2)])
    with pytest.raises(UserError, match="`metrics` need true masks"):
        model.fit(scenes(case.config), verbose=0)

    with two_replicas.scope():
        with pytest.raises(UserError, match="must be built in the scope of the strategy"):
            model.compile()
        model = build(case)
    for option in ({"jit_compile": True}, {"steps_per_execution": 2}):
        (name,) = option
        with pytest.raises(UserError, match=f"`{name}` must be .* under 2 replicas"):
            model.compile(**option)
