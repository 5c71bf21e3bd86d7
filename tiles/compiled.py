"""Loops compiled by numba, kept on disk where there is a place for them."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def njit(**options: Any) -> Callable[[Function], Function]:
    """`numba.njit` whose code is kept beside the source or in the user's cache folder, else in memory alone.

    An installation that may not be written to, under an account without a home, has neither: each process then
    compiles anew what it needs, which takes some seconds.
    """

    def compiled(function: Function) -> Function:
        try:
            return cast("Function", numba.njit(cache=True, **options)(function))
        except RuntimeError:  # numba: "cannot cache function: no locator available"
            return cast("Function", numba.njit(**options)(function))

    return compiled
