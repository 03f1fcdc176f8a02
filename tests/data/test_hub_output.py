"""Data sets on the Hub as output, with the Hub's client replaced by one that records what is asked of it."""

from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest

from dapo_trl.commands import prepare_data
from dapo_trl.commands.prepare_data import main
from dapo_trl.data.sources import is_hub_id


class FakeApi:
    is_logged_in = True
    calls = []

    def whoami(self):
        if not self.is_logged_in:
            raise ConnectionError("no token")

    def create_repo(self, repo_id, **options):
        self.calls.append(("create_repo", repo_id, options))

    def upload_folder(self, *, folder_path, **options):
        rows = pq.read_table(folder_path / "data" / "train-00000-of-00001.parquet").to_pylist()
        card = (folder_path / "README.md").read_text()
        self.calls.append(("upload_folder", options["repo_id"], options["repo_type"], rows[0]["solution"], card[:3]))
        return SimpleNamespace(commit_url="https://hub/commit")


@pytest.fixture
def api(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(prepare_data, "HfApi", FakeApi)
    monkeypatch.setattr(FakeApi, "calls", [])
    return FakeApi


def test_push(api, write_jsonl):
    main(["--source", write_jsonl("rows.jsonl", {"problem": "Q?", "answer": "1"}), "--output", "me/data", "--check"])
    assert api.calls == [
        ("create_repo", "me/data", {"repo_type": "dataset", "private": True, "exist_ok": True}),
        ("upload_folder", "me/data", "dataset", "1", "---"),
    ]


def test_nothing_is_pushed_if_the_check_fails(api, write_jsonl):
    source = write_jsonl("rows.jsonl", {"problem": "Q?", "answer": "1"})
    with pytest.raises(SystemExit, match="judged wrong"):
        main(["--source", source, "--output", "me/data", "--check", "--answer_rule", "boxed"])
    assert api.calls == []


def test_missing_login_is_told_before_the_work(api, monkeypatch):
    monkeypatch.setattr(api, "is_logged_in", False)
    with pytest.raises(ValueError, match=r"output='me/data' is read as a data set on the Hub.*'./me/data'"):
        main(["--source", "never_read.jsonl", "--output", "me/data"])


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("me/data", True),
        ("me/data-v1.0", True),
        ("./me/data", False),
        ("/me/data", False),
        ("data", False),
        ("a/b/c", False),
        ("outputs/data", False),
        ("~/data", False),
    ],
)
def test_hub_id_or_directory(output, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    assert is_hub_id(output) is expected
