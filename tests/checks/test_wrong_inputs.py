"""
Everything that a trainer is built from, given wrongly: refused by name, with a remedy, before anything is generated.

The table lists the messages of TRL and Transformers that are good enough, too: no check of ours may hide them.
"""

import functools
import re
import tempfile
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest
import torch
from datasets import Dataset, DatasetDict, IterableDatasetDict
from peft import AdaptionPromptConfig, LoraConfig, PeftModel, PrefixTuningConfig, PromptTuningConfig, get_peft_model
from transformers import (
    BertConfig,
    BertForMaskedLM,
    EarlyStoppingCallback,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2ForCausalLM,
    Qwen2ForSequenceClassification,
    T5Config,
    T5ForConditionalGeneration,
    TrainerCallback,
)

from dapo_trl import DAPOConfig, DAPOTrainer, accuracy
from dapo_trl.checks.data import check_prompt_types
from dapo_trl.checks.model import check_policy, check_trainable, num_embeddings

from ..helpers import CHAT_TEMPLATE, EOS, build, char_tokenizer, correct, prompt_dataset, tiny_model


class CountingTrainer(DAPOTrainer):
    """Counts the prompts that anything is generated for, in all trainers of a test."""

    num_generated = 0

    def _generate(self, prompts):
        CountingTrainer.num_generated += len(prompts)
        return super()._generate(prompts)


def build_and_train(config: dict, arguments: dict) -> CountingTrainer:
    CountingTrainer.num_generated = 0
    trainer = build(CountingTrainer, {"max_steps": 1} | config, **{"rollout_func": None} | arguments)
    trainer.train()
    return trainer


# Models and adapters


