"""One ranking out of two."""

from embeddings.indexes.fusion import MONOLINGUAL, Scored, Weighing, fuse, weighing_of

HALF = Weighing(floor=0.0, enough=0.0, shares={}, otherwise=0.5)


def test_both_scores_count():
    ranking = fuse([Scored(1, "en", 0.9, None), Scored(2, "en", 0.6, 0.5), Scored(3, "en", 0.0, 0.25)], HALF)

    assert ranking == [(2, 0.8), (1, 0.45), (3, 0.25)]


def test_what_another_encoder_has_read_is_no_worse_for_having_no_cosine():
    ranking = fuse([Scored(1, "en", 0.6, 0.5), Scored(2, "en", None, 0.25)], HALF)

    assert ranking == [(1, 0.8), (2, 0.5)]


def test_the_language_of_a_document_says_how_much_its_cosine_counts():
    ranking = dict(fuse([Scored(1, "en", 0.5, 1.0), Scored(2, "es", 0.5, 1.0)], MONOLINGUAL))

    assert ranking == {1: 0.6 * 0.5 + 0.4, 2: 0.3 * 0.5 + 0.7}


def test_one_kind_of_score_counts_alone():
    assert fuse([Scored(1, "es", None, 0.2), Scored(2, "es", None, 0.4)], MONOLINGUAL) == [(2, 1.0), (1, 0.5)]
    assert fuse([Scored(1, "es", 0.2, None), Scored(2, "es", 0.4, None)], MONOLINGUAL) == [(2, 0.4), (1, 0.2)]


def test_equal_scores_keep_one_order():
    same = [Scored(chunk, "en", 0.5, 0.5) for chunk in (9, 3, 7)]

    assert [chunk for chunk, _ in fuse(same, HALF)] == [3, 7, 9]


def test_a_floor_is_where_cosines_begin():
    ranking = fuse(
        [Scored(1, "en", 0.85, None), Scored(2, "en", 0.6, None)], weighing_of("multilingual-e5-small")
    )

    assert [(chunk, round(score, 6)) for chunk, score in ranking] == [(1, 0.5), (2, 0.0)]


def test_scores_stay_between_nothing_and_one():
    ranking = fuse([Scored(1, "en", 1.0, 1.0), Scored(2, "en", 0.0, 0.0)], MONOLINGUAL)

    assert ranking == [(1, 1.0), (2, 0.0)]
    assert fuse([], MONOLINGUAL) == []


def test_a_word_in_common_is_not_blown_up_where_nothing_says_more():
    little = HALF._replace(enough=0.4)
    ranking = dict(fuse([Scored(1, "en", 0.5, None), Scored(2, "en", 0.3, 0.1)], little))

    assert {chunk: round(score, 6) for chunk, score in ranking.items()} == {1: 0.25, 2: 0.275}
    assert fuse([Scored(1, "en", 0.5, None), Scored(2, "en", 0.3, 0.1)], HALF)[0] == (2, 0.65)
