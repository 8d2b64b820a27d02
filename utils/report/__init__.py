"""report.html: one file with everything in it, for a reader who was not there."""

from utils.report.page import write_report

__all__ = ["write_report"]