def lora(**options) -> LoraConfig:
    return LoraConfig(**{"r": 4, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"} | options)


@functools.cache
def adapter_directory() -> tempfile.TemporaryDirectory:
    directory = tempfile.TemporaryDirectory()
    get_peft_model(tiny_model(), lora()).save_pretrained(directory.name)
    return directory


def loaded_adapter(**options) -> PeftModel:
    return PeftModel.from_pretrained(tiny_model(), adapter_directory().name, **options)


def adapter_beside_a_frozen_one() -> PeftModel:
    model = loaded_adapter()
    model.load_adapter(adapter_directory().name, "second", is_trainable=True)
    return model


def disabled_adapter() -> PeftModel:
    model = get_peft_model(tiny_model(), lora())
    model.base_model.disable_adapter_layers()
    return model


def two_adapters() -> PeftModel:
    model = get_peft_model(tiny_model(), lora())
    model.add_adapter("second", lora())
    return model


def adapter_beside_a_reference() -> PeftModel:
    model = get_peft_model(tiny_model(), lora())
    model.add_adapter("ref", lora())
    return model


def loaded_again(change: float = 0.0) -> Qwen2ForCausalLM:
    model = Qwen2ForCausalLM.from_pretrained(saved(tiny_model()), dtype="float32")
    model.model.layers[1].mlp.up_proj.weight.data[3, 5] += change
    return model


def frozen(but: str | None = None) -> Qwen2ForCausalLM:
    model = tiny_model()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(but is not None and but in name)
    return model


def gpt2(num_positions: int) -> GPT2LMHeadModel:
    sizes = {"vocab_size": 128, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": num_positions}
    return GPT2LMHeadModel(GPT2Config(**sizes, eos_token_id=EOS, bos_token_id=None))


def encoder() -> BertForMaskedLM:
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 32}
    return BertForMaskedLM(BertConfig(vocab_size=128, **sizes))


def encoder_decoder() -> T5ForConditionalGeneration:
    sizes = {"d_model": 32, "d_ff": 32, "num_layers": 1, "num_heads": 4, "d_kv": 8}
    return T5ForConditionalGeneration(T5Config(vocab_size=128, decoder_start_token_id=0, **sizes))


def saved(model: Any) -> str:
    directory = tempfile.mkdtemp(dir=adapter_directory().name)
    model.save_pretrained(directory)
    return directory


def on_the_meta_device() -> Qwen2ForCausalLM:
    with torch.device("meta"):
        return Qwen2ForCausalLM(tiny_model().config)


def without_generation_config() -> Qwen2ForCausalLM:
    model = tiny_model()
    model.generation_config = None
    return model


def with_an_end_token_beyond() -> Qwen2ForCausalLM:
    model = tiny_model()
    model.generation_config.eos_token_id = [EOS, 5000]
    return model


NOTHING_TO_TRAIN = r"model is a Qwen2ForCausalLM with nothing to train: .* Call model.requires_grad_\(True\)"
FROZEN = r"active adapters of the model, \['default'\], are frozen .*from_pretrained\(..., is_trainable=True\)"
NO_CAUSAL_MODEL = r"which is no causal language model. Load one with AutoModelForCausalLM"
VIRTUAL = "virtual tokens stand before the padding.* dynamic_sampling=True .* such as LoRA, or set both to false"
TOO_LONG = (
    r"train_dataset\[14\]\['prompt'\] has 8 tokens, and with max_completion_length=16 that is more than "
    r"max_position_embeddings=20 of the model, which has no embedding for further positions. Lower "
    r"max_completion_length, or leave out prompts above 4 tokens"
)
BEYOND = r"has the token '=' with the id 85, but the model's embedding has 50 rows. Call model.resize_token_embeddings"

MODELS = {
    "None": (lambda: {"model": None}, "model is None, but it must be the name or path"),
    "other object": (lambda: {"model": torch.nn.Linear(2, 2)}, "model is a Linear, but it must be the name or path"),
    "no such name": (lambda: {"model": "/no/such/model"}, "/no/such/model"),
    "wrapped": (lambda: {"model": torch.nn.DataParallel(tiny_model())}, r"is a DataParallel, .* Pass model.module"),
    "encoder": (lambda: {"model": encoder()}, f"model is a BertForMaskedLM, {NO_CAUSAL_MODEL}"),
    "encoder by path": (lambda: {"model": saved(encoder())}, "is a BertForMaskedLM, which is no causal language"),
    "encoder and decoder": (lambda: {"model": encoder_decoder()}, f"T5ForConditionalGeneration, {NO_CAUSAL_MODEL}"),
    "classifier": (lambda: {"model": Qwen2ForSequenceClassification(tiny_model().config)}, NO_CAUSAL_MODEL),
    "without a head": (lambda: {"model": tiny_model().model}, f"is a Qwen2Model, {NO_CAUSAL_MODEL}"),
    "without data": (lambda: {"model": on_the_meta_device()}, "parameters without data .* Load it whole"),
    "no generation config": (lambda: {"model": without_generation_config()}, "generation_config is None.* Set it to"),
    "no tokenizer to load": (lambda: {"processing_class": None}, "processing_class is not given.* Pass the model's"),
    "frozen": (lambda: {"model": frozen()}, NOTHING_TO_TRAIN),
    "learned positions": (lambda: {"model": gpt2(20)}, TOO_LONG),
    "small vocabulary": (lambda: {"model": tiny_model(vocab_size=50)}, rf"train_dataset\[0\]\['prompt'\] {BEYOND}"),
    # Adapters
    "frozen adapter": (lambda: {"model": loaded_adapter()}, FROZEN),
    "frozen adapter with KL": (lambda: {"model": loaded_adapter(), "config": {"beta": 0.1}}, FROZEN),
    "the other adapter": (lambda: {"model": adapter_beside_a_frozen_one()}, FROZEN),
    "inference mode": (lambda: {"peft_config": lora(inference_mode=True)}, FROZEN),
    "disabled": (lambda: {"model": disabled_adapter()}, r"they are disabled.* Call .*enable_adapter_layers"),
    "prefix tuning": (
        lambda: {"peft_config": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)},
        f"adapter is a PrefixTuningConfig, whose {VIRTUAL}",
    ),
    "prompt tuning": (
        lambda: {"peft_config": PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)},
        f"adapter is a PromptTuningConfig, whose {VIRTUAL}",
    ),
    "adaption prompt": (
        lambda: {
            "model": LlamaForCausalLM(LlamaConfig(**tiny_model().config.to_dict() | {"model_type": "llama"})),
            "peft_config": AdaptionPromptConfig(adapter_layers=1, adapter_len=2, task_type="CAUSAL_LM"),
        },
        "adapter is a AdaptionPromptConfig, under which .* Train another adapter, such as LoRA",
    ),
    "no target": (lambda: {"peft_config": lora(target_modules=["nope"])}, "Target modules {'nope'} not found"),
    "other name with KL": (
        lambda: {"model": get_peft_model(tiny_model(), lora(), adapter_name="mine"), "config": {"beta": 0.1}},
        r"beta=0.1: the reference is a copy of the adapter 'default' .* has the adapters \['mine'\]. Load .* or set b",
    ),
    "a reference already": (
        lambda: {"model": adapter_beside_a_reference(), "config": {"beta": 0.1}},
        r"by the name of 'ref', but the model has the adapters \['default', 'ref'\]",
    ),
    "no reference to load": (
        lambda: {"config": {"beta": 0.1}},
        "beta=0.1: the reference model is loaded by the name of the model, but .* names no .* set beta to 0",
    ),
    "LM head": (lambda: {"peft_config": lora(target_modules=["lm_head"])}, "adapter to `lm_head` is not supported"),
    "no adapter config": (lambda: {"peft_config": {"r": 4}}, "`peft_config` must be a `peft.PeftConfig` instance"),
    "adapter twice": (lambda: {"model": two_adapters(), "peft_config": lora()}, "together with a `peft_config`"),
}

# Tokenizers


def tokenizer(chat_template: str | None = None, **attributes) -> Any:
    made = char_tokenizer(chat_template)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def tokenizer_with_more_tokens(chat_template: str | None = None, **special) -> Any:
    made = char_tokenizer(chat_template)
    made.add_tokens([f"<extra_{i}>" for i in range(40)])
    made.add_special_tokens(special)
    return made


