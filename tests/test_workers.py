"""Many runs on whatever maps: the same bits, data sent once, errors whole, and nobody left at work."""

from __future__ import annotations

import functools
import importlib.util
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from multiprocessing.pool import ThreadPool

import numpy as np
import pytest

import fastrev
from fastrev._engine import pooled, settings
from fastrev._pool import shipping
from fastrev._pool.workers import fan_out
from tests.cases import random_case
from tests.test_house import PACKAGE, run_python
from tests.test_threads import system_threads, until

SEEDS = range(5)
affinity = getattr(os, "sched_getaffinity", lambda pid: {0})
two_cores = pytest.mark.skipif(not hasattr(os, "sched_getaffinity") or len(affinity(0)) < 2, reason="needs two cores")


# ---- pools and what they are given ---------------------------------------------------------------------------


def processes(method):
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method))


@contextmanager
def loky():
    joblib = pytest.importorskip("joblib")

    def on_loky(function, items):
        return joblib.Parallel(n_jobs=2)(joblib.delayed(function)(item) for item in items)

    yield on_loky
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True)


@contextmanager
def dask():
    distributed = pytest.importorskip("distributed", reason="Dask is not installed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor()


POOLS = {
    "1": lambda: nullcontext(1), "2": lambda: nullcontext(2), "map": lambda: nullcontext(map),
    "threads": lambda: ThreadPoolExecutor(2), "spawn": lambda: processes("spawn"),
    "pool": lambda: multiprocessing.get_context("spawn").Pool(2),
    "forkserver": lambda: processes("forkserver"), "loky": loky, "dask": dask,
}  # fmt: skip


@pytest.fixture(scope="module", params=POOLS)
def pool(request):
    with POOLS[request.param]() as made:
        yield request.param, made


@pytest.fixture(scope="module")
def spawned():
    with processes("spawn") as made:
        yield made


class Counted:
    """Data that notes in a file who unpickles it."""

    def __init__(self, path):
        self.path, self.pickled = path, 0
        self.case = random_case(7)

    def __reduce__(self):
        self.pickled += 1
        return unpickled, (self.path,)


def unpickled(path):
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    return Counted(path)


def trial(shared, seed):
    case = shared.case
    result = case.meta_grad(v0=np.full(case.model.num_params, seed / 9))
    gradients = [np.asarray(getattr(result.grad, name)).tobytes() for name in ("lr", "decay", "w0", "x")]
    return result.loss, result.w.tobytes(), *gradients, result.stats.exact, os.getpid()


# ---- the same bits, and data sent once -----------------------------------------------------------------------


def test_the_same_bits_wherever_it_runs(pool, tmp_path):
    name, workers = pool
    shared = Counted(tmp_path / "who")
    expected = [trial(shared, seed)[:-1] for seed in SEEDS]
    assert len(set(expected)) == len(SEEDS)
    with fan_out(trial, shared, workers) as each:
        results = [each(SEEDS) for _ in range(4)]
        assert each([]) == []
        assert [each([seed])[0][:-1] for seed in SEEDS] == expected
    for found in results:
        assert [result[:-1] for result in found] == expected
    assert not shipping._lent
    at_work = {result[-1] for found in results for result in found}
    if name in ("1", "2", "map", "threads"):
        assert at_work == {os.getpid()}
        assert shared.pickled == 0
    else:
        assert os.getpid() not in at_work
        assert shared.pickled == 1
        receivers = Counter(shared.path.read_text(encoding="utf-8").split())
        assert set(map(str, at_work)) <= receivers.keys()
        assert len(receivers) <= 2
        assert receivers.total() <= 4  # of 25 tasks; each process might be sent it twice, never once a task


def test_a_new_context_shares_anew(spawned, tmp_path):
    for i in range(5):  # more than are kept
        shared = Counted(tmp_path / f"who {i}")
        with fan_out(trial, shared, spawned) as each:
            assert [len(each(SEEDS)) for _ in range(2)] == [5, 5]
        assert shared.pickled == 1


def double(shared, item):
    return shared * item


@pytest.mark.parametrize("workers", [1, np.int64(2), -1, 7, map, ThreadPoolExecutor(1).map], ids=str)
def test_what_maps_is_fine(workers):
    with fan_out(double, 2, workers) as each:
        assert each(range(9)) == list(range(0, 18, 2))


def test_partial_lazy_unordered_and_pools_with_map():
    with ThreadPool(2) as pool, ThreadPoolExecutor(2) as executor:
        lazily = lambda function, items: (function(item) for item in items)
        kinds = [pool, pool.imap_unordered, lazily, functools.partial(executor.map, chunksize=2), executor]
        for workers in kinds:
            with fan_out(double, 2, workers) as each:
                assert each(range(9)) == list(range(0, 18, 2))


def test_a_process_without_what_is_shared_says_so():
    """And keeps the last few that it was sent."""
    tokens = [f"test {i}" for i in range(shipping._KEPT + 1)]
    try:
        for token in tokens:
            parcel = shipping.Parcel(token, 3, 5, 0)
            missing = shipping.do(double, parcel)
            assert isinstance(missing, shipping.Missing)
            assert (missing.number, missing.unreadable) == (3, "")
            sent = shipping.Parcel(token, 3, 5, 1, shipping.pickle.dumps(2))
            assert shipping.do(double, sent) == shipping.do(double, parcel) == shipping.Done(3, 10)
        assert tokens[0] not in shipping._received
        assert set(tokens[1:]) <= shipping._received.keys()
    finally:
        for token in tokens:
            shipping._received.pop(token, None)


# ---- arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        (0, "must be at least 1, or -1 for all cores, not 0"),
        (-2, "not -2"),
        (True, "must be an int, something to call as map"),
        (np.True_, "must be an int"),
        (2.0, r"not 2\.0"),
        ("2", "not '2'"),
        (None, "not None"),
        (lambda: None, "as map.*, not .*<lambda>, which takes other arguments. If it makes a pool, call it"),
        (ThreadPoolExecutor, r"not the class ThreadPoolExecutor\. Pass a ThreadPoolExecutor\(\.\.\.\)"),
    ],
)
def test_other_workers_are_refused_before_anything(workers, message):
    with pytest.raises(fastrev.ArgumentError, match="Argument 'workers'.*" + message):
        fan_out(double, 2, workers)


