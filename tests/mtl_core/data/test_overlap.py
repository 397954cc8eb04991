"""Rows that a model may know from training are told apart."""

from mtl_core.data.overlap import copied_rows, unseen_rows

TRAINED = ["Oil prices rose on Monday after a storm closed two ports in the Gulf.", "A dull film."]


def test_a_copy_without_its_title_is_seen() -> None:
    texts = ["Storm lifts oil: OIL prices rose, on Monday, after a storm closed two ports!"]
    assert unseen_rows(texts, TRAINED).tolist() == [False]


def test_other_words_are_unseen_and_a_short_text_is_seen_only_as_a_whole() -> None:
    texts = ["Oil prices fell on Tuesday as a storm missed the ports.", "a dull film", "a dull day"]
    assert unseen_rows(texts, TRAINED).tolist() == [True, False, True]


def test_a_training_text_without_the_evaluation_texts_title_is_a_copy() -> None:
    title, body = "Storm Hits Coast", "a storm with heavy rain reached the northern coast on Friday"
    evaluated = [f"{title} {body}"]
    assert copied_rows([body], evaluated).tolist() == [True]
    assert copied_rows([f"{title} {body}"], [body]).tolist() == [True]


def test_spacing_case_and_entities_make_no_other_text_of_a_copy() -> None:
    evaluated = ['The team\'s coach said it would not play on Monday, "whatever happens" there']
    copies = [
        "the team 's coach said it would not play on monday , `` whatever happens '' there",
        "The team&#39;s coach said it would not play on Monday, &quot;whatever happens&quot; there",
        "The team#39;s coach said it would not play on Monday, quot;whatever happensquot; there",
    ]
    assert copied_rows(copies, evaluated).tolist() == [True] * 3


def test_one_common_phrase_in_two_long_texts_makes_no_copy() -> None:
    phrase = "said in a statement to the press on Monday evening"
    texts = [f"{'the bank ' * 10}{phrase}", "a text of fewer words", "another short one"]
    evaluated = [f"{'his team won ' * 10}{phrase}", "another short one!"]
    assert copied_rows(texts, evaluated).tolist() == [False, False, True]