def prompts(rows: list) -> Dataset:
    return Dataset.from_dict({"prompt": rows})


END_BEYOND = r"processing_class.eos_token has the token '<end>' with the id 141, but .*resize_token_embeddings\(142\)"
EXTRA = r"\['prompt'\] has the token '<extra_39>' with the id 140, but .*resize_token_embeddings\(141\)"

TOKENIZERS = {
    "none": (lambda: {"processing_class": "gpt2"}, "`processing_class` must be either"),
    "no end": (lambda: {"processing_class": tokenizer(eos_token=None)}, "has no eos_token.* Set tokenizer.eos_token"),
    "neither end nor padding": (lambda: {"processing_class": tokenizer(eos_token=None, pad_token=None)}, "no eos_tok"),
    "end beyond": (lambda: {"processing_class": tokenizer_with_more_tokens(eos_token="<end>")}, END_BEYOND),
    "padding beyond": (
        lambda: {"processing_class": tokenizer_with_more_tokens(pad_token="<padding>")},
        "processing_class.pad_token has the token '<padding>' with the id 141",
    ),
    "prompts beyond": (
        lambda: {
            "processing_class": tokenizer_with_more_tokens(),
            "train_dataset": prompts([*(f"p{i}" for i in range(20)), "p<extra_39>"]),
        },
        rf"train_dataset\[20\]{EXTRA}",
    ),
    "evaluation beyond": (
        lambda: {
            "processing_class": tokenizer_with_more_tokens(),
            "eval_dataset": {"easy": prompts(["p", "q<extra_39>"])},
        },
        rf"eval_dataset\['easy'\]\[1\]{EXTRA}",
    ),
    "template beyond": (
        lambda: {
            "processing_class": tokenizer_with_more_tokens(chat_template=CHAT_TEMPLATE + "<extra_39>"),
            "train_dataset": prompt_dataset(is_conversational=True),
        },
        rf"train_dataset\[0\]{EXTRA}",
    ),
    "no template": (
        lambda: {"train_dataset": prompt_dataset(is_conversational=True)},
        "train_dataset has prompts that are lists of messages, but processing_class has no chat_template",
    ),
}

# Data

USER = {"role": "user", "content": "p"}
EVALUATED = {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 4}


class TorchDataset(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, number):
        return {"prompt": f"p{number}"}


def chat(rows: list) -> dict:
    return {"train_dataset": prompts(rows), "processing_class": char_tokenizer(CHAT_TEMPLATE)}


def evaluating(dataset: Any) -> dict:
    return {"eval_dataset": dataset, "config": EVALUATED}


NO_PROMPT = r"has no column `prompt`, but the columns \['number', 'question'\]. Rename .*load_prompts"
NO_ROWS = r"has no rows, so that there is nothing to evaluate. Give it prompts, or set eval_strategy to 'no'"
NO_DATASET = "but it must be a Dataset or an IterableDataset.* Build one with Dataset.from_list"
A_PROMPT_IS = "A prompt is a text, or a list of messages"

