"""Where the largest batch is searched, with compilers made up of a formula."""

from tfobj.bench import tpu_search

HBM = 100


def report(batch, needed):
    return {
        "batch_size": batch,
        "fits": needed <= HBM,
        "needed_bytes": needed,
        "hbm_bytes": HBM,
        "error": None,
    }


def search(memory, first, multiple=1, max_batch=1024, fails=(), seconds=1e9, clock=lambda: 0.0):
    """Searches with a compiler whose need of memory is a function of the batch.

    Returns (result, the batches that were compiled).
    """
    asked = []

    def measure(batch, seconds):
        asked.append(batch)
        if batch in fails:
            return {"fits": None, "error": "crash", "hbm_bytes": HBM}
        return report(batch, memory(batch))

    known = {first: report(first, memory(first))}
    result = tpu_search.largest_batch(measure, known, multiple, max_batch, seconds, clock)
    return result, asked


def summary(result):
    return result["largest"], result["too_large"], result["complete"]


def test_search_compiles_the_neighbours_of_the_straight_line():
    result, asked = search(lambda batch: 10 + batch, first=4)
    assert summary(result) == (90, 91, True)
    assert asked == [28, 90, 91]
    assert [trial["batch_size"] for trial in result["trials"]] == [4, 28, 90, 91]


def test_search_keeps_to_multiples_of_the_devices():
    result, asked = search(lambda batch: 10 + batch, first=8, multiple=8)
    assert (result["largest"], result["too_large"]) == (88, 96)
    assert not [batch for batch in asked if batch % 8]


def test_search_may_start_from_a_batch_that_does_not_fit():
    result, asked = search(lambda batch: 10 + batch, first=200)
    assert summary(result) == (90, 91, True)
    assert len(asked) <= 3


def test_search_ends_where_nothing_fits():
    result, asked = search(lambda batch: 101, first=64)
    assert summary(result) == (0, 1, True)
    assert len(asked) <= 7


def test_search_ends_at_its_limit_where_everything_fits():
    result, asked = search(lambda batch: 1 + batch / 100, first=32, max_batch=100, multiple=8)
    assert summary(result) == (96, None, True)
    assert asked == [96]


def test_search_goes_on_where_the_compiler_recomputes_near_the_limit():
    """The line says 45; beyond 40 memory hardly grows."""
    result, asked = search(
        lambda batch: 10 + 2 * batch if batch < 40 else 90 + (batch - 40) * 0.1, first=4
    )
    assert summary(result) == (140, 141, True)
    assert len(asked) <= 8


def test_search_survives_memory_in_steps():
    result, asked = search(lambda batch: 10 + -(-batch // 8) * 8, first=3)
    assert summary(result) == (88, 89, True)
    assert len(asked) <= 16


def test_batches_that_do_not_compile_bound_the_search():
    result, _ = search(lambda batch: 10 + batch, first=4, fails=range(33, 2000))
    assert summary(result) == (32, 33, True)
    assert result["trials"][-1]["error"] == "crash"


def test_failure_below_a_batch_that_fits_is_passed_over():
    result, _ = search(lambda batch: 10 + batch, first=4, fails=(28,), max_batch=20)
    assert result["largest"] == 20
    result = tpu_search.largest_batch(
        lambda batch, seconds: report(batch, 10 + batch),
        {4: {"fits": None}, 8: report(8, 18)},
        1,
        1024,
        1e9,
    )
    assert (result["largest"], result["too_large"]) == (90, 91)


def test_search_ends_with_its_time():
    ticks = iter([0.0, 0.0, 0.0, 20.0, 20.0])
    result, asked = search(lambda batch: 10 + batch, first=4, seconds=10, clock=lambda: next(ticks))
    assert asked == [28]
    assert summary(result) == (28, None, False)
    assert result["predicted"] == 90
