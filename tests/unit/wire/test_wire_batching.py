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
