"""Labelled texts to train and evaluate on."""
