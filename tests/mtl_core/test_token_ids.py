"""Token ids of many texts in one array are those of the texts, one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtl_core.token_ids import TokenIds

rows = st.lists(st.lists(st.integers(0, 30_000), max_size=9), max_size=7)


@given(rows, st.data())
def test_texts_are_taken_joined_and_padded_as_lists_would_be(
    texts: list[list[int]], data: st.DataObject
) -> None:
    ids = TokenIds.of(texts)
    assert [row.tolist() for row in ids] == texts
    places = st.lists(st.integers(0, len(texts) - 1)) if texts else st.just([])
    chosen = data.draw(places)
    taken = ids.take(np.array(chosen, dtype=np.int64))
    assert [row.tolist() for row in taken] == [texts[place] for place in chosen]
    assert [row.tolist() for row in TokenIds.joined([ids, taken])] == [
        *texts,
        *(texts[place] for place in chosen),
    ]
    padded, mask = ids.padded(-1)
    width = max([1, *map(len, texts)])
    assert padded.tolist() == [[*row, *[-1] * (width - len(row))] for row in texts]
    assert mask.tolist() == [[*[1] * len(row), *[0] * (width - len(row))] for row in texts]


@given(rows, st.integers(2, 6))
def test_a_text_that_is_cut_keeps_its_closing_token(texts: list[list[int]], most: int) -> None:
    cut = [row if len(row) <= most else [*row[: most - 1], row[-1]] for row in texts]
    assert [row.tolist() for row in TokenIds.of(texts).cut(most)] == cut


@pytest.mark.parametrize("texts", [[], [[]], [[], []]])
def test_no_texts_and_no_tokens_are_no_special_case(texts: list[list[int]]) -> None:
    ids = TokenIds.of(texts)
    assert len(ids) == len(list(ids)) == len(texts)
    assert ids.padded(0)[0].shape == (len(texts), 1)
