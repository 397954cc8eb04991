"""A training run, in the order an example goes: preparation, loop, run."""
