"""What a run is to run on: GPUs, and how the model is spread over them."""

from dataclasses import dataclass

from accelerate.commands.config.config_args import load_config_from_file


GIB = 2**30


@dataclass(frozen=True)
class Hardware:
    """
    GPUs of one kind, for the trainer and a server alike.

    Args:
        num_gpus (`int`): GPUs of the trainer, one process each.
        gpu_memory (`float`): memory of a GPU in GiB.
        peak (`float`): what it computes at best in bfloat16 without sparsity, in TFLOP/s.
        bandwidth (`float`): what its memory delivers at best, in GB/s.
        utilization (`float`): share of the peak that training and scoring reach (MFU).
        bandwidth_utilization (`float`): share of the bandwidth that generation reaches.
    """

    num_gpus: int
    gpu_memory: float
    peak: float = 312.0
    bandwidth: float = 2039.0
    utilization: float = 0.35
    bandwidth_utilization: float = 0.6

    def seconds_to_compute(self, flops: float, num_gpus: int) -> float:
        """Time that so many GPUs take for so many floating-point operations."""
        return flops / (num_gpus * self.peak * 1e12 * self.utilization)

    def seconds_to_read(self, num_bytes: float, num_gpus: int) -> float:
        """Time that so many GPUs take to read so many bytes of their memory."""
        return num_bytes / (num_gpus * self.bandwidth * 1e9 * self.bandwidth_utilization)


@dataclass(frozen=True)
class Sharding:
    """
    How the model is spread over the trainer's GPUs.

    Args:
        kind (`str`): `"none"` (one GPU), `"ddp"`, `"zero"` (DeepSpeed) or `"fsdp"`.
        stage (`int`): of ZeRO; 0 otherwise.
        offloads_optimizer (`bool`): its states are in CPU memory.
        offloads_weights (`bool`): the weights are, too.
    """

    kind: str
    stage: int = 0
    offloads_optimizer: bool = False
    offloads_weights: bool = False

    def __str__(self) -> str:
        name = {"none": "one process", "ddp": "DDP", "zero": f"ZeRO-{self.stage}", "fsdp": "FSDP"}[self.kind]
        return f"{name} with offload" if self.offloads_optimizer or self.offloads_weights else name


def read_sharding(accelerate_config: str | None, num_gpus: int) -> Sharding:
    """
    What a configuration of accelerate says.

    Args:
        accelerate_config (`str`, *optional*): its path. None: DDP on several GPUs.
        num_gpus (`int`): the trainer's.
    """
    if accelerate_config is None:
        return Sharding("none" if num_gpus == 1 else "ddp")
    config = load_config_from_file(accelerate_config)
    kind = str(getattr(config.distributed_type, "value", config.distributed_type))
    if kind == "DEEPSPEED":
        options = config.deepspeed_config
        if "deepspeed_config_file" in options:
            raise ValueError(
                f"{accelerate_config} refers to a DeepSpeed file, which this command does not read. Set "
                "--accelerate-config to one that names its zero_stage, such as "
                "recipes/accelerate_configs/zero3.yaml."
            )
        return Sharding(
            "zero",
            stage=options["zero_stage"],
            offloads_optimizer=options.get("offload_optimizer_device", "none") != "none",
            offloads_weights=options.get("offload_param_device", "none") != "none",
        )
    if kind == "FSDP":
        return Sharding("fsdp")
    return Sharding("none" if num_gpus == 1 else "ddp")
