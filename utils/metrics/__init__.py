"""Image quality metrics on RGB uint8 values. Start at `MetricSuite` in `suite.py`; `info.py` lists what there is."""

from utils.metrics.info import METRICS, SIX, MetricInfo
from utils.metrics.suite import MetricSuite, select

__all__ = ["METRICS", "SIX", "MetricInfo", "MetricSuite", "select"]
