"""A spec for tests that need some job and not what it does."""

from jobs.specs import TrainSpec

TRAIN_SPEC = TrainSpec(
    name="m",
    output="/nowhere/m",
    data_dir=None,
    preset="recommended",
    scenario="frozen",
    settings={},
    backbone="b",
    tasks=({"name": "topic", "labels": ["a", "b"]},),
    command="mtl train",
)
