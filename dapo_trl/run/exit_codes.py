"""Exit statuses of the commands, beside 0 and Python's 1. Launchers report 1 in place of any of them."""

import signal


USAGE_ERROR = 2
"""A mistake of the user, as argparse's own."""

NOTHING_TRAINED = 3
"""A training run from which no model has learnt anything: none is saved or pushed."""

PREEMPTED = 128 + signal.SIGTERM
"""A training run that ended on SIGTERM, with a checkpoint; as shells report it."""
