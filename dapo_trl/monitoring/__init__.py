"""What watches a run: a local file of metrics, alarms, a line per rollout in the terminal, evaluation."""

from .alarms import AlarmCallback, AlarmError, default_alarms, non_finite_step
from .evaluation import EvaluatedGroups
from .metrics_file import METRICS_FILE, MetricsFileCallback, read_metrics
from .phase_callback import PhaseCallback
from .progress import RolloutPrinterCallback, RolloutProgressCallback, show_rollouts
from .records import RolloutRecords
from .run_length import RunLengthCallback
from .weights import NonFiniteWeightsError, WeightsCallback, non_finite_parameters


__all__ = [
    "METRICS_FILE",
    "AlarmCallback",
    "AlarmError",
    "EvaluatedGroups",
    "MetricsFileCallback",
    "NonFiniteWeightsError",
    "PhaseCallback",
    "RolloutPrinterCallback",
    "RolloutProgressCallback",
    "RolloutRecords",
    "RunLengthCallback",
    "WeightsCallback",
    "default_alarms",
    "non_finite_parameters",
    "non_finite_step",
    "read_metrics",
    "show_rollouts",
]
