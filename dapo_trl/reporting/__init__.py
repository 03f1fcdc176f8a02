"""One page about one run or several: curves, settings, evaluations, sample completions."""
