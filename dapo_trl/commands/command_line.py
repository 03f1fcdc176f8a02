"""How commands end when the user has made a mistake: with one line instead of a traceback."""

import contextlib
import os
import sys
from collections.abc import Iterator

import yaml

from ..run.early_end import USAGE_ERROR
from ..run.secret_values import mask_text, masking_errors


@contextlib.contextmanager
def errors_in_one_line() -> Iterator[None]:
    """
    Turns errors that a user can correct into one line on stderr and exit status 2.

    These are values, files, installed packages and YAML that do not fit. `DAPO_TRL_TRACEBACK=1` in the environment
    keeps the traceback. Secrets are left out of all errors.

    Raises:
        SystemExit: in place of the error.
    """
    try:
        with masking_errors():
            yield
    except (ValueError, OSError, ImportError, yaml.YAMLError) as error:
        if os.environ.get("DAPO_TRL_TRACEBACK") == "1":
            raise
        message = " ".join(str(error).split()) or type(error).__name__
        sys.stderr.write(f"error: {mask_text(message)}\n")
        sys.exit(USAGE_ERROR)
