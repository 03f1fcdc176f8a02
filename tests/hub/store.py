"""Repositories of the loopback Hub: branches of commits, each a whole tree of files, in memory."""

import hashlib
import threading
from dataclasses import dataclass, field


Files = dict[str, bytes]


@dataclass
class Repo:
    """A repository."""

    is_private: bool  # only answers with a token
    commits: dict[str, Files] = field(default_factory=dict)  # all files of each commit
    branches: dict[str, list[str]] = field(default_factory=dict)  # commits, the first one first
    messages: dict[str, str] = field(default_factory=dict)  # of each commit

    def __post_init__(self):
        self.branches["main"] = []
        self.commit("main", {}, set(), "initial commit")

    def commit(self, branch: str, added: Files, deleted: set[str], message: str) -> str:
        """Adds and deletes files; returns the id of the commit."""
        history = self.branches[branch]
        before = self.commits[history[-1]] if history else {}
        oid = hashlib.sha1(f"{id(self)} {len(self.commits)}".encode()).hexdigest()
        self.commits[oid] = {path: data for path, data in before.items() if path not in deleted} | added
        self.messages[oid] = message
        history.append(oid)
        return oid

    def find(self, revision: str) -> str | None:
        """The commit of a branch or of its own id; None if there is none."""
        if revision in self.branches:
            return self.branches[revision][-1]
        return revision if revision in self.commits else None

    def files(self, revision: str = "main") -> Files:
        """Files by path."""
        return self.commits[self.find(revision)]

    def history(self, branch: str = "main") -> list[str]:
        """Messages of a branch's commits, the first one first."""
        return [self.messages[oid] for oid in self.branches[branch]]


class Store:
    """All repositories, and the contents that were uploaded beside commits."""

    def __init__(self):
        self.repos: dict[tuple[str, str], Repo] = {}  # by type (`models` or `datasets`) and id
        self.refusals: dict[str, int] = {}  # how many of the next commits to a repository are refused, by id
        self.large: Files = {}
        self.lock = threading.Lock()

    def model(self, repo_id: str) -> Repo:
        """A model's repository."""
        return self.repos["models", repo_id]

    def refuses(self, repo_id: str) -> bool:
        """Whether a commit is refused; counts it."""
        remaining = self.refusals.get(repo_id, 0)
        self.refusals[repo_id] = max(0, remaining - 1)
        return remaining > 0
