"""Training pushes to a Hub on loopback, and others load what it pushed."""

import json

import pytest
import yaml
from huggingface_hub import ModelCard

from dapo_trl.hub.facts import SAMPLE_PROBLEM
from tests.helpers import EOS, char_tokenizer

from .pushing_worker import BASE, DATA, RUNS


def test_every_save_is_pushed(runs):
    history = runs.store.model("tester/whole").history()
    assert history == [
        "initial commit",
        *(f"Training in progress, step {k}" for k in (1, 2, 3)),
        "End of training",
        "Model card",
    ]


def test_what_is_pushed(runs):
    files = runs.store.model("tester/whole").files()
    model = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    run = {"README.md", "recipe.yaml", "metrics.jsonl", "dapo_trl.json", "run.json", "curves.png"}
    assert model | run <= files.keys()
    assert {"last-checkpoint/optimizer.pt", "last-checkpoint/dapo_state_0.pt"} <= files.keys()
    assert not [path for path in files if path.endswith(("training_args.bin", ".tmp"))]
    assert not [path for path in files if path.startswith(("checkpoint-", "_"))]
    assert not list((runs.directory / "whole").glob("_push-*"))


def test_the_recipe_is_as_it_was_given_but_for_secrets(runs):
    text = runs.store.model("tester/whole").files()["recipe.yaml"].decode()
    assert "dapo_trl.train --config recipe.yaml --max_completion_length 6\n" in text.splitlines(keepends=True)[0]
    recipe = yaml.safe_load(text)
    assert recipe["learning_rate"] == 1e-3 and recipe["hub_strategy"] == "checkpoint"
    assert recipe["hub_token"] == "not-published"
    assert not [path for path, data in runs.store.model("tester/whole").files().items() if b"hf_of_the_tests" in data]


def test_private(runs):
    assert runs.store.model("tester/whole").is_private
    assert not runs.store.model("tester/adapter").is_private


def test_a_branch_per_step_and_the_final_model_on_main(runs):
    repo = runs.store.model("tester/adapter")
    assert set(repo.branches) == {"main", "step-1", "step-2", "step-3"}
    assert repo.history("step-2")[-1] == "Training in progress, step 2"
    assert repo.history("main") == ["initial commit", "End of training"]
    weights = [repo.files(f"step-{step}")["adapter_model.safetensors"] for step in (1, 2, 3)]
    assert len(set(weights)) == 3
    assert repo.files()["adapter_model.safetensors"] == weights[2]


def test_an_adapter_tells_how_to_generate(runs):
    files = runs.store.model("tester/adapter").files()
    assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == BASE
    assert json.loads(files["generation_config.json"])["eos_token_id"] == [EOS]
    assert "tokenizer.json" in files


def test_refused_pushes_do_not_stop_training_and_are_made_at_the_end(runs):
    """Three pushes are refused and the first attempt at the end; step 1 has been deleted by then."""
    assert runs.ends["flaky"] is None
    assert "The push of step 1 to" in runs.log and "Storage quota exceeded." in runs.log
    assert "Step 1 is not on" in runs.log and "Raise save_total_limit" in runs.log
    repo = runs.store.model("tester/flaky")
    assert repo.history("main")[-1] == "End of training"
    assert "model.safetensors" not in repo.files("step-1")
    for step in (2, 3):
        checkpoint = runs.directory / "flaky" / f"checkpoint-{step}" / "model.safetensors"
        assert repo.files(f"step-{step}")["model.safetensors"] == checkpoint.read_bytes()


def test_a_hub_that_refuses_to_the_end(runs):
    message, output_dir = runs.ends["refusing"], runs.directory / "refusing"
    assert f"Not on {runs.url}/tester/refusing after 3 attempts: step 3 (main) from {output_dir}" in message
    assert f"dapo-trl model-card --run {output_dir} --push" in message
    assert (output_dir / "model.safetensors").exists() and (output_dir / "trainer_state.json").exists()
    assert runs.store.model("tester/refusing").history() == ["initial commit"]


