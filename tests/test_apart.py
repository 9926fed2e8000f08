"""What takes long and needs one core runs beside the suite, on the other; see ``conftest.Apart``."""

from __future__ import annotations

import pytest

from tests.conftest import Apart


@pytest.mark.apart("tests/lab/apart_page.py")
def test_the_page_in_a_browser(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/lab/apart_layout.py", "tests/race/apart_page.py")
def test_how_the_page_looks(apart: Apart) -> None:
    apart.check()


@pytest.mark.slow
@pytest.mark.apart("tests/lab/apart_layout.py", "-m", "slow")
def test_how_the_page_looks_at_more_widths(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/lab/apart_film.py")
def test_films(apart: Apart) -> None:
    apart.check()


@pytest.mark.slow
@pytest.mark.apart("tests/lab/apart_film.py", "-m", "slow")
def test_films_of_every_two_stories(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/backends/apart_c.py", "tests/backends/apart_javascript.py")
def test_emitted_code_elsewhere(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/backends/apart_random_rules.py")
def test_rules_at_random_elsewhere(apart: Apart) -> None:
    apart.check()


@pytest.mark.slow
@pytest.mark.apart("tests/backends/apart_random_rules.py", "-m", "slow")
def test_many_rules_at_random_elsewhere(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/checkpoint/apart_fuzz.py")
def test_damaged_files(apart: Apart) -> None:
    apart.check()


@pytest.mark.slow
@pytest.mark.apart("tests/checkpoint/apart_fuzz.py", "-m", "slow")
def test_damaged_files_at_length(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/race/apart_cli.py", "tests/race/apart_animate.py")
def test_the_race_from_the_command_line(apart: Apart) -> None:
    apart.check()


@pytest.mark.slow
@pytest.mark.apart("tests/runtime/apart_launches.py")
def test_a_million_launches(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/doors/numpy/apart_remedies.py")
def test_what_messages_say_to_do_with_tensors_and_arrays_of_jax(apart: Apart) -> None:
    apart.check()
