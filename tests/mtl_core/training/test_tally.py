"""Losses are read many at a time, and none that is no number goes unseen."""

import math

import pytest
import torch

from mtl_core.errors import ModelError
from mtl_core.training.tally import Tally


def test_losses_are_read_together_and_counted_by_name() -> None:
    tally = Tally(["topic", "sentiment"], ["similarity"])
    for step, (name, loss) in enumerate([("topic", 1.0), ("similarity", 5.0), ("sentiment", 3.0)]):
        tally.add(name, step, torch.tensor(loss))
    assert tally.read() == 2.0  # of the tasks alone
    assert math.isnan(tally.read())
    assert tally.means() == {"topic": 1.0, "sentiment": 3.0, "similarity": 5.0}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_named_with_its_step(bad: float) -> None:
    tally = Tally(["topic"], ["similarity"])
    tally.add("topic", 7, torch.tensor(0.5))
    tally.add("similarity", 8, torch.tensor(bad))
    with pytest.raises(ModelError, match=r"diverged: 'similarity' loss is (nan|inf) at step 8"):
        tally.read()


def test_an_epoch_goes_on_from_the_losses_of_a_checkpoint() -> None:
    tally = Tally(["topic"], [])
    tally.restore({"topic": [1.0]})
    tally.add("topic", 2, torch.tensor(3.0))
    tally.read()
    assert tally.losses() == {"topic": [1.0, 3.0]}
    tally.clear()
    assert tally.means() == {}


def test_a_loss_that_its_weight_makes_infinite_is_named_too() -> None:
    tally = Tally(["topic"], [])
    tally.add("topic", 3, torch.tensor(0.5), torch.tensor(math.inf))
    with pytest.raises(ModelError, match=r"diverged: the loss of task 'topic' is 0\.5 at step 3"):
        tally.read()