def test_what_was_refused_is_pushed_by_the_command_that_the_message_names(runs):
    repo = runs.store.model("tester/mended")
    assert repo.is_private
    assert repo.files()["model.safetensors"] == (runs.directory / "refusing" / "model.safetensors").read_bytes()


def test_the_evaluation_is_in_the_card(runs):
    files = runs.store.model("tester/whole").files()
    (summary,) = [json.loads(data) for path, data in files.items() if path.startswith("evaluation/summary-sums-")]
    card = ModelCard(files["README.md"].decode())
    results = {result.metric_type: result for result in card.data.eval_results}
    assert results.keys() == {"avg@2", "maj@2", "pass@1", "pass@2"}
    assert results["avg@2"].metric_value == pytest.approx(summary["measures"]["avg@2"]["mean"], abs=1e-4)
    assert (results["avg@2"].dataset_type, results["avg@2"].metric_args["k"]) == (DATA, 2)
    assert "| sums | maj@2 |" in card.text
    assert "sums: k = 2 samples per problem, temperature 1, top_p 0.7, at most 6 tokens" in card.text


def test_the_card_of_an_adapter(runs):
    card = ModelCard(runs.store.model("tester/adapter").files()["README.md"].decode())
    assert (card.data.base_model, card.data.library_name, card.data.datasets) == (BASE, "peft", [DATA])
    assert "A LoRA adapter for [tester/base](https://huggingface.co/tester/base)" in card.text
    assert "| **Problems kept** | 20 |" in card.text  # of the data card


def test_a_resumed_run_goes_on_in_the_same_repository(runs):
    history = runs.store.model("tester/resumed").history()
    first = ["initial commit", "Training in progress, step 1", "Training in progress, step 2", "End of training"]
    assert history == [*first, "Training in progress, step 3", "End of training"]
    assert {name for kind, name in runs.store.repos if kind == "models"} == {
        BASE,
        "tester/mended",
        *(f"tester/{name}" for name in RUNS),
    }
    metrics = runs.store.model("tester/resumed").files()["metrics.jsonl"].splitlines()
    assert [record["step"] for record in map(json.loads, metrics) if "loss" in record] == [1, 2, 3]


@pytest.fixture(scope="module")
def loaded(runs) -> dict:
    """See [`~tests.hub.loading_worker`]."""
    finished = runs.start("tests.hub.loading_worker", str(runs.directory))
    assert finished.returncode == 0, finished.stderr[-5000:]
    return json.loads(finished.stdout)


def test_the_model_is_loaded_back(loaded):
    assert loaded["whole"] and loaded["last_checkpoint"]
    assert loaded["use_cache"] is True and loaded["eos_token_id"] == [EOS]
    assert loaded["tokens"] == char_tokenizer()("1+2")["input_ids"]


def test_the_metadata_are_loaded_back(loaded):
    assert loaded["answer_rules"] == {}  # the file is there; the reward of these runs has no rule


def test_the_adapters_of_two_steps_are_loaded_back(loaded):
    assert loaded["adapters"] == [True, True] and loaded["adapter_moved"]
    assert loaded["adapter_base"] == BASE


def test_the_quick_starts_of_the_cards_run(loaded):
    assert [start[:2] for start in loaded["quick_starts"]] == [
        ["LlamaForCausalLM", SAMPLE_PROBLEM],
        ["PeftModelForCausalLM", SAMPLE_PROBLEM],
    ]
    assert all(num_characters > 0 for _, _, num_characters in loaded["quick_starts"])


def test_the_prepared_data_is_loaded_back(runs, loaded):
    assert loaded["rows"] == {"prompt": ["0+0=", "0+1="], "solution": ["0", "1"]}
    card = runs.store.repos["datasets", "tester/sums"].files()["README.md"].decode()
    assert "20 problems with reference answers" in card
