"""Which groups to train on: dynamic sampling (DAPO Sec. 3.2, Eq. 11, Algorithm 1 lines 2-8)."""
