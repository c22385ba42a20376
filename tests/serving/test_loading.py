"""`tfobj.load`: shipped models and exports; runs are in tests/training/test_load_run.py."""

import pytest

import tfobj
from tfobj.errors import UserError


def test_a_shipped_model_says_what_it_is():
    text = repr(tfobj.load("slot_attention_tetris"))
    assert text.startswith("<slot_attention_tetris: SlotAttentionAutoencoder, images of 35x35x3")
    assert "foreground ARI 0.965" in text


@pytest.mark.parametrize("name", ["slot_attention_tetri", "no/such/folder", "", "x" * 5000])
def test_what_is_no_model_is_refused(name):
    with pytest.raises(UserError):
        tfobj.load(name)
