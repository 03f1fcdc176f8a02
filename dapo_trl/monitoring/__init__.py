"""What watches a run: metrics of rollouts, evaluations, alarms, a local file of metrics, a line per rollout."""

from .alarms import AlarmCallback, AlarmError, default_alarms, non_finite_step
from .callbacks import add_callbacks
from .evaluation import EvaluationRecord, accuracy_metrics
from .filter_rewards import FilterRewards
from .finite import FiniteCallback, NonFiniteWeightsError, non_finite_parameters
from .metrics_file import METRICS_FILE, MetricsFileCallback, read_metrics
from .progress import RolloutPrinterCallback, RolloutProgressCallback
from .records import RolloutRecords
from .rollout_monitor import RolloutMonitor
from .run_length import RunLengthCallback


__all__ = [
    "METRICS_FILE",
    "AlarmCallback",
    "AlarmError",
    "EvaluationRecord",
    "FilterRewards",
    "FiniteCallback",
    "MetricsFileCallback",
    "NonFiniteWeightsError",
    "RolloutMonitor",
    "RolloutPrinterCallback",
    "RolloutProgressCallback",
    "RolloutRecords",
    "RunLengthCallback",
    "accuracy_metrics",
    "add_callbacks",
    "default_alarms",
    "non_finite_parameters",
    "non_finite_step",
    "read_metrics",
]
