"""Percentiles out of bins are as near to the true ones as they are said to be."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.histogram import ERROR, MOST, bin_of, merged, packed, percentile, unpacked, value_of

MILLISECONDS = st.integers(min_value=0, max_value=86_400_000)


@given(MILLISECONDS)
def test_a_bin_is_told_as_a_value_near_all_in_it(value):
    assert abs(value_of(bin_of(value)) - value) <= ERROR * value + 1e-6
    assert bin_of(value) <= MOST


@given(st.lists(MILLISECONDS, min_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_within_the_error_of_the_true_one(values, share):
    true = sorted(values)[max(1, math.ceil(share * len(values) - 1e-9)) - 1]
    found = percentile(Counter(map(bin_of, values)), share)
    assert abs(found - true) <= ERROR * true + 1e-6


def test_parts_make_the_percentiles_of_the_whole():
    chance = random.Random(1)
    values = [int(chance.lognormvariate(6, 2)) for _ in range(500)]
    parts = [Counter(map(bin_of, values[at::7])) for at in range(7)]
    assert merged(unpacked(packed(part)) for part in parts) == Counter(map(bin_of, values))


def test_what_takes_longer_than_a_day_is_in_the_last_bin():
    assert {bin_of(value) for value in (86_400_000, 86_400_001, 2**31)} == {MOST}


def test_nothing_has_no_percentile():
    assert percentile({}, 0.5) is None


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_ends_are_the_least_and_the_most(share):
    assert percentile({3: 1, 50: 1}, share) == value_of(50 if share else 3)
