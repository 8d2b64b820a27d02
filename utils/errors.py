"""Errors that a user can act on: entry points print their one sentence and exit with status 1, no other is caught."""


class ProjectError(Exception):
    """Base class: the message is one sentence that says what is wrong, where, and what to do."""


class ConfigError(ProjectError, ValueError):
    """A configuration field, preset or command-line value is unknown or out of range."""


class DataError(ProjectError):
    """A data set, image or archive is missing, damaged or not what its name promises."""


class OutputError(ProjectError):
    """A file cannot be written: the disk is full, a quota or limit is reached, or the place refuses."""


class CheckpointError(ProjectError):
    """A checkpoint is missing, damaged, or not made by a compatible version."""


class BitstreamError(ProjectError):
    """A compressed file is truncated, altered, foreign, or belongs to another model."""


class WeightsError(ProjectError):
    """Pretrained weights that a loss or a metric needs cannot be had; the message gives the remedy."""
