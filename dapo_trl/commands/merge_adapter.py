"""
Write an ordinary model from a LoRA adapter and its base model.

```bash
dapo-trl merge-adapter --adapter outputs/my-run --output outputs/my-run-merged
```
"""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .recipe_parser import StrictParser


if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def merge_adapter(adapter: str, output: str, dtype: str = "auto", base: str | None = None) -> None:
    """
    Merges an adapter into its base model and saves the result, with the tokenizer.

    The sum is computed in float32 and rounded once. An adapter that was trained on a 4-bit or 8-bit model is merged
    into the weights from before their quantization, which are not quite those that it was trained with.
    """
    import torch  # these take seconds, which --help need not wait for
    from peft import AutoPeftModelForCausalLM, PeftConfig
    from transformers import AutoTokenizer
    from transformers.utils.hub import cached_file

    from ..run.checkpoint import METADATA

    try:
        config = PeftConfig.from_pretrained(adapter)
    except ValueError as error:
        raise ValueError(f"--adapter {adapter} holds no adapter: there is no adapter_config.json.") from error
    base = config.base_model_name_or_path = base or config.base_model_name_or_path
    for name, source in {"adapter": adapter, "base model": base}.items():
        if Path(source).exists() and Path(source).resolve() == Path(output).resolve():
            raise ValueError(f"--output {output} is the directory of the {name}. Give another one.")
    base_config = _load_base_config(base)

    model = AutoPeftModelForCausalLM.from_pretrained(adapter, config=config, dtype=torch.float32)
    result_dtype = (base_config.dtype or "float32") if dtype == "auto" else dtype
    merged = model.merge_and_unload(safe_merge=True)
    merged.to(getattr(torch, str(result_dtype).removeprefix("torch."))).save_pretrained(output)
    AutoTokenizer.from_pretrained(adapter).save_pretrained(output)
    metadata = cached_file(adapter, METADATA, _raise_exceptions_for_missing_entries=False)
    if metadata:  # how the model was asked and rewarded
        shutil.copyfile(metadata, Path(output, METADATA))


def _load_base_config(base: str) -> "PreTrainedConfig":
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"The base model {base!r}, which the adapter's configuration names, cannot be loaded. Say with --base "
            "where it is."
        ) from error
    if getattr(config, "quantization_config", None) is not None:
        raise ValueError(
            f"The base model {base!r} is stored quantized, and the sum would be rounded as coarsely. Give the model "
            "that it was made from with --base."
        )
    return config


def main(argv: list[str] | None = None) -> None:
    """Parse and merge."""
    parser = StrictParser(prog="dapo-trl merge-adapter", description=__doc__.strip().splitlines()[0])
    parser.add_argument("--adapter", required=True, help="directory or Hub id of the adapter")
    parser.add_argument("--output", required=True, help="directory for the merged model")
    parser.add_argument("--base", help="base model, if it is not where the adapter's configuration says")
    parser.add_argument(
        "--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"], help="type of the result"
    )
    args = parser.parse(argv)
    merge_adapter(args.adapter, args.output, args.dtype, args.base)
    sys.stdout.write(f"Merged model saved to {args.output}.\n")