DATA = {
    "missing": (lambda: {"train_dataset": None}, "`train_dataset` is required"),
    "list": (
        lambda: {"train_dataset": [{"prompt": "p"}] * 20},
        "must be a `Dataset` or `IterableDataset`, got `list`",
    ),
    "pandas": (lambda: {"train_dataset": pd.DataFrame({"prompt": ["p"] * 20})}, "got `DataFrame`"),
    "torch": (lambda: {"train_dataset": TorchDataset()}, "got `TorchDataset`"),
    "splits": (
        lambda: {"train_dataset": DatasetDict({"train": prompt_dataset(), "test": prompt_dataset()})},
        r"train_dataset is a DatasetDict with the splits \['train', 'test'\]. Pass one of them",
    ),
    "streamed splits": (
        lambda: {"train_dataset": IterableDatasetDict({"train": prompt_dataset().to_iterable_dataset()})},
        r"train_dataset is a IterableDatasetDict with the splits \['train'\]. Pass one of them",
    ),
    "stream": (lambda: {"train_dataset": prompt_dataset().to_iterable_dataset()}, "or load the data set without str"),
    "empty": (lambda: {"train_dataset": prompts([])}, "train_dataset has 0 prompts, but one rollout needs 2"),
    "no column": (
        lambda: {"train_dataset": prompt_dataset().rename_column("prompt", "question")},
        f"train_dataset {NO_PROMPT}",
    ),
    "no column without dynamic sampling": (
        lambda: {
            "train_dataset": prompt_dataset().rename_column("prompt", "question"),
            "config": {"dynamic_sampling": False, "balance_micro_batches": False},
        },
        f"train_dataset {NO_PROMPT}",
    ),
    "None": (
        lambda: {"train_dataset": prompts(["p", None])},
        rf"\[1\]\['prompt'\] is None \(NoneType\). {A_PROMPT_IS}",
    ),
    "numbers": (lambda: {"train_dataset": prompts([1, 2])}, rf"\[0\]\['prompt'\] is 1 \(int\). {A_PROMPT_IS}"),
    "tokens": (lambda: {"train_dataset": prompts([[1, 2]] * 2)}, r"is a list of int, \[1, 2\]. A prompt is"),
    "empty text": (
        lambda: {"train_dataset": prompts(["p", ""])},
        r"train_dataset\[1\]\['prompt'\] is empty.* Leave out such rows \(dataset.filter\)",
    ),
    "no messages": (lambda: chat([[USER], []]), rf"train_dataset\[1\]\['prompt'\] is an empty list. {A_PROMPT_IS}"),
    "no messages first": (lambda: chat([[], [USER]]), r"train_dataset\[0\]\['prompt'\] is an empty list"),
    "messages None": (lambda: chat([[USER], None]), r"train_dataset\[1\]\['prompt'\] is None"),
    "no content": (
        lambda: chat([[USER], [{"role": "user", "content": None}]]),
        r"train_dataset\[1\]\['prompt'\] is a list of messages, one of them without content: .* Correct the row",
    ),
    "no role": (lambda: chat([[{"content": "p"}]] * 2), "one of them without role: {'content': 'p'}"),
    "other keys": (lambda: chat([[{"from": "human", "value": "p"}]] * 2), "one of them without role and content"),
    # Evaluation
    "no evaluation data": (lambda: evaluating(None), "didn't pass an `eval_dataset`"),
    "no evaluation sets": (lambda: evaluating({}), "eval_strategy='steps', but eval_dataset is empty. Give it a data"),
    "empty evaluation": (lambda: evaluating(prompts([])), f"eval_dataset {NO_ROWS}"),
    "empty evaluation set": (
        lambda: evaluating({"easy": prompt_dataset(4), "hard": prompts([])}),
        rf"eval_dataset\['hard'\] {NO_ROWS}",
    ),
    "evaluation without column": (
        lambda: evaluating(prompt_dataset(4).rename_column("prompt", "question")),
        f"eval_dataset {NO_PROMPT}",
    ),
    "evaluation by name": (lambda: evaluating("test"), f"eval_dataset is a str, {NO_DATASET}"),
    "evaluation pandas": (lambda: evaluating(pd.DataFrame({"prompt": ["p"]})), f"is a DataFrame, {NO_DATASET}"),
    "nested sets": (
        lambda: evaluating({"a": {"b": prompt_dataset(4)}}),
        rf"eval_dataset\['a'\] is a dict, {NO_DATASET}",
    ),
    "evaluation as messages": (
        lambda: evaluating(prompt_dataset(4, is_conversational=True)),
        "eval_dataset has prompts that are lists of messages, but processing_class has no chat_template",
    ),
    "evaluation None": (lambda: evaluating(prompts(["p", None])), r"eval_dataset\[1\]\['prompt'\] is None"),
    "evaluation batch": (
        lambda: (
            evaluating(prompt_dataset(4))
            | {"config": EVALUATED | {"per_device_eval_batch_size": 3, "num_generations_eval": 2}}
        ),
        r"eval batch size \(3 \* 1\) must be divisible by the number of generations used for evaluation \(2\)",
    ),
}

# The best model

BEST = EVALUATED | {"load_best_model_at_end": True, "save_strategy": "steps", "save_steps": 1}


def choosing(metric: str | None, *names: str, **config) -> dict:
    datasets = {name: prompt_dataset(2) for name in names} or prompt_dataset(2)
    return {"eval_dataset": datasets, "config": BEST | {"metric_for_best_model": metric} | config}


BEST_METRICS = {
    "named sets": (
        lambda: choosing(None, "easy", "hard"),
        r"metric_for_best_model='eval_avg@4' is no metric of the evaluation of the 2 named sets, each with metrics of "
        r"its own. Did you mean 'eval_easy_avg@4' or 'eval_hard_avg@4'\? Set it to one of \['eval_easy_avg@4', ",
    ),
    "reward of which set": (
        lambda: choosing("eval_reward", "easy", "hard"),
        "Did you mean 'eval_easy_reward' or 'eval_hard_reward'",
    ),
    "unknown set": (lambda: choosing("eval_esay_avg@4", "easy", "hard"), "Did you mean 'eval_easy_avg@4'"),
    "misspelt": (lambda: choosing("eval_rewrad"), r"'eval_rewrad' is no metric .* mean 'eval_reward'\? Set it to"),
    "without its prefix": (lambda: choosing("rewrad"), r"'rewrad' is no metric .* mean 'eval_reward'\?"),
    "other k": (lambda: choosing("eval_avg@2"), r"Did you mean 'eval_avg@4'\?"),
    "bound": (lambda: choosing("eval_avg@4_low"), r"Did you mean 'eval_avg@4'\?"),  # not there for a single problem
    "saved if best": (
        lambda: choosing("eval_rewrad", save_strategy="best", load_best_model_at_end=False),
        r"Did you mean 'eval_reward'\?",
    ),
    "plateau": (
        lambda: choosing(None, "easy", lr_scheduler_type="reduce_lr_on_plateau", load_best_model_at_end=False),
        r"metric_for_best_model='loss' .* Did you mean 'eval_easy_loss'\?",
    ),
    "early stopping": (
        lambda: choosing(None, "easy") | {"callbacks": [EarlyStoppingCallback()]},
        "Did you mean 'eval_easy_avg@4'",
    ),
    "early stopping by nothing": (
        lambda: evaluating(prompt_dataset(2)) | {"callbacks": [EarlyStoppingCallback()]},
        "EarlyStoppingCallback requires metric_for_best_model",
    ),
}

