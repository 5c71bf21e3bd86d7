"""Clients take turns, and nobody's turn is lost."""

import asyncio
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.edge.turns import Turns
from geounet.service.errors import BusyError


def test_one_who_asks_for_much_keeps_nobody_out() -> None:
    served: list[str] = []

    async def ask(turns: Turns, client: str) -> None:
        async with turns.turn(client):
            served.append(client)
            await asyncio.sleep(0.001)

    async def run() -> None:
        turns = Turns(2, 100, 30)
        greedy = [asyncio.create_task(ask(turns, "greedy")) for _ in range(50)]
        await asyncio.sleep(0)
        modest = [asyncio.create_task(ask(turns, name)) for name in ("a", "b", "c")]
        await asyncio.gather(*greedy, *modest)

    asyncio.run(run())
    assert Counter(served) == {"greedy": 50, "a": 1, "b": 1, "c": 1}
    assert max(served.index(name) for name in ("a", "b", "c")) < 10  # and not behind the fifty


def test_a_line_that_is_too_long_or_does_not_move_is_told() -> None:
    async def run() -> None:
        turns = Turns(1, 2, 0.05)
        async with turns.turn("x"):
            waiting = [asyncio.create_task(turns._wait("x")) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(BusyError, match="too much at once"):
                await turns._wait("x")
            for one in waiting:
                with pytest.raises(BusyError, match="try again"):
                    await one
        async with turns.turn("y"):
            pass

    asyncio.run(run())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=30), st.integers(1, 3))
def test_no_turn_is_lost_whoever_gives_up(asked: list[tuple[str, bool]], at_once: int) -> None:
    inside, most = 0, 0

    async def ask(turns: Turns, client: str) -> None:
        nonlocal inside, most
        async with turns.turn(client):
            inside += 1
            most = max(most, inside)
            try:
                await asyncio.sleep(0)
            finally:
                inside -= 1

    async def run() -> None:
        turns = Turns(at_once, 100, 30)
        tasks = [(asyncio.create_task(ask(turns, client)), gives_up) for client, gives_up in asked]
        await asyncio.sleep(0)
        for task, gives_up in tasks:
            if gives_up:
                task.cancel()
        await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
        assert turns._free == at_once
        assert not turns._lines

    asyncio.run(asyncio.wait_for(run(), 20))
    assert most <= at_once
