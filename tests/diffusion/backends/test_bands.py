"""Bands of a picture over the pipes to a child process: what it makes by itself."""

import os
import signal
from typing import Any

import numpy as np
import pytest

from diffusion.backends.child_backend import ChildBackend
from diffusion.backends.errors import BackendDiedError
from diffusion.bands import Rows, joined
from diffusion.noise import initial_noise

LATENT = initial_noise(3, (16, 10, 6))
BANDS = [Rows(0, 3), Rows(3, 7)]

Array = np.ndarray[Any, Any]


def together(_: int, parts: list[Array]) -> Array:
    return joined(parts, [band.rows for band in BANDS])


def test_bands_of_a_child_are_its_picture(ours: ChildBackend) -> None:
    found = ours.decode_bands(LATENT, BANDS, together)
    assert found is not None
    assert [part.shape for part in found] == [(24, 48, 3), (56, 48, 3)]
    whole = ours.decode(LATENT)
    assert whole.std() > 5
    assert np.abs(np.concatenate(found).astype(int) - whole).mean() < 0.002


def test_another_ones_moments_reach_the_child(ours: ChildBackend) -> None:
    """It computes one band; those of the other one come from a run before."""
    known: list[Array] = []

    def note(norm: int, parts: list[Array]) -> Array:
        known.append(together(norm, parts))
        return known[-1]

    both = ours.decode_bands(LATENT, BANDS, note)
    assert both is not None
    for band, expected in zip(BANDS, both, strict=True):
        found = ours.decode_bands(LATENT, [band], lambda norm, _: known[norm])
        assert found is not None
        assert np.abs(found[0].astype(int) - expected).mean() < 0.002


def test_it_ends_where_nobody_has_the_others(ours: ChildBackend) -> None:
    def give(norm: int, parts: list[Array]) -> Array | None:
        return together(norm, parts) if norm < 3 else None

    assert ours.decode_bands(LATENT, BANDS, give) is None
    assert ours.decode(LATENT).shape == (80, 48, 3)


def test_what_the_exchange_raises_ends_the_run_and_nothing_else(ours: ChildBackend) -> None:
    def fail(norm: int, parts: list[Array]) -> Array:
        if norm == 2:
            raise LookupError("nobody is there")
        return together(norm, parts)

    pid = ours.pid
    with pytest.raises(LookupError, match="nobody is there"):
        ours.decode_bands(LATENT, BANDS, fail)
    assert ours.decode(LATENT).shape == (80, 48, 3)
    assert ours.pid == pid


def test_what_are_no_moments_is_refused_by_the_child(ours: ChildBackend) -> None:
    with pytest.raises(ValueError, match="no mean and variance"):
        ours.decode_bands(LATENT, BANDS, lambda _, parts: parts[0] * np.float32(np.nan))
    with pytest.raises(ValueError, match="a band of 8 rows"):
        ours.decode_bands(LATENT, [Rows(3, 8)], together)


def test_a_child_that_dies_in_between_is_an_error_of_this_run(ours: ChildBackend) -> None:
    def kill(norm: int, parts: list[Array]) -> Array:
        assert ours.pid is not None
        os.kill(ours.pid, signal.SIGKILL)
        return together(norm, parts)

    with pytest.raises(BackendDiedError):
        ours.decode_bands(LATENT, BANDS, kill)
    assert ours.decode(LATENT).shape == (80, 48, 3)
