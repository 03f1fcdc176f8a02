"""Is an output a directory or a data set on the Hub? And the push."""

import logging
import re
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError


logger = logging.getLogger(__name__)


def is_hub_id(output: str) -> bool:
    """
    Whether an output is `owner/name` on the Hub. It is not if a directory `owner` exists here.

    >>> is_hub_id("./outputs/data"), is_hub_id("data")
    (False, False)
    """
    owner, _, name = output.partition("/")
    part = r"[A-Za-z0-9][\w.-]*"
    return bool(re.fullmatch(part, owner) and re.fullmatch(part, name)) and not Path(owner).exists()


def require_login(repo_id: str) -> None:
    """
    Fails before the work rather than after it.

    Raises:
        ValueError: if no one is logged in.
    """
    try:
        HfApi().whoami()
    except (LocalTokenNotFoundError, HfHubHTTPError, ConnectionError) as error:
        raise ValueError(
            f"output={repo_id!r} is read as a data set on the Hub, and the login there fails ({error}). Log in with "
            f"`hf auth login`, or write './{repo_id}' if a local directory is meant."
        ) from error


def push_directory(directory: Path, repo_id: str, *, private: bool) -> str:
    """
    Creates the data set on the Hub if need be and uploads a prepared directory in one commit.

    Returns:
        `str`: address of the commit.
    """
    api = HfApi()
    api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)
    commit = api.upload_folder(
        repo_id=repo_id,
        repo_type="dataset",
        folder_path=directory,
        commit_message="Prepared by dapo-trl prepare-data",
    )
    logger.info("Pushed to %s", commit.commit_url)
    return commit.commit_url