@pytest.mark.parametrize(
    ("workers", "message"),
    [
        (lambda function, items: [function(item) for item in items][:-1], "gives 3 results for 4 tasks"),
        (lambda function, items: [function(item) for item in items] * 2, "gives 8 results for 4 tasks"),
        (lambda function, items: [function(items[0])] * 4, "gives 4 results for 4 tasks"),
        (lambda function, items: None, "one that gives a NoneType"),
        (lambda function, items: items, "gives Parcel objects"),
    ],
)
def test_what_does_not_map_is_refused(workers, message):
    with fan_out(double, 2, workers) as each, pytest.raises(fastrev.ArgumentError, match=message):
        each(range(4))


def test_futures_are_no_results():
    with ThreadPoolExecutor(1) as pool:
        submit = lambda function, items: [pool.submit(function, item) for item in items]
        with (
            fan_out(double, 2, submit) as each,
            pytest.raises(fastrev.ArgumentError, match=r"gives Future objects.*client\.get_executor\(\)"),
        ):
            each(range(4))


def call(shared, item):
    return shared(item)


def test_a_local_function_goes_to_threads_and_by_cloudpickle_to_processes(spawned, monkeypatch):
    factor = 3

    def local(item):
        return factor * item

    with fan_out(call, local, 2) as each:
        assert each(range(4)) == [0, 3, 6, 9]
    if importlib.util.find_spec("cloudpickle"):
        with fan_out(call, local, spawned) as each:
            assert each(range(4)) == [0, 3, 6, 9]

    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(shipping, "import_module", absent)
    with (
        fan_out(call, local, spawned) as each,
        pytest.raises(fastrev.ArgumentError, match=r"'workers'.*an int.*local.*top level of a module.*cloudpickle"),
    ):
        each(range(4))


class AtHome:
    """Can be pickled, and read in one process only: as what is defined in the main module of a notebook."""

    def __init__(self, process):
        if process != os.getpid():
            raise AttributeError("Can't get attribute 'AtHome'")

    def __reduce__(self):
        return AtHome, (os.getpid(),)


