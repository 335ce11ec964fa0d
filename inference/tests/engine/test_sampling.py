"""The choice of the next token."""

from collections import Counter

import numpy as np
import pytest

from inference.engine import sampling
from inference.engine.sampling import Sampler, Sampling, nucleus, softmax

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))


def draws(times: int = 4000, **options) -> Counter[int]:
    sampler = Sampler(Sampling(**options))
    return Counter(sampler.choose(LOGITS) for _ in range(times))


def test_temperature_zero_is_greedy():
    assert draws(20) == {0: 20}


def test_temperature_one_follows_the_probabilities():
    shares = draws(temperature=1.0, seed=1)
    expected = {token: 4000 * share for token, share in enumerate((0.5, 0.3, 0.15, 0.05))}
    # Four standard deviations of a binomial count.
    assert all(abs(shares[token] - count) < 4 * np.sqrt(count) for token, count in expected.items())


def test_a_lower_temperature_prefers_the_likeliest():
    assert draws(temperature=0.25, seed=1)[0] > draws(temperature=1.0, seed=1)[0]


@pytest.mark.parametrize(("top_p", "kept"), [(0.5, {0}), (0.51, {0, 1}), (0.8, {0, 1}), (0.99, {0, 1, 2, 3})])
def test_top_p_keeps_the_fewest_tokens_that_reach_it(top_p, kept):
    assert set(draws(temperature=1.0, top_p=top_p, seed=1)) == kept


def test_top_p_is_right_where_the_nucleus_is_larger_than_the_first_guess(monkeypatch):
    monkeypatch.setattr(sampling, "NUCLEUS_GUESS", 2)
    probabilities = np.full(10, 0.1, np.float32)
    assert len(nucleus(probabilities, 0.75)) == 8
    assert nucleus(np.array([0.05, 0.9, 0.05], np.float32), 0.5).tolist() == [1]


def test_the_same_seed_draws_the_same_tokens():
    first, second = (Sampler(Sampling(temperature=1.0, seed=7)) for _ in range(2))
    assert [first.choose(LOGITS) for _ in range(50)] == [second.choose(LOGITS) for _ in range(50)]


def test_a_penalty_grows_with_each_time_and_leaves_the_logits_alone():
    logits = np.array([1.0, 0.9, 0.5], np.float32)
    sampler = Sampler(Sampling(frequency_penalty=0.3))

    chosen = [sampler.choose(logits) for _ in range(5)]

    assert chosen == [0, 1, 0, 1, 2]
    assert logits.tolist() == np.array([1.0, 0.9, 0.5], np.float32).tolist()


@pytest.mark.parametrize("seed", [-1, -(2**63), 2**63 - 1, 0])
def test_every_seed_that_a_client_may_send_draws(seed):
    assert Sampler(Sampling(temperature=1.0, seed=seed)).choose(LOGITS) in range(len(LOGITS))


def test_the_smallest_temperature_does_not_overflow():
    assert np.isfinite(softmax(np.array([1e4, -1e4, 0], np.float32), 1e-30)).all()
