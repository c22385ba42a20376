"""States of a run without TensorFlow: the newest readable one counts, and good ones stay."""

import numpy as np
import pytest

from tfobj.errors import UserError
from tfobj.portable import artifact, records


def save(workdir, *steps):
    for step in steps:
        records.save_state(workdir, step, {"weight": np.float32([step])})


def names(workdir):
    return sorted(path.name for path in (workdir / "state").iterdir())


_EMPTY = f'{{"format": {artifact.FORMAT}}}'.encode()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", _EMPTY, b"[" * 100_000], ids=len)
def test_the_newest_readable_state_counts(tmp_path, capsys, content):
    save(tmp_path, 10, 20)
    (tmp_path / "state" / "step_00000020" / "state.json").write_bytes(content)
    summary, arrays = records.newest_state(tmp_path)
    assert summary["step"] == 10
    assert arrays["weight"] == [10.0]
    assert "step_00000020/state.json` is damaged" in capsys.readouterr().err


def test_damaged_states_never_push_good_ones_out(tmp_path):
    save(tmp_path, 10, 20)
    (tmp_path / "state" / "step_00000020" / "part_000.npz").write_bytes(b"cut")
    save(tmp_path, 12, 14)
    assert names(tmp_path) == ["step_00000012", "step_00000014", "step_00000020"]
    assert records.newest_state(tmp_path)[0]["step"] == 14


def test_steps_are_numbers_and_names_of_others_are_left_alone(tmp_path):
    save(tmp_path, 99_999_999, 100_000_000)
    (tmp_path / "state" / "step_mine").mkdir()
    (tmp_path / "state" / ".incomplete_step_00000010_7").mkdir()
    assert records.newest_state(tmp_path)[0]["step"] == 100_000_000
    records.remove_partial_states(tmp_path)
    save(tmp_path, 100_000_001)
    assert names(tmp_path) == ["step_100000000", "step_100000001", "step_mine"]


def test_nothing_readable_is_an_error(tmp_path):
    assert records.newest_state(tmp_path) is None
    save(tmp_path, 10)
    (tmp_path / "state" / "step_00000010" / "part_000.npz").unlink()
    with pytest.raises(UserError, match="No state of .* can be read"):
        records.newest_state(tmp_path)
