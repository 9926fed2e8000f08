"""Formats on the command line: what `steprule emit` and `steprule rules` show of them."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

from steprule.cli.main import app

SECTION = re.compile(r"^\s*[;#] (decode \w+|the rule|random bits|encode \w+)$", re.MULTILINE)


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_a_kernel_reads_as_decode_rule_encode() -> None:
    text = _run("emit", "adam", "--states", "8bit", "--target", "numpy")
    found = SECTION.findall(text)
    assert found == ["decode m", "decode v", "the rule", "random bits", "encode m", "encode v"]
    assert "np.sqrt" in text[text.index("# the rule") : text.index("# random bits")]


def test_the_parameter_is_decoded_and_encoded_as_well() -> None:
    text = _run("emit", "lion", "--states", "m=8bit", "--weights", "split24", "--dtype", "bfloat16")
    assert {"decode theta", "decode m", "decode g", "the rule", "encode theta", "encode m"} <= set(
        SECTION.findall(text)
    )
    assert text.splitlines()[1].startswith("; lion on bfloat16 (split24), m in 8bit")


def test_assembly_of_another_machine_has_the_formats_too() -> None:
    text = _run(
        "emit",
        "sgd",
        "--weights",
        "stochastic",
        "--dtype",
        "bfloat16",
        "--target",
        "asm",
        "--triple",
        "aarch64-linux-gnu",
    )
    assert "kernel:" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--states", "3bit"], ["states must be one of float32, bfloat16, 8bit, 4bit", "'3bit'"]),
        (["--states", "u=8bit"], ["which is not a slot", "slots are m, v"]),
        (["--states", "8bit", "--states", "v=8bit"], ["--states is one format, or SLOT=FORMAT"]),
        (["--states", "8bit", "--dtype", "float64"], ["float64", "float32, float16 and bfloat16"]),
        (["--weights", "split24"], ["--weights split24 is for --dtype bfloat16 and float16", "float32"]),
        (["--states", "8bit", "--target", "latex"], ["--states has no effect on a formula"]),
        (["--weights", "split24", "--target", "latex"], ["--weights has no effect on a formula"]),
    ],
)
def test_wrong_formats_are_told(arguments: list[str], words: list[str]) -> None:
    with pytest.raises(Exception, match=re.escape(words[0])) as caught:
        _run("emit", "adam", *arguments)
    for word in words:
        assert word in str(caught.value)


def test_a_rule_without_slots_has_no_states() -> None:
    with pytest.raises(Exception, match="has no effect: the rule keeps no slots"):
        _run("emit", "sgd", "--states", "8bit")


def test_rules_shows_the_bytes_of_every_format() -> None:
    text = " ".join(_run("rules", "adamw").split())
    assert "float32 │ 12 │ 10 │ 10 │ 11 │ 12" in text
    assert "8bit │ 6.02 │ 4.02 │ 4.02 │ 5.02 │ 6.02" in text
    assert "4bit │ 5.02 │ 3.02 │ 3.02 │ 4.02 │ 5.02" in text
    assert "adamw  12 bytes (4.02 in 4 bits)" in _run("rules")
