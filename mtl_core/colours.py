"""Colours that are told apart with any kind of colour vision (Okabe and Ito 2008)."""

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#f0e442")
