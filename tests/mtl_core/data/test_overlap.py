"""Rows that a model may know from training are told apart."""

from mtl_core.data.overlap import unseen_rows

TRAINED = ["Oil prices rose on Monday after a storm closed two ports in the Gulf.", "A dull film."]


def test_a_copy_without_its_title_is_seen() -> None:
    texts = ["Storm lifts oil: OIL prices rose, on Monday, after a storm closed two ports!"]
    assert unseen_rows(texts, TRAINED).tolist() == [False]


def test_other_words_are_unseen_and_a_short_text_is_seen_only_as_a_whole() -> None:
    texts = ["Oil prices fell on Tuesday as a storm missed the ports.", "a dull film", "a dull day"]
    assert unseen_rows(texts, TRAINED).tolist() == [True, False, True]
