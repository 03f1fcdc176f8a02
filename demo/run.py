"""
`python -m demo.run`, from the repository's root: build a tiny model, warm-start it, train it with DAPO, compare.

Everything is written to `outputs/demo`: the data, the model before and after, the training log and a report.
"""

import argparse
import logging
import time
from pathlib import Path
from statistics import fmean

import torch

from dapo_trl.commands import report
from demo.arithmetic import Sum, split_sums, write_jsonl
from demo.evaluate import gain_interval, score, wilson_interval
from demo.launch import train
from demo.model import build_model, build_tokenizer
from demo.warm_start import warm_start


RECIPE = Path("recipes/Tiny/arithmetic.yaml")


def main() -> None:
    args = parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    torch.set_num_threads(1)  # a model this small gains little from more, and loses much where other work goes on
    started = time.monotonic()
    out = args.output_dir
    out.mkdir(parents=True, exist_ok=True)
    train_sums, held_out = split_sums(args.seed)
    write_jsonl(train_sums, out / "train.jsonl")
    write_jsonl(held_out, out / "held_out.jsonl")

    make_start(out / "warm_start", train_sums, args.seed)
    before = score(out / "warm_start", held_out, args.seed)
    print(f"Before DAPO: {describe(before)}", flush=True)

    options = {
        "model_name_or_path": out / "warm_start",
        "dataset_name": out / "train.jsonl",
        "output_dir": out / "dapo",
        "seed": args.seed,
        "log_completions": True,
        "num_completions_to_print": 1,
    }
    train(args.recipe, options, out / "train.log")
    after = score(out / "dapo", held_out, args.seed)
    report.main([str(out / "dapo"), "--output_dir", str(out / "report"), "--title", "A tiny model learns arithmetic"])
    print_summary(before, after, out, time.monotonic() - started)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo.run", description="A tiny model learns arithmetic by DAPO.")
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/demo"))
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args()


def make_start(model_dir: Path, sums: list[Sum], seed: int) -> None:
    """Builds the tokenizer and the model, warm-starts the model, and saves both."""
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, seed)
    print(f"A {model.config.model_type} model with {model.num_parameters() / 1e6:.2f} M parameters", flush=True)
    warm_start(model, tokenizer, sums, seed)
    model.save_pretrained(model_dir)
    tokenizer.save_pretrained(model_dir)


def describe(right: list[bool]) -> str:
    """Sampled accuracy with its 95% interval."""
    low, high = wilson_interval(sum(right), len(right))
    return (
        f"sampled accuracy {fmean(right):.3f} (95% interval {low:.3f} to {high:.3f}, {len(right)} held-out problems)"
    )


def print_summary(before: list[bool], after: list[bool], out: Path, seconds: float) -> None:
    low, high = gain_interval(before, after)
    print(f"Before DAPO: {describe(before)}")
    print(f"After DAPO:  {describe(after)}")
    print(f"Gain:        {fmean(after) - fmean(before):+.3f} (95% interval {low:+.3f} to {high:+.3f})")
    print(f"Model:       {out / 'dapo'}")
    print(f"Took {seconds:.0f} seconds.")


if __name__ == "__main__":
    main()