# Rewards


class Reward:
    def __call__(self, completion_ids, **kwargs):
        return correct(completion_ids)

    def method(self, completion_ids, **kwargs):
        return correct(completion_ids)


def with_answer(completions, answer, **kwargs):
    return [0.0] * len(completions)


def by_number(completion_ids, number, **kwargs):
    return correct(completion_ids)


def without_kwargs(prompts, completions):
    return [0.0] * len(completions)


def by_position(completions, /, **kwargs):
    return [0.0] * len(completions)


def generating(completion_ids, **kwargs):
    yield from correct(completion_ids)


async def generating_later(completion_ids, **kwargs):
    for value in correct(completion_ids):
        yield value


async def later(completion_ids, **kwargs):
    return correct(completion_ids)


def by_name(first, completion_ids, **kwargs):
    return correct(completion_ids)


def passing_on(function: Callable) -> Callable:
    """A decorator that gives a function no more than it takes."""

    @functools.wraps(function)
    def decorated(*args, **kwargs):
        return function(kwargs["completion_ids"])

    return decorated


def with_column(name: str) -> Dataset:
    return prompt_dataset().add_column(name, ["x"] * 40)


NO_REWARD = r"but a reward is a function, a reward model, or the name of one"
CALLED_WITH = r"It is called with the keyword arguments \['prompts', .* and the other columns of"

REWARDS = {
    "missing": (lambda: {"reward_funcs": None}, "No reward source provided"),
    "none": (lambda: {"reward_funcs": []}, "No reward source provided"),
    "number": (lambda: {"reward_funcs": 3}, rf"reward_funcs\[0\] is 3 \(int\), {NO_REWARD}"),
    "None": (lambda: {"reward_funcs": [correct, None]}, rf"reward_funcs\[1\] is None \(NoneType\), {NO_REWARD}"),
    "dictionary": (lambda: {"reward_funcs": {"a": correct}}, rf"\(dict\), {NO_REWARD}"),
    "class": (lambda: {"reward_funcs": Reward}, r"reward_funcs\[0\] is the class Reward. Pass an instance of it"),
    "name": (
        lambda: {"reward_funcs": "accuracy"},
        r"reward_funcs\[0\]='accuracy' would be loaded as a reward model .*dapo_trl.rewards.load_reward\('accuracy'\)",
    ),
    "dotted path": (lambda: {"reward_funcs": ["my.rewards.short"]}, r"load_reward\('my.rewards.short'\)"),
    "module": (lambda: {"reward_funcs": torch.nn.Linear(2, 2)}, "is a Linear, a module that is no model of Transf"),
    "language model": (
        lambda: {"reward_funcs": tiny_model()},
        r"reward_funcs\[0\] is a Qwen2ForCausalLM, .* AutoModelForSequenceClassification.from_pretrained",
    ),
    "async generator": (lambda: {"reward_funcs": generating_later}, "generating_later, is an async generator. Return"),
    "no kwargs": (
        lambda: {"reward_funcs": without_kwargs},
        r"without_kwargs\(prompts, completions\) cannot be called: got an unexpected keyword argument "
        rf"'completion_ids'. {CALLED_WITH} train_dataset, \['number'\]. Add \*\*kwargs",
    ),
    "by position": (lambda: {"reward_funcs": by_position}, r"by_position\(completions, /, .* cannot be called"),
    "column": (
        lambda: {"reward_funcs": with_answer},
        rf"cannot be called: missing a required argument: 'answer'. {CALLED_WITH} train_dataset, \['number'\]",
    ),
    "column of an instance": (lambda: {"reward_funcs": functools.partial(by_name)}, "required argument: 'first'"),
    "column removed": (
        lambda: {"reward_funcs": by_number, "config": {"remove_unused_columns": True}},
        "missing a required argument: 'number'",
    ),
    "evaluation column": (
        lambda: {"reward_funcs": by_number} | evaluating(prompts(["p"] * 4)),
        rf"missing a required argument: 'number'. {CALLED_WITH} eval_dataset, \[\]",
    ),
    "no solutions": (
        lambda: {"reward_funcs": accuracy},
        r"The reward 'accuracy' needs the column 'solution', but train_dataset has the columns \['number', 'prompt'\]",
    ),
    "no solutions in evaluation": (
        lambda: {"reward_funcs": accuracy, "train_dataset": with_column("solution")} | evaluating(prompt_dataset(4)),
        "needs the column 'solution', but eval_dataset has",
    ),
    "column in the way": (
        lambda: {"train_dataset": with_column("completions")},
        "train_dataset has a column 'completions', which is also the name of an arg.* Rename or remove the column",
    ),
    "another in the way": (lambda: {"train_dataset": with_column("trainer_state")}, "has a column 'trainer_state'"),
    "two of a name": (
        lambda: {"reward_funcs": [lambda completion_ids, **_: [], lambda completion_ids, **_: []]},
        r"have the names \['<lambda>', '<lambda>'\], one of them more than once.* Give every function a name",
    ),
}