def test_what_others_cannot_read_is_named(spawned):
    with (
        fan_out(double, AtHome(os.getpid()), spawned) as each,
        pytest.raises(fastrev.ArgumentError, match=r"'workers'.*AttributeError: Can't get attribute 'AtHome'"),
    ):
        each(range(4))


def test_a_lock_cannot_be_sent(spawned):
    with fan_out(double, threading.Lock(), spawned) as each, pytest.raises(fastrev.ArgumentError, match="lock"):
        each(range(4))


# ---- one thread a run ----------------------------------------------------------------------------------------


def company(shared, item):
    time.sleep(0.05)  # so that another thread takes the next
    return settings.one_thread(), settings.may_pin(), sorted(affinity(0)), threading.get_native_id()


def test_a_run_has_one_thread_in_a_pool(pool):
    _, workers = pool
    alone = settings.one_thread(), settings.may_pin()
    with fan_out(company, None, workers) as each:
        found = [answer[:2] for answer in each(range(4))]
    assert found == [alone if workers == 1 else (True, False)] * 4
    assert (settings.one_thread(), settings.may_pin()) == alone


def test_the_users_word_holds_in_pools_of_this_process():
    with fastrev.threads(per_run=2), fan_out(company, None, 2) as each:
        assert [answer[0] for answer in each(range(2))] == [False, False]
        assert each(range(2))[0][2] == sorted(affinity(0))


@two_cores
def test_own_threads_share_out_the_cores():
    before = affinity(0)
    with fan_out(company, None, 2) as each:
        found = {answer[3]: frozenset(answer[2]) for answer in each(range(6))}
        assert affinity(0) == before
    assert len(found) == 2
    assert threading.get_native_id() not in found
    first, second = found.values()
    assert not first & second
    assert first | second == before
    assert affinity(0) == before
    with fastrev.threads(pin=False), fan_out(company, None, 2) as each:
        assert {frozenset(answer[2]) for answer in each(range(6))} == {frozenset(before)}
    with fan_out(company, None, len(before) + 1) as each:  # too many to share them out
        assert {frozenset(answer[2]) for answer in each(range(6))} == {frozenset(before)}


def test_nothing_is_left_with_the_threads_of_others():
    with ThreadPoolExecutor(1) as pool:
        with fan_out(company, None, pool) as each:
            each(range(2))
        with fan_out(fail, None, pool) as each, pytest.raises(ZeroDivisionError):
            each([0])
        assert not pool.submit(pooled.in_a_pool).result()
        assert set(pool.submit(affinity, 0).result()) == set(affinity(0))


def test_own_threads_are_gone_afterwards():
    before = system_threads()
    with fan_out(company, None, 2) as each:
        each(range(4))
    assert until(lambda: system_threads() <= before)


def twice(shared, seed):
    with fan_out(trial, shared, 2) as each:
        return threading.active_count(), [result[:-1] for result in each([seed, seed + 1])]


@pytest.mark.parametrize("workers", ["2", "spawned"])
def test_a_task_that_fans_out_keeps_to_its_core(workers, tmp_path, request):
    workers = 2 if workers == "2" else request.getfixturevalue(workers)
    shared, threads = Counted(tmp_path / "who"), threading.active_count() + 2
    expected = [trial(shared, seed)[:-1] for seed in range(5)]
    with fan_out(twice, shared, workers) as each:
        found = each(range(4))
    assert [results for _, results in found] == [expected[i : i + 2] for i in range(4)]
    assert max(count for count, _ in found) <= threads


# ---- errors, and an end of work ------------------------------------------------------------------------------


def fail(shared, item):
    return 1 / item


def test_errors_come_back_whole(pool, tmp_path):
    _, workers = pool
    with fan_out(fail, None, workers) as each:
        with pytest.raises(ZeroDivisionError):
            each([1, 2, 0, 3])
        assert each([1, 2]) == [1.0, 0.5]  # it goes on
    model = fastrev.MLP((1, 1, 2), "identity", "squared_error")
    with fan_out(diverging, model, workers) as each, pytest.raises(fastrev.DivergenceError, match="Step") as info:
        each([0.1, 1e3])
    assert info.value.step > 0
    assert info.value.group in model.groups
    info.value.run.rewind()
    assert info.value.run.stats.exact


