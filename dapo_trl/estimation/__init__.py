"""What a run of a recipe takes: memory and time."""
