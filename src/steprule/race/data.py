"""The images: scikit-learn's digits, and MNIST through OpenML."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from steprule.errors import ProblemError
from steprule.race.classifier import Split, held_out, split

__all__ = ["digits", "mnist"]

_MNIST_TRAIN = 60_000


def digits() -> Split:
    """Return 1,797 digits of 8 x 8 pixels in [0, 1], float32, 64 % of them for training."""
    from sklearn.datasets import load_digits

    table = load_digits()
    return split((table.data / 16).astype(np.float32), table.target.astype(np.int64))


def mnist() -> Split:
    """Return MNIST's 70,000 digits of 28 x 28 pixels in [0, 1], float32; the last 10,000 are for the test.

    Downloaded once through scikit-learn to its data folder (``sklearn.datasets.get_data_home()``).

    Raises:
        ProblemError: without a network, when it is not there yet.
    """
    pixels, classes = _mnist_arrays()
    x = pixels.astype(np.float32) / np.float32(255)
    cut = min(_MNIST_TRAIN, len(x) * 6 // 7)
    return Split(*held_out(x[:cut], classes[:cut], 1 / 6), x[cut:], classes[cut:])


def _mnist_arrays() -> tuple[Any, Any]:
    """Return pixels (uint8) and classes (int64), from our copy or through OpenML."""
    from sklearn.datasets import get_data_home

    # scikit-learn keeps the download, but reading its text takes a minute each time.
    copy = Path(get_data_home()) / "steprule-mnist.npz"
    if copy.is_file():
        with np.load(copy, allow_pickle=False) as arrays:
            return arrays["pixels"], arrays["classes"]
    pixels, classes = _download()
    aside = copy.with_name(f"{copy.stem}-{os.getpid()}.npz")
    np.savez_compressed(aside, pixels=pixels, classes=classes)
    aside.replace(copy)
    return pixels, classes


def _download() -> tuple[Any, Any]:
    from sklearn.datasets import fetch_openml

    try:
        with warnings.catch_warnings():
            # It announces each retry; the message below says all of it once.
            warnings.simplefilter("ignore", UserWarning)
            table = fetch_openml("mnist_784", version=1, as_frame=False, parser="liac-arff")
    except (OSError, ValueError) as error:
        # URLError, timeouts and refused connections are OSErrors; what the server refuses or garbles, ValueErrors.
        raise ProblemError(
            f"MNIST could not be downloaded from openml.org ({error}). Run it once where there is a network, "
            "or race digits-mlp or digits-logistic, which ship with scikit-learn"
        ) from None
    return np.asarray(table.data).astype(np.uint8), np.asarray(table.target).astype(np.int64)
