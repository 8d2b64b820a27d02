"""A task for the tests of batches; its processes start in a moment, since it needs no torch."""

import os
from dataclasses import dataclass
from pathlib import Path

from utils.coding.batch import Job, Task
from utils.errors import DataError
from utils.files import write_whole


@dataclass
class Copy(Task):
    """Copies a file; what the file says may kill the process or be refused."""

    settings: Path

    def start(self) -> None:
        """Nothing to keep."""

    def whole(self, job: Job) -> bool:
        """Equal content."""
        return job.target.read_bytes() == job.source.read_bytes()

    def make(self, job: Job) -> tuple[str, ...]:
        """See the class."""
        data = job.source.read_bytes()
        if data == b"die":
            os._exit(9)
        if data == b"bad":
            raise DataError(f"{job.source} is bad.")
        if data == b"bug":
            raise RuntimeError("out of memory")
        write_whole(job.target, data)
        return ()
