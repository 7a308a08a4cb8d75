"""Plans of batches: the same rows for a step whenever and in whatever chunk they are asked for."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import fastrev
from fastrev._engine.batches import FullBatch, GivenBatches, ShuffledBatches


@settings(deadline=None)
@given(st.integers(1, 30), st.data())
def test_epochs_are_shuffles(examples, data):
    size = data.draw(st.integers(1, examples))
    seed = data.draw(st.integers(0, 99))
    per_epoch = examples // size
    rows = fastrev.minibatches(examples, size, 5 * per_epoch, seed)
    assert rows.shape == (5 * per_epoch, size)
    for epoch in rows.reshape(5, per_epoch * size):
        assert len(set(epoch)) == per_epoch * size
        assert set(epoch) <= set(range(examples))
    assert np.array_equal(rows, fastrev.minibatches(examples, size, 5 * per_epoch, seed))


@settings(deadline=None)
@given(st.integers(0, 59), st.integers(1, 60))
def test_chunks_agree(begin, steps):
    end = min(begin + steps, 60)
    for plan in (ShuffledBatches(23, 5, seed=1), GivenBatches(np.arange(120).reshape(60, 2) % 23, 23)):
        assert np.array_equal(plan.rows(begin, end), plan.rows(0, 60)[begin:end])


def test_epochs_differ():
    rows = fastrev.minibatches(100, 100, 2)
    assert not np.array_equal(rows[0], rows[1])


def test_what_is_given_away_is_nobody_elses():
    """Few examples' epochs are drawn once and kept."""
    plan = ShuffledBatches(23, 5, seed=1)
    for end in (2, 9):
        expected = plan.rows(0, end).copy()
        plan.rows(0, end)[:] = 0
        assert np.array_equal(plan.rows(0, end), expected)
        assert np.array_equal(ShuffledBatches(23, 5, seed=1).rows(0, end), expected)


def test_the_full_batch_needs_no_rows():
    plan = FullBatch(7)
    assert plan.size == 7
    assert plan.rows(3, 5).shape == (0, 0)
