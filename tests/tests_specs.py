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
    command="mtl train",
)
