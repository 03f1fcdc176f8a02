"""A run on the Hub: what is pushed, how, and the model card."""