# Callbacks and optimizers


def optimizer_of(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


def optimizer_from_before_the_adapter() -> dict:
    model = tiny_model()
    return {"model": model, "peft_config": lora(), "optimizers": (optimizer_of(model), None)}


def scheduler_of_another() -> dict:
    model = tiny_model()
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer_of(model), lambda step: 1.0)
    return {"model": model, "optimizers": (optimizer_of(model), scheduler)}


NO_PAIR = r"but it must be a pair \(optimizer, scheduler\)"
NOT_OPTIMIZED = "the optimizer has none of the parameters that are trained.* Build it with this model's parameters"

CALLBACKS_AND_OPTIMIZERS = {
    "no list": (lambda: {"callbacks": TrainerCallback()}, "callbacks is a TrainerCallback, but it must be a list"),
    "number": (lambda: {"callbacks": [TrainerCallback, 3]}, r"callbacks\[1\] is 3, which has no on_.* subclass"),
    "function": (lambda: {"callbacks": [print]}, r"callbacks\[0\] is <built-in function print>, which has no on_"),
    "other class": (lambda: {"callbacks": [Reward()]}, r"callbacks\[0\] is .*Reward.* Make it a subclass of"),
    "optimizer alone": (lambda: {"optimizers": optimizer_of(tiny_model())}, f"optimizers is a AdamW, {NO_PAIR}"),
    "tuple of one": (lambda: {"optimizers": (None,)}, f"optimizers is a tuple, {NO_PAIR}"),
    "None": (lambda: {"optimizers": None}, f"optimizers is None, {NO_PAIR}"),
    "of another model": (lambda: {"optimizers": (optimizer_of(tiny_model()), None)}, NOT_OPTIMIZED),
    "before the adapter": (optimizer_from_before_the_adapter, NOT_OPTIMIZED),
    "scheduler of another": (scheduler_of_another, "the scheduler belongs to another optimizer.* Build it on that"),
    "scheduler of none": (
        lambda: scheduler_of_another() | {"optimizers": (None, scheduler_of_another()["optimizers"][1])},
        "the scheduler belongs to another optimizer",
    ),
}

WRONG = {
    f"{table}: {name}": case
    for table, cases in {
        "model": MODELS,
        "tokenizer": TOKENIZERS,
        "data": DATA,
        "best model": BEST_METRICS,
        "rewards": REWARDS,
        "others": CALLBACKS_AND_OPTIMIZERS,
    }.items()
    for name, case in cases.items()
}


@pytest.mark.parametrize("name", WRONG)
def test_is_refused_before_anything_is_generated(name):
    make, message = WRONG[name]
    arguments: dict[str, Any] = make()
    with pytest.raises(Exception, match=message) as refusal:
        build_and_train(arguments.pop("config", {}), arguments)
    assert CountingTrainer.num_generated == 0, refusal.value


# What looks wrong, and works


def partly_optimized() -> dict:
    model = tiny_model()
    return {"model": model, "optimizers": (torch.optim.AdamW([model.model.embed_tokens.weight], lr=1e-3), None)}


def own_optimizer_and_scheduler() -> dict:
    model = tiny_model()
    optimizer = optimizer_of(model)
    return {"model": model, "optimizers": (optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0))}


def logging_reward(completion_ids, log_metric, **kwargs):
    log_metric("my_metric", 1.0)
    return correct(completion_ids)


def streamed(num_prompts: int) -> Any:
    return prompt_dataset(num_prompts).to_iterable_dataset()


