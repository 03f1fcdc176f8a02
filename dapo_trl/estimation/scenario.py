"""What is estimated: a recipe on given GPUs, and what is assumed. Imports no torch, so that `--help` is quick."""

from dataclasses import dataclass, fields

from ..fields import option


GIB = 2**30


@dataclass(frozen=True)
class Sharding:
    """How the model is spread over the trainer's GPUs."""

    kind: str  # "none" (one GPU), "ddp", "zero" (DeepSpeed) or "fsdp"
    stage: int = 0  # of ZeRO
    offloads_optimizer: bool = False  # to CPU memory
    offloads_weights: bool = False

    @property
    def spreads_weights(self) -> bool:
        """Whether a GPU holds only a part of the weights."""
        return self.stage >= 3 or self.kind == "fsdp"

    def __str__(self) -> str:
        name = {"none": "one process", "ddp": "DDP", "zero": f"ZeRO-{self.stage}", "fsdp": "FSDP"}[self.kind]
        return f"{name} with offload" if self.offloads_optimizer or self.offloads_weights else name


@dataclass(frozen=True)
class Scenario:
    """A recipe, its hardware and the assumptions. The defaults of the hardware are an A100's."""

    recipe: tuple[str, ...]  # arguments of the training command, such as ("--config", "recipe.yaml")
    sharding: Sharding | None = None  # None: not known; DDP on several GPUs is assumed
    gpus: int = option(1, "GPUs of the trainer only, without those of a vLLM server")
    gpu_memory: float = option(80.0, "memory of each GPU in GiB")
    acceptance: float = option(0.5, "share of groups that are informative", is_share=True)
    prompt_length: int = option(200, "tokens of a usual prompt")
    completion_length: int | None = option(None, "tokens of a usual completion; default: a quarter of the longest")
    peak: float = option(
        312.0, "what a GPU computes at best in bfloat16 without sparsity, in TFLOP/s (an A100's if not given)"
    )
    mfu: float = option(0.35, "share of it that training and scoring reach", is_share=True)
    bandwidth: float = option(2039.0, "of a GPU's memory, in GB/s (an A100's if not given)")
    bandwidth_utilization: float = option(0.6, "share of it that generation reaches", is_share=True)

    def __post_init__(self):
        for field in options():
            value, is_share = getattr(self, field.name), field.metadata.get("is_share", False)
            if value is not None and (value <= 0 or (is_share and value > 1)):
                rule = "is a share: it must be above 0 and at most 1" if is_share else "must be above 0"
                raise ValueError(f"--{field.name.replace('_', '-')} {rule}, but is {value}.")


def options() -> list:
    """The fields of a scenario that are options of the command, each a number."""
    return [field for field in fields(Scenario) if field.metadata]


def read_sharding(accelerate_config: str, num_gpus: int) -> Sharding:
    """How a configuration file of accelerate spreads the model over R = `num_gpus` processes."""
    from accelerate.commands.config.config_args import load_config_from_file  # loads torch

    config = load_config_from_file(accelerate_config)
    kind = str(getattr(config.distributed_type, "value", config.distributed_type))
    if kind == "FSDP":
        return Sharding("fsdp")
    if kind != "DEEPSPEED":
        return Sharding("none" if num_gpus == 1 else "ddp")
    settings = config.deepspeed_config
    if "deepspeed_config_file" in settings:
        raise ValueError(
            f"{accelerate_config} refers to a DeepSpeed file, which this command does not read. Set "
            "--accelerate-config to one that names its zero_stage, such as recipes/accelerate_configs/zero3.yaml."
        )
    return Sharding(
        "zero",
        stage=settings["zero_stage"],
        offloads_optimizer=settings.get("offload_optimizer_device", "none") != "none",
        offloads_weights=settings.get("offload_param_device", "none") != "none",
    )
