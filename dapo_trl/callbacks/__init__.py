"""What watches a run: a local file of metrics, alarms, a line per rollout in the terminal, evaluation."""

from .alarms import AlarmCallback, AlarmError, default_alarms
from .evaluation import EvaluatedGroups
from .metrics_file import METRICS_FILE, MetricsFileCallback, read_metrics
from .phases import PhaseCallback
from .progress import RolloutPrinterCallback, RolloutProgressCallback, show_rollouts
from .records import RolloutRecords


__all__ = [
    "METRICS_FILE",
    "AlarmCallback",
    "AlarmError",
    "EvaluatedGroups",
    "MetricsFileCallback",
    "PhaseCallback",
    "RolloutPrinterCallback",
    "RolloutProgressCallback",
    "RolloutRecords",
    "default_alarms",
    "read_metrics",
    "show_rollouts",
]