def diverging(model, lr):
    fastrev.train(model, model.init(0), train=([[1.0]], [[1.0, 2.0]]), lr=lr, decay=0.9, steps=100)


@pytest.fixture
def ctrl_c():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which background processes ignore
    yield
    signal.signal(signal.SIGINT, before)


def endless(shared, what):
    """A run of minutes; or its end, once it is on its way."""
    begun, ended = shared
    if what == "run":
        model = fastrev.MLP((1, 2))
        try:
            begun.set()
            fastrev.train(model, model.init(0), train=([[1.0]], [[0.0, 1.0]]), lr=1e-9, decay=1.0, steps=10**9)
        except BaseException as error:
            ended.append(type(error))
            raise
    begun.wait()
    time.sleep(0.05)
    if what == "interrupt":
        os.kill(os.getpid(), signal.SIGINT)
        return
    raise ZeroDivisionError


@pytest.mark.parametrize(("what", "error"), [("fail", ZeroDivisionError), ("interrupt", KeyboardInterrupt)])
def test_nobody_computes_on_after_an_error(ctrl_c, what, error):
    """Whose own end would be in minutes."""
    before, cores = system_threads(), affinity(0)
    shared = threading.Event(), []
    with pytest.raises(error), fan_out(endless, shared, 2) as each:
        each(["run", what, "run", "run"])
    assert affinity(0) == cores
    assert until(lambda: bool(shared[1]))
    assert set(shared[1]) == {pooled.Stopped}
    assert until(lambda: system_threads() <= before)


def test_nor_in_a_pool_of_threads_of_somebody_else():
    shared = threading.Event(), []

    def first_to_fail(function, items):
        futures = [pool.submit(function, item) for item in items]
        return [futures[1].result()]

    with ThreadPoolExecutor(2) as pool:
        with pytest.raises(ZeroDivisionError), fan_out(endless, shared, first_to_fail) as each:
            each(["run", "fail", "run", "run"])
        assert until(lambda: bool(shared[1]))
    assert set(shared[1]) == {pooled.Stopped}
    assert len(shared[1]) <= 2  # one may have begun after the failure; what had not by the end does not begin


def test_nor_does_it_end_the_threads_of_somebody_else():
    """An exception that is no Exception would end those of `multiprocessing`, and joining them would never end."""
    shared = threading.Event(), []
    pool = ThreadPool(2)

    def first_to_fail(function, items):
        results = [pool.apply_async(function, (item,)) for item in items]
        return [results[1].get()]

    with pytest.raises(ZeroDivisionError), fan_out(endless, shared, first_to_fail) as each:
        each(["run", "fail"])
    assert until(lambda: bool(shared[1]))
    assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
    pool.close()
    pool.join()


def both_ways(shared, item):
    begun, ended, run = shared
    if item:
        begun.wait()
        raise ZeroDivisionError
    try:
        begun.set()
        until(lambda: pooled._here.stops[0].is_set())
        run.pullback(run.w)
    except BaseException as error:
        ended.append(type(error))
        raise


def test_a_run_that_was_stopped_on_its_way_back_is_whole():
    run = random_case(7).train()
    shared = threading.Event(), [], run
    with pytest.raises(ZeroDivisionError), fan_out(both_ways, shared, 2) as each:
        each([0, 1])
    assert until(lambda: bool(shared[1]))
    assert shared[1] == [pooled.Stopped]
    run.rewind()
    assert run.stats.exact


def test_a_process_ends_at_once_with_runs_under_way():
    script = """
import threading, fastrev
from fastrev._pool.workers import fan_out
from tests.test_workers import endless
try:
    with fan_out(endless, (threading.Event(), []), 2) as each:
        each(["run", "fail"])
except ZeroDivisionError:
    print("failed")
"""
    cache = os.environ.get("NUMBA_CACHE_DIR")
    environment = {"NUMBA_CACHE_DIR": cache} if cache else {}
    assert run_python(script, PACKAGE.parent, **environment) == "failed\n"
