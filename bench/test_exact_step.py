"""The exact arithmetic alone: one reversible step of W1's 44,860 parameters, there and back."""

from __future__ import annotations

import numpy as np
import pytest

from fastrev._engine import adam as rules
from fastrev._engine import state
from fastrev.kernels import adam, adam_numbers, momentum
from fastrev.kernels import information_buffer as buffer

P, N, D, ALPHA = 44_860, 9, 10, 0.1


@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.benchmark(group="exact step and its undo, 44860 parameters")
def test_step_and_undo(benchmark, dtype) -> None:
    rng = np.random.default_rng(0)
    w, v = state.to_grid("w", rng.standard_normal(P)), state.to_grid("v", rng.standard_normal(P))
    start = w.copy(), v.copy()
    heads, tail, scratch = state.new_heads(P), np.empty(2 * P, np.uint16), np.empty(buffer.SCRATCH)
    g = rng.standard_normal(P).astype(dtype)

    def there_and_back() -> int:
        top, _ = momentum.step_span(w, v, heads, tail, 0, g, ALPHA, N, D, 0, P, scratch)
        momentum.undo_position_of_span(w, v, ALPHA, 0, P)
        return momentum.undo_velocity_of_span(v, heads, tail, top, g, N, D, 0, P, scratch)

    top = benchmark.pedantic(there_and_back, rounds=200, warmup_rounds=20)
    benchmark.extra_info["ns_per_parameter_step_each_way"] = 1e9 * benchmark.stats.stats.median / P / 2
    assert top == 0
    assert np.array_equal(w, start[0])
    assert np.array_equal(v, start[1])


@pytest.mark.parametrize("decay", [0.0, 0.01], ids=["Adam", "AdamW"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32], ids=["float64", "float32"])
@pytest.mark.benchmark(group="exact step and its undo, 44860 parameters")
def test_step_of_adam_and_undo(benchmark, dtype, decay) -> None:
    rng = np.random.default_rng(0)
    rule = rules.prepare(1e-3, 0.9, 0.999, 1e-8, decay, eps_root=1e-8, bounds=np.array([0, P])).over(1)
    start = state.to_grid("w", rng.standard_normal(P))
    at, scratch = (
        state.new_state(start.copy(), np.zeros((2, P), np.int64), shrinks=rule.shrinks),
        np.empty(buffer.SCRATCH),
    )
    state.make_room_for_step(at)
    g = (0.1 * rng.standard_normal(P)).astype(dtype)
    rates, ratios = adam_numbers.Rates(1e-3, 0.9, 0.999, 1e-8, 1e-8, decay, 0.1, 0.001), (9, 10, 999, 1000)

    def there_and_back() -> int:
        top, _ = adam.make_moments_of_span(at.moments, at.heads, at.tail, 0, g, *ratios, 0, P, scratch)
        top, _ = adam.make_position_of_span(at.w, at.carry, at.moments, at.tail, top, rates, 0, 0, P)
        top = adam.undo_position_of_span(at.w, at.carry, at.moments, at.tail, top, rates, 0, 0, P)
        return adam.undo_moments_of_span(at.moments, at.heads, at.tail, top, g, *ratios, 0, P, scratch)

    top = benchmark.pedantic(there_and_back, rounds=200, warmup_rounds=20)
    benchmark.extra_info["ns_per_parameter_step_each_way"] = 1e9 * benchmark.stats.stats.median / P / 2
    assert top == 0
    assert np.array_equal(at.w, start)
    assert not at.moments.any()