WORKS: dict[str, Callable[[], dict]] = {
    "model in evaluation mode": lambda: {"model": tiny_model().eval()},
    "model that is compiled": lambda: {"model": torch.compile(tiny_model(), backend="eager")},
    "model with one layer to train": lambda: {"model": frozen(but="layers.1")},
    "model with its embedding to train": lambda: {"model": frozen(but="embed_tokens")},
    "model with an end token beyond": lambda: {"model": with_an_end_token_beyond()},
    "model with just as many positions": lambda: {"model": gpt2(24)},
    "model with fewer rotary positions": lambda: {"model": tiny_model(max_position_embeddings=16)},
    "adapter to go on with": lambda: {"model": loaded_adapter(is_trainable=True)},
    "adapter to go on with, with KL": lambda: {"model": loaded_adapter(is_trainable=True), "config": {"beta": 0.1}},
    "two adapters": lambda: {"model": two_adapters()},
    "adapter by another name": lambda: {"model": get_peft_model(tiny_model(), lora(), adapter_name="mine")},
    "model with KL": lambda: {"model": loaded_again(), "config": {"beta": 0.1}},
    "model in bfloat16 with KL": lambda: {"model": loaded_again().bfloat16(), "config": {"beta": 0.1}},
    "model that has changed, with KL": lambda: {"model": loaded_again(change=0.1), "config": {"beta": 0.1}},
    "adapter for any task": lambda: {"peft_config": lora(task_type=None)},
    "prefix tuning as in TRL": lambda: {
        "peft_config": PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4),
        "config": {"dynamic_sampling": False, "balance_micro_batches": False},
    },
    "padding on the right": lambda: {"processing_class": tokenizer(padding_side="right")},
    "padding with the end": lambda: {"processing_class": tokenizer(pad_token="<eos>")},
    "no padding": lambda: {"processing_class": tokenizer(pad_token=None)},
    "tokens beyond that no prompt has": lambda: {"processing_class": tokenizer_with_more_tokens()},
    "empty text with a first token": lambda: {
        "train_dataset": prompts(["p", ""]),
        "processing_class": tokenizer_that_begins(),
    },
    "answers in prompts": lambda: chat([[USER, {"role": "assistant", "content": "4"}]] * 4),
    "call without content": lambda: chat([[USER, {"role": "assistant", "content": None}, USER]] * 4),
    "transformed when read": lambda: {
        "train_dataset": prompt_dataset().with_transform(lambda rows: {"prompt": [f"{n}?" for n in rows["number"]]}),
        "config": {"dynamic_sampling": False, "balance_micro_batches": False},
    },
    "column that is not handed on": lambda: {"train_dataset": with_column("completion")},
    "stream as in TRL": lambda: {
        "train_dataset": streamed(40),
        "config": {"dynamic_sampling": False, "balance_micro_batches": False},
    },
    "evaluation on a list": lambda: evaluating([{"prompt": "p", "number": 1}]),
    "evaluation on a torch data set": lambda: evaluating(torch.utils.data.Subset(TorchDataset(), [0, 1])),
    "evaluation on splits": lambda: evaluating(DatasetDict({"a": prompt_dataset(2), "b": prompt_dataset(2)})),
    "evaluation on a stream": lambda: evaluating(streamed(2)),
    "evaluation on streams": lambda: evaluating(IterableDatasetDict({"a": streamed(2)})),
    "best of a named set": lambda: choosing("eval_easy_avg@4", "easy", "hard"),
    "best of a named set for any k": lambda: choosing("easy_avg@k", "easy", "hard"),
    "best reward of a named set": lambda: choosing("eval_easy_rewards/correct/mean", "easy", "hard"),
    "best reward": lambda: choosing("reward"),
    "worst model": lambda: choosing("reward", greater_is_better=False),
    "best length": lambda: choosing("eval_completions/mean_length", greater_is_better=False),
    "best by a metric of one's own": lambda: choosing("my_metric") | {"reward_funcs": logging_reward},
    "best by a metric of one's own and set": lambda: (
        choosing("easy_my_metric", "easy") | {"reward_funcs": logging_reward}
    ),
    "method": lambda: {"reward_funcs": Reward().method},
    "instance": lambda: {"reward_funcs": Reward()},
    "partial": lambda: {"reward_funcs": functools.partial(by_name, 3)},
    "lambda": lambda: {"reward_funcs": lambda completion_ids, **_: correct(completion_ids)},
    "generator": lambda: {"reward_funcs": generating},
    "async function": lambda: {"reward_funcs": later},
    "tuple": lambda: {"reward_funcs": (correct,)},
    "column": lambda: {"reward_funcs": by_number},
    "decorated": lambda: {"reward_funcs": passing_on(lambda completion_ids: correct(completion_ids))},
    "callback as a class": lambda: {"callbacks": [TrainerCallback]},
    "own optimizer": own_optimizer_and_scheduler,
    "optimizer of a part": partly_optimized,
}


def tokenizer_that_begins() -> Any:
    """With a token before every text, as Llama's."""
    from tokenizers.processors import TemplateProcessing

    made = char_tokenizer()
    made.backend_tokenizer.post_processor = TemplateProcessing(single="<unk> $A", special_tokens=[("<unk>", 2)])
    return made


@pytest.mark.parametrize("name", WORKS)
def test_works(name):
    arguments: dict[str, Any] = WORKS[name]()
    trainer = build_and_train(arguments.pop("config", {}), arguments)
    assert trainer.state.global_step == 1
    assert CountingTrainer.num_generated > 0
    if trainer.args.metric_for_best_model:
        assert trainer.state.best_metric is not None


