"""Refresh tokens: rotated at every use, one successor each, and none of them stored."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connections
from django.utils import timezone

from accounts.models import RefreshToken, Session
from accounts.tokens import REUSE_GRACE, forget_ended_sign_ins, rotate, sign_in
from llmsite.core.errors import NotSignedIn

pytestmark = pytest.mark.django_db


def digest(token):
    return hashlib.sha256(token.encode()).hexdigest()


def test_a_lost_reply_gets_the_same_successor(alice):
    first = sign_in(alice).refresh

    assert rotate(first).refresh == rotate(first).refresh
    assert RefreshToken.objects.count() == 2


def test_a_replayed_token_ends_the_sign_in_and_no_other(alice):
    first, other = sign_in(alice).refresh, sign_in(alice).refresh
    newest = rotate(rotate(first).refresh).refresh

    for token in (first, newest):
        with pytest.raises(NotSignedIn):
            rotate(token)

    assert rotate(other)


def test_after_the_grace_a_repeat_is_a_replay(alice):
    first = sign_in(alice).refresh
    newest = rotate(first).refresh
    RefreshToken.objects.filter(used_at__isnull=False).update(
        used_at=timezone.now() - REUSE_GRACE - timedelta(seconds=1)
    )

    for token in (first, newest):
        with pytest.raises(NotSignedIn):
            rotate(token)


def test_what_has_ended_is_forgotten(alice):
    kept, old = sign_in(alice), sign_in(alice)
    ended = Session.objects.filter(refresh_tokens__digest=digest(old.refresh))
    RefreshToken.objects.filter(session__in=ended).update(expires_at=timezone.now() - timedelta(seconds=1))
    ended.update(created_at=timezone.now() - settings.REFRESH_TOKEN_LIFETIME - timedelta(seconds=1))

    forget_ended_sign_ins()

    assert RefreshToken.objects.count() == Session.objects.count() == 1
    assert rotate(kept.refresh)


def test_only_hashes_are_stored(alice):
    pair = sign_in(alice)
    stored = [*RefreshToken.objects.values_list("digest", flat=True), *map(str, Session.objects.values())]

    assert not any(pair.refresh in text or pair.access in text for text in stored)


@pytest.mark.django_db(transaction=True)
def test_parallel_refreshes_make_one_successor(alice):
    for _ in range(5):
        first = sign_in(alice).refresh

        def refresh(_, token=first):
            try:
                return rotate(token).refresh
            finally:
                connections.close_all()

        with ThreadPoolExecutor(8) as pool:
            successors = set(pool.map(refresh, range(8)))

        assert len(successors) == 1
        session = Session.objects.latest("created_at")
        assert session.refresh_tokens.filter(used_at=None).count() == 1
