"""Image quality metrics on RGB uint8 values. Start at `MetricSuite` in `suite.py`; `info.py` lists what there is."""
