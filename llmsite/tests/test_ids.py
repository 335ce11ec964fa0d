"""Ids: as their standard has them, never twice, and in the order of time where they are of rows."""

import time

import pytest

from llmsite.core.ids import new_uuid, row_id


@pytest.mark.parametrize(("make", "version"), [(new_uuid, 4), (row_id, 7)])
def test_ids_are_well_formed_and_their_own(make, version):
    ids = [make() for _ in range(2000)]

    assert {(one.version, one.variant) for one in ids} == {(version, "specified in RFC 4122")}
    assert len(set(ids)) == 2000


def test_the_id_of_a_row_begins_with_the_time_in_milliseconds(monkeypatch):
    now = time.time_ns() // 1_000_000

    assert abs((row_id().int >> 80) - now) < 10_000

    monkeypatch.setattr(time, "time_ns", lambda: 1_645_557_742_000 * 1_000_000)
    # The time of the example in appendix A.6 of RFC 9562.
    assert str(row_id()).startswith("017f22e2-79b0-7")


def test_every_other_bit_of_the_id_of_a_row_is_random(monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    ids = [row_id().int for _ in range(200)]

    ever_set = never_set = 0
    for one in ids:
        ever_set |= one
        never_set |= ~one
    varies = ever_set & never_set & (1 << 128) - 1
    assert varies.bit_count() == 74
