"""The model card, from what a run has left."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from huggingface_hub import ModelCard

from dapo_trl import DAPOTrainer
from dapo_trl.commands.model_card import main
from dapo_trl.data.templates import DAPO_TEMPLATE
from dapo_trl.hub.card import find_summaries, write_card
from dapo_trl.hub.facts import SAMPLE_PROBLEM, FactsError, describe_data, sample_prompt
from dapo_trl.rewards import accuracy
from tests.helpers import CHAT_TEMPLATE, build, char_tokenizer, prompt_dataset, train


AIME = {"name": "aime24", "source": "BytedTsinghua-SIA/AIME-2024", "split": "train", "config": None}
SAMPLING = {"k": 4, "temperature": 1.0, "top_p": 0.7, "max_completion_length": 20480, "seed": 3}
HALF = {"mean": 0.5, "low": 0.41239, "high": 0.61}
SUMMARY = {
    "format_version": 1,
    "created": "2100-01-01T00:00:00+00:00",
    "model": {"name": "a"},
    "data": AIME | {"num_problems": 30, "num_unscorable": 1},
    "sampling": SAMPLING | {"backend": "vllm"},
    "judging": {"answer_rule": "auto"},
    "measures": {"avg@4": HALF, "pass@1": HALF, "pass@4": {"mean": 0.75, "low": None, "high": None}},
    "lengths": {"frac_truncated": 0.125},
}


def write_summary(path: Path, **fields: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(SUMMARY | fields))
    return path


@pytest.fixture(scope="module")
def run_dir() -> Path:
    """A run on messages, of one optimizer step, with the accuracy reward."""
    fields = {"max_steps": 1, "soft_punish_cache": 4, "dynamic_sampling": False}
    trainer = train(
        DAPOTrainer,
        fields | {"chat_template_kwargs": {"enable_thinking": False}},
        reward_funcs=[accuracy],
        processing_class=char_tokenizer(CHAT_TEMPLATE),
        train_dataset=prompt_dataset(is_conversational=True).add_column("solution", ["1"] * 40),
    )
    trainer.data_name = "me/sums"
    trainer.create_model_card("my-model", tags=["mine"])
    trainer.save_model()
    return Path(trainer.args.output_dir)


def test_metadata(run_dir):
    data = ModelCard.load(run_dir / "README.md").data
    assert (data.library_name, data.pipeline_tag, data.datasets) == ("transformers", "text-generation", ["me/sums"])
    assert {"dapo", "trl", "reinforcement-learning", "mine"} <= set(data.tags)
    assert data.base_model is None and data.eval_results is None


def test_what_the_card_tells_of_training(run_dir):
    text = ModelCard.load(run_dir / "README.md").text
    assert "trained on prompts of this form" in text and "[user]\np0=\n" in text
    assert "- `auto-2`: the last `Answer: ...` or `\\boxed{...}`, whichever comes later" in text
    assert "| `accuracy` | 1.0 | " in text and "| `soft_overlong_punishment` | 1.0 | " in text
    assert "Data: [me/sums](https://huggingface.co/datasets/me/sums), 40 prompts." in text
    assert "1 optimizer steps in 1 rollouts" in text and "on\n1 x CPU" in text
    assert "| `epsilon_high` | 0.28 |" in text
    assert "The trainer was called from Python" in text
    assert "arXiv:2503.14476" in text and "arXiv:2402.03300" in text
    assert str(run_dir) not in text


def test_the_quick_start_asks_as_in_training(run_dir):
    text = ModelCard.load(run_dir / "README.md").text
    assert "prompt = [{'role': 'user', 'content': 'p0='}]\n" in text
    assert 'return_tensors="pt",\n    enable_thinking=False,\n).to(model.device)' in text
    assert (
        "temperature=1.0,\n    top_p=0.7,\n    top_k=0,\n    repetition_penalty=1.0,\n    max_new_tokens=16,\n" in text
    )


def test_a_prompt_with_a_code_block_stays_in_its_own(run_dir, tmp_path):
    facts = json.loads((run_dir / "run.json").read_text())
    facts["prompt"] = "Write a program.\n````python\nprint(1)\n````"
    (tmp_path / "run.json").write_text(json.dumps(facts))
    text = write_card(tmp_path, with_curves=False).read_text()
    assert "`````text\nWrite a program.\n````python\nprint(1)\n````\n`````\n" in text


def test_evaluations(run_dir, tmp_path, capsys):
    main(["--run", str(run_dir), "--evaluation", str(write_summary(tmp_path / "summary.json"))])
    assert capsys.readouterr().out == f"Model card: {run_dir}/README.md\n"
    card = ModelCard.load(run_dir / "README.md")
    first, _, last = card.data.eval_results
    assert (first.dataset_type, first.dataset_name) == ("BytedTsinghua-SIA/AIME-2024", "aime24")
    assert (first.metric_type, first.metric_value, last.metric_type) == ("avg@4", 0.5, "pass@4")
    assert first.metric_args == SAMPLING | {"confidence_interval_95": [0.4124, 0.61]}
    assert "| aime24 | avg@4 | 50.0 | 41.2 to 61.0 | 29 |\n| aime24 | pass@4 | 75.0 |  | 29 |" in card.text
    assert "- aime24: k = 4 samples per problem (1 more cannot be scored), temperature 1, top_p 0.7, at" in card.text
    assert "at most 20,480 tokens (12.5% truncated), seed 3, vllm, answer rule `auto`, 2100-01-01" in card.text
    assert (run_dir / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "![Curves of the training run](curves.png)" in card.text


def test_evaluations_beside_the_model_are_found_if_they_are_of_these_weights(tmp_path, caplog):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"")
    os.utime(weights, (1_700_000_000, 1_700_000_000))  # 2023-11-14
    write_summary(tmp_path / "evaluation" / "summary-new.json", judging={"answer_rule": "boxed"})
    old = write_summary(tmp_path / "evaluation" / "summary-old.json", created="2023-11-01T00:00:00+00:00")
    (tmp_path / "evaluation" / "summary-broken.json").write_text("{")
    assert [summary["judging"]["answer_rule"] for summary in find_summaries(tmp_path)] == ["boxed"]
    assert "summary-old.json is older than the model beside it" in caplog.text
    assert "summary-broken.json cannot be read as a summary" in caplog.text
    assert len(find_summaries(tmp_path, [str(old)])) == 1


@pytest.mark.parametrize(
    ("prompts", "expected"),
    [
        ({"prompts": {"form": "{problem}=", "form_from": "model"}}, "answer rule `auto`, prompts as in training"),
        ({"prompts": {"form": "{problem}ä", "form_from": "given"}}, 'answer rule `auto`, prompts "{problem}ä"'),
        ({"prompts": {"form": None, "form_from": "default"}}, "answer rule `auto`, prompts of the data"),
        ({}, "answer rule `auto`"),  # of an older version
    ],
)
def test_how_the_problems_of_an_evaluation_were_asked(run_dir, tmp_path, prompts, expected):
    path = write_summary(tmp_path / "summary.json", **prompts)
    assert f"{expected}, 2100-01-01\n" in write_card(run_dir, [str(path)], with_curves=False).read_text()


# Facts


SYSTEM = {"role": "system", "content": "Think."}


def user(content: str | list) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": DAPO_TEMPLATE.replace("{problem}", "2+3?")}, DAPO_TEMPLATE.replace("{problem}", SAMPLE_PROBLEM)),
        ({"prompt": "Q: 2+3?\nA:", "problem": " 2+3? "}, f"Q: {SAMPLE_PROBLEM}\nA:"),
        ({"prompt": [SYSTEM, user("2+3?")], "problem": "2+3?"}, [SYSTEM, user(SAMPLE_PROBLEM)]),
        ({"prompt": "2+3="}, "2+3="),
        ({"prompt": [user([{"type": "image", "text": None}, {"type": "text", "text": "How?"}])]}, [user("How?")]),
    ],
)
def test_the_prompt_shown_is_around_a_problem_of_our_own(row, expected):
    assert sample_prompt(Dataset.from_list([row])) == expected


def card_text(trainer: DAPOTrainer) -> str:
    trainer.create_model_card()
    return Path(trainer.args.output_dir, "README.md").read_text()


def test_a_template_that_is_known_keeps_private_rows_out_of_the_card():
    trainer = build(DAPOTrainer)
    trainer.prompt_template = "{problem} ="
    text = card_text(trainer)
    assert f"{SAMPLE_PROBLEM} =" in text and "p0=" not in text


def test_a_run_on_streamed_data_has_a_card():
    fields = {"dynamic_sampling": False, "balance_micro_batches": False}
    trainer = build(DAPOTrainer, fields, train_dataset=prompt_dataset().to_iterable_dataset())
    assert "Data: data in memory, streamed." in card_text(trainer)


def test_the_card_of_local_data_goes_with_the_model(tmp_path):
    data, run = tmp_path / "sums", tmp_path / "run"
    data.mkdir()
    run.mkdir()
    counts = "| step | number |\n|---|--:|\n| kept | 20 |"
    (data / "README.md").write_text(f"# sums\n\n## Counts\n\n{counts}\n\n## Settings\n")
    assert describe_data(str(data), run) == {"name": "sums", "hub_id": None, "counts": counts}
    assert (run / "data_card.md").read_text().startswith("# sums")


def test_the_licence_is_that_of_the_base_model(tmp_path):
    trainer = build(DAPOTrainer)
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
    trainer.model.config._name_or_path = str(base)
    assert ModelCard(card_text(trainer)).data.license == "apache-2.0"


# What goes wrong


def test_a_card_that_fails_does_not_stop_training(monkeypatch, caplog):
    def fails(*args, **kwargs):
        raise TypeError("no card.")

    monkeypatch.setattr("dapo_trl.hub.publishing.write_card", fails)
    trainer = train(DAPOTrainer, {"max_steps": 1, "save_strategy": "steps", "save_steps": 1})
    assert trainer.state.global_step == 1
    assert "The model card could not be written: TypeError: no card. Everything else goes on" in caplog.text
    with pytest.raises(TypeError, match="no card"):
        trainer.create_model_card()


def test_a_directory_without_facts_of_a_run(tmp_path):
    with pytest.raises(FactsError, match="holds no run.json: no checkpoint of DAPOTrainer has been saved there"):
        write_card(tmp_path)
    (tmp_path / "run.json").write_text('{"format_version": 99}')
    with pytest.raises(FactsError, match="format version 99, but this version of dapo_trl reads 1"):
        write_card(tmp_path)


def test_a_push_needs_a_repository_and_a_model(run_dir):
    with pytest.raises(FactsError, match="was not trained with push_to_hub. Give --repo_id <owner>/<name>"):
        main(["--run", str(run_dir), "--push"])
    for weights in run_dir.glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(FactsError, match="holds no final model: the run has not come to its end, or has trained noth"):
        main(["--run", str(run_dir), "--push", "--repo_id", "me/mine"])
