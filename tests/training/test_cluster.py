"""TF_CONFIG: who the workers are, and one line for each mistake in it."""

import json

import pytest

from tfobj.errors import UserError
from tfobj.training.cluster import EXAMPLE, VARIABLE, is_configured, read_cluster


def config(cluster, task):
    return json.dumps({"cluster": cluster, "task": task})


def test_worker_zero_is_the_chief():
    cluster = read_cluster(config({"worker": ["a:1", "b:2"]}, {"type": "worker", "index": 1}))
    assert (cluster.addresses, cluster.index, cluster.size) == (("a:1", "b:2"), 1, 2)
    assert [cluster.name(i) for i in range(2)] == ["the chief, worker 0 at a:1", "worker 1 at b:2"]


def test_a_chief_comes_first_and_workers_after_it():
    jobs = {"worker": ["a:1", "b:2"], "chief": ["c:3"]}
    chief, last = (
        read_cluster(config(jobs, task))
        for task in ({"type": "chief", "index": 0}, {"type": "worker", "index": "1"})
    )
    assert chief.addresses == last.addresses == ("c:3", "a:1", "b:2")
    assert (chief.index, last.index) == (0, 2)


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "TF_CONFIG must be JSON"),
        pytest.param("[" * 100_000, "TF_CONFIG must be JSON .*nested too deeply", id="deep"),
        pytest.param("9" * 5_000, "TF_CONFIG must be JSON", id="long"),
        ("[]", 'must have the entries "cluster" and "task"'),
        (
            config({"worker": "a:1"}, {"type": "worker", "index": 0}),
            '"worker" must be a list of "host:port". Received: "a:1"',
        ),
        (
            config({"worker": ["a"]}, {"type": "worker", "index": 0}),
            'must be a list of "host:port"',
        ),
        (
            config({"worker": ["a:70000"]}, {"type": "worker", "index": 0}),
            'must be a list of "host:port"',
        ),
        (
            config({"worker": ["a:1", "a:1"]}, {"type": "worker", "index": 0}),
            "needs an address of its own. Received twice: a:1",
        ),
        (
            config({"worker": ["a:1"], "ps": ["b:1"]}, {"type": "worker", "index": 0}),
            'may have "worker" and "chief".* Received: ps',
        ),
        (
            config({"worker": ["a:1", "b:2"]}, {"type": "worker", "index": 2}),
            'one of the cluster: worker 0, worker 1. Received: .*"index": 2',
        ),
        (
            config({"worker": ["a:1", "b:2"]}, {"type": "worker", "index": True}),
            "one of the cluster",
        ),
        (
            config({"worker": ["a:1", "b:2"]}, {"type": "chief", "index": 0}),
            'one of the cluster: worker 0, worker 1. Received: .*"chief"',
        ),
        (
            config({"chief": ["a:1", "b:2"]}, {"type": "chief", "index": 0}),
            '"chief" must have one address',
        ),
    ],
)
def test_mistakes_are_one_line(text, message):
    with pytest.raises(UserError, match=message) as e:
        read_cluster(text)
    assert VARIABLE in str(e.value)
    assert "\n" not in str(e.value)


def test_without_the_variable_there_is_an_example(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(
        UserError, match="--strategy=multiworker. needs the environment variable TF_CONFIG"
    ) as e:
        read_cluster()
    assert EXAMPLE in str(e.value)
    assert read_cluster(EXAMPLE).size == 2


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", False),
        (EXAMPLE, True),
        ("{", True),
        (config({"worker": ["a:1"]}, {"type": "worker", "index": 0}), False),
    ],
)
def test_configured_means_several(monkeypatch, text, expected):
    monkeypatch.setenv(VARIABLE, text)
    assert is_configured() is expected
