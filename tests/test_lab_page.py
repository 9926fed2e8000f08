"""The lab's page in a browser runs beside the suite; see ``conftest.Apart``."""

from __future__ import annotations

import pytest

from tests.conftest import Apart


@pytest.mark.apart("tests/apart_lab_page.py")
def test_the_page_in_a_browser(apart: Apart) -> None:
    apart.check()
