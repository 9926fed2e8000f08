"""What takes long and needs one core runs beside the suite, on the other; see ``conftest.Apart``."""

from __future__ import annotations

import pytest

from tests.conftest import Apart


@pytest.mark.apart("tests/apart_lab_page.py")
def test_the_page_in_a_browser(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/apart_lab_layout.py", "tests/apart_race_page.py")
def test_how_the_page_looks(apart: Apart) -> None:
    apart.check()


@pytest.mark.slow
@pytest.mark.apart("tests/apart_lab_layout.py", "-m", "slow")
def test_how_the_page_looks_at_more_widths(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/apart_film.py")
def test_films(apart: Apart) -> None:
    apart.check()


@pytest.mark.slow
@pytest.mark.apart("tests/apart_film.py", "-m", "slow")
def test_films_of_every_two_stories(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/apart_c.py", "tests/apart_javascript.py")
def test_emitted_code_elsewhere(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/apart_random_rules.py")
def test_rules_at_random_elsewhere(apart: Apart) -> None:
    apart.check()


@pytest.mark.slow
@pytest.mark.apart("tests/apart_random_rules.py", "-m", "slow")
def test_many_rules_at_random_elsewhere(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/apart_checkpoint_fuzz.py")
def test_damaged_files(apart: Apart) -> None:
    apart.check()


@pytest.mark.slow
@pytest.mark.apart("tests/apart_checkpoint_fuzz.py", "-m", "slow")
def test_damaged_files_at_length(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/apart_race_cli.py", "tests/apart_race_animate.py")
def test_the_race_from_the_command_line(apart: Apart) -> None:
    apart.check()


@pytest.mark.slow
@pytest.mark.apart("tests/apart_launches.py")
def test_a_million_launches(apart: Apart) -> None:
    apart.check()


@pytest.mark.apart("tests/apart_remedies.py")
def test_what_messages_say_to_do_with_tensors_and_arrays_of_jax(apart: Apart) -> None:
    apart.check()