# What is warned of


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("answers in prompts", r"train_dataset: 4 of 4 prompts, the first in row 0, end with an assistant's turn"),
        ("model with fewer rotary positions", r"more than max_position_embeddings=16 of the model, the length it was"),
        (
            "worst model",
            r"greater_is_better=False with metric_for_best_model='reward': the worst model counts as the b",
        ),
        (
            "model that has changed, with KL",
            r"beta=0.1: the reference model, loaded from '.*', differs from the model in 1 of \d+ weights, such as "
            r"model.layers.1.mlp.up_proj.weight: the KL term pulls to that model",
        ),
        ("optimizer of a part", r"lacks \d+ of the \d+ parameters with requires_grad, such as model.layers.0"),
    ],
)
def test_is_warned_of(name, message, caplog):
    arguments = WORKS[name]()
    build(DAPOTrainer, arguments.pop("config", {}), rollout_func=None, **arguments)
    assert re.search(message, caplog.text)


@pytest.mark.parametrize("name", ["model with KL", "model in bfloat16 with KL"])
def test_the_same_reference_is_not_warned_of(name, caplog):
    arguments = WORKS[name]()
    build(DAPOTrainer, arguments.pop("config"), **arguments)
    assert "reference model" not in caplog.text


def test_a_reward_model_of_several_labels_is_warned_of(caplog):
    config = tiny_model().config
    config.num_labels = 2
    reward = {"reward_funcs": Qwen2ForSequenceClassification(config), "reward_processing_classes": char_tokenizer()}
    build(DAPOTrainer, **reward)
    assert (
        "with num_labels=2: the reward is the logit of its first label alone. Load it with num_labels=1" in caplog.text
    )


def test_arguments_that_a_rollout_function_may_add_are_not_missed():
    def with_field(prompts, trainer):
        output = {"prompt_ids": [[5]] * len(prompts), "completion_ids": [[6, EOS]] * len(prompts), "logprobs": None}
        return output | {"answer": list(range(len(prompts)))}

    trainer = build(DAPOTrainer, rollout_func=with_field, reward_funcs=by_answer)
    trainer.train()
    with pytest.raises(TypeError, match="missing a required argument: 'number'.* the other columns of eval_dataset"):
        build(DAPOTrainer, EVALUATED, reward_funcs=by_number, eval_dataset=prompts(["p"]))  # a column, not a field


def by_answer(completion_ids, answer, **kwargs):
    return [float(value % 2) for value in answer]


def test_weights_in_float16_cannot_be_scaled():
    model = tiny_model(dtype=torch.float16)
    check_trainable(model, fp16=False)
    with pytest.raises(ValueError, match="fp16=True needs trained weights in float32.* Load it with dtype 'float32'"):
        check_trainable(model, fp16=True)
    check_trainable(get_peft_model(tiny_model(dtype=torch.float16), lora()), fp16=True)  # adapters are in float32


def test_embeddings_are_counted_under_adapters():
    config = lora(modules_to_save=["embed_tokens"], ensure_weight_tying=True)
    assert num_embeddings(get_peft_model(tiny_model(vocab_size=99), config)) == 99
    assert num_embeddings(get_peft_model(tiny_model(vocab_size=99), lora(target_modules=["embed_tokens"]))) == 99


def test_every_metric_that_is_offered_is_reported():
    with pytest.raises(ValueError, match="Set it to one of") as refusal:
        arguments = choosing("none", "easy", "hard", beta=0.1)
        build(DAPOTrainer, arguments.pop("config"), **arguments, peft_config=lora())
    offered = set(re.findall(r"'(eval_[^']+)'", str(refusal.value).partition("Set it to one of")[2]))
    arguments = choosing("eval_easy_avg@4", "easy", "hard", beta=0.1)
    trainer = build_and_train(arguments.pop("config"), arguments | {"peft_config": lora()})
    reported = {name for record in trainer.state.log_history for name in record}
    assert "eval_hard_rewards/correct/mean" in offered
    assert offered <= reported


def test_texts_and_messages_cannot_be_mixed():
    with pytest.raises(ValueError, match=r"train_dataset\[1\]\['prompt'\] is of another kind than the first one"):
        check_prompt_types("train_dataset", ["p", [USER]])


def test_virtual_tokens_cannot_be_served():
    model = get_peft_model(tiny_model(), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    args = DAPOConfig(use_cpu=True, bf16=False, report_to="none", use_vllm=True, vllm_mode="server")
    with pytest.raises(ValueError, match="PromptTuningConfig, whose virtual tokens vLLM does not know.* LoRA"):
        check_policy(model, char_tokenizer(), None, args)


def test_a_model_by_name_has_an_architecture(tmp_path):
    tiny_model().config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r'its config.json names no architecture.* Add "architectures" to it'):
        build(DAPOTrainer, model=str(tmp_path))
