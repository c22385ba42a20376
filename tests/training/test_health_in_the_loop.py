"""A model's health reaches the reader of a run: KL per layer, and an unmet GECO constraint."""

import functools

import numpy as np
import tensorflow as tf

from tfobj.metrics.health import diagnose
from tfobj.models.slot_attention.model import SlotAutoencoder
from tfobj.structs import SceneOutputs
from tfobj.training import observer
from tfobj.training.evaluation import Evaluator
from tfobj.training.workdir import read_metrics


def test_kl_of_layers_is_part_of_the_health():
    def model(image, **kwargs):
        masks = tf.fill([*image.shape[:1], 2, *image.shape[1:3], 1], 0.5)
        posterior = {
            "kl": tf.ones([image.shape[0], 2, 3]),
            "layer_kl": tf.constant([[1.0, 5.0]] * image.shape[0]),
        }
        return SceneOutputs(
            image, masks, tf.stack([image, image], 1), tf.zeros([image.shape[0], 2, 3]), posterior
        )

    health = Evaluator(model, 4).health(np.zeros([4, 6, 6, 3], np.float32))
    assert (
        health["layer_kl_1"],
        health["layer_kl_2"],
        health["kl_slot_max"],
        health["active_latents"],
    ) == (1.0, 5.0, 3.0, 3.0)


def test_an_unmet_constraint_is_said_once(tmp_path, train_tiny, monkeypatch, capsys):
    objective = SlotAutoencoder.objective

    def with_geco(self, outputs, step):
        loss, terms = objective(self, outputs, step)
        slack = tf.cast(tf.where(step < 2, 5.0, -70.0), tf.float32)
        return loss, {
            **terms,
            "geco_multiplier": 3.0 + tf.cast(step, tf.float32),
            "geco_constraint": slack,
        }

    monkeypatch.setattr(SlotAutoencoder, "objective", with_geco)
    monkeypatch.setattr(observer, "diagnose", functools.partial(diagnose, warmup_steps=0))
    train_tiny(tmp_path)
    said = [
        line
        for line in capsys.readouterr().err.splitlines()
        if "warning: GECO target not met" in line
    ]
    # met at step 2 of 6, logged every 2
    assert len(said) == 1
    assert "for 33.3 % of the run: 70 nats are missing" in said[0]
    rows = [row for row in read_metrics(tmp_path) if row["split"] == "train"]
    assert [row["geco_constraint"] for row in rows] == [5.0, -70.0, -70.0]
