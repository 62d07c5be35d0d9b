# SPDX-License-Identifier: Apache-2.0
"""Batches: one at a time, grown by what came meanwhile, and nobody is left without an answer."""

import asyncio
from dataclasses import dataclass

import pytest

from volact.wire.batching import Batcher


@dataclass
class Asked:
    number: int
    future: "asyncio.Future[int]"


def asked(number: int) -> Asked:
    return Asked(number, asyncio.get_running_loop().create_future())


def run(answer, numbers, most=4):
    sizes = []

    async def counted(batch):
        sizes.append(len(batch))
        await answer(batch)

    async def main():
        batcher = Batcher(counted, most)
        all_asked = [asked(number) for number in numbers]
        for one in all_asked:
            batcher.add(one)
        await batcher.finish()
        assert len(batcher) == 0
        return [one.future for one in all_asked]

    return asyncio.run(main()), sizes


async def echo(batch):
    await asyncio.sleep(0)
    for one in batch:
        one.future.set_result(one.number)


def test_all_are_answered_in_batches_of_at_most_so_many():
    futures, sizes = run(echo, range(10))
    assert [future.result() for future in futures] == list(range(10))
    assert sizes == [4, 4, 2]


def test_what_a_batch_raises_is_told_to_those_it_left_open_and_the_next_batch_goes_on():
    async def fail_once(batch):
        if batch[0].number == 0:
            batch[0].future.set_result(0)
            raise OSError("disk full")
        await echo(batch)

    futures, sizes = run(fail_once, range(6))
    assert futures[0].result() == 0
    for future in futures[1:4]:
        with pytest.raises(OSError, match="disk full"):
            future.result()
    assert [future.result() for future in futures[4:]] == [4, 5]
    assert sizes == [4, 2]


def test_what_comes_while_a_batch_is_answered_goes_into_the_next():
    async def main():
        sizes = []

        async def answer(batch):
            sizes.append(len(batch))
            if len(sizes) == 1:
                for number in range(3):
                    batcher.add(asked(number))
            await echo(batch)

        batcher = Batcher(answer, 64)
        batcher.add(asked(9))
        await batcher.finish()
        return sizes

    assert asyncio.run(main()) == [1, 3]


def test_what_has_arrived_in_the_loops_own_queue_meanwhile_goes_into_the_next_batch_too():
    async def main():
        sizes = []
        loop = asyncio.get_running_loop()

        def arrive():
            """As over a server: in one turn the application is called, in the next it has the body."""
            loop.call_soon(lambda: batcher.add(asked(1)))

        async def answer(batch):
            sizes.append(len(batch))
            await echo(batch)
            if len(sizes) == 1:
                batcher.add(asked(0))
                for _ in range(5):
                    loop.call_soon(arrive)

        batcher = Batcher(answer, 64)
        batcher.add(asked(9))
        await batcher.finish()
        return sizes

    assert asyncio.run(main()) == [1, 6]


def test_answers_leave_before_the_next_batch_begins():
    async def main():
        order = []

        async def asks(number):
            one = asked(number)
            batcher.add(one)
            order.append(f"answer {await one.future}")

        async def answer(batch):
            order.append(f"batch of {len(batch)}")
            await echo(batch)

        batcher = Batcher(answer, 2)
        await asyncio.gather(*(asks(number) for number in range(4)))
        return order

    batch = ["batch of 2"]
    assert asyncio.run(main()) == [*batch, "answer 0", "answer 1", *batch, "answer 2", "answer 3"]


def test_a_stream_that_never_pauses_is_answered_when_a_batch_is_full():
    async def main():
        sizes, left, ended = [], 40, asyncio.Event()
        loop = asyncio.get_running_loop()

        def arrive():
            nonlocal left
            left -= 1
            batcher.add(asked(left))
            if left:
                loop.call_soon(arrive)
            else:
                ended.set()

        async def answer(batch):
            sizes.append(len(batch))
            await echo(batch)

        batcher = Batcher(answer, 8)
        arrive()
        await ended.wait()
        await batcher.finish()
        return sizes

    sizes = asyncio.run(main())
    assert sum(sizes) == 40
    assert sizes[0] == 8
