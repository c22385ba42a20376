"""Reading ahead and writing behind: order, bounds, errors, and leaving early."""

import threading

import pytest

from tfobj import threads


def test_items_come_in_order_and_are_read_ahead_up_to_the_limit():
    read = []
    third = threading.Event()

    def items():
        for i in range(10):
            read.append(i)
            if i == 3:
                third.set()
            yield i

    with threads.read_ahead(items(), limit=3) as ahead:
        assert third.wait(10.0)  # three wait, and the fourth is in hand
        assert read == [0, 1, 2, 3]
        assert list(ahead) == list(range(10))


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield "first"
        raise OSError("disk")

    with threads.read_ahead(items(), limit=5) as ahead:
        assert next(ahead) == "first"
        with pytest.raises(OSError, match="disk"):
            next(ahead)


def test_a_reader_ends_when_nobody_asks_any_more():
    closed = threading.Event()

    def endless():
        try:
            while True:
                yield 1
        finally:
            closed.set()

    items = endless()
    with threads.read_ahead(items, limit=2) as ahead:
        next(ahead)
    items.close()  # which a running generator refuses
    assert closed.is_set()


def test_calls_are_made_in_order_and_all_of_them():
    made = []
    with threads.WriteBehind(limit=2) as writer:
        for i in range(20):
            writer.do(made.append, i)
    assert made == list(range(20))


@pytest.mark.parametrize("when", ["do", "end"])
def test_an_error_of_a_call_is_raised(when):
    def fail():
        raise OSError("full")

    with pytest.raises(OSError, match="full"), threads.WriteBehind(limit=1) as writer:
        writer.do(fail)
        if when == "do":
            writer.do(print)


def test_calls_that_wait_are_dropped_when_the_block_is_left_by_an_error():
    made = []
    begun = threading.Event()
    free = threading.Event()

    def slow():
        begun.set()
        free.wait(10.0)
        made.append("slow")

    with pytest.raises(KeyboardInterrupt), threads.WriteBehind(limit=5) as writer:
        writer.do(slow)
        writer.do(made.append, "dropped")
        assert begun.wait(10.0)
        threading.Timer(0.05, free.set).start()
        raise KeyboardInterrupt
    assert made == ["slow"]
