"""What watches a run: metrics of rollouts, evaluations, alarms, a local file of metrics, a line per rollout."""

from .logs import METRICS_FILE, read_metrics


__all__ = ["METRICS_FILE", "read_metrics"]
