"""What errors say."""

from collections.abc import Callable

import pytest

from utils.errors import ProjectError


def sentence(call: Callable[[], object], error: type[ProjectError] = ProjectError) -> str:
    """What a call that must fail says: one sentence."""
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and text.endswith(".")
    return text
