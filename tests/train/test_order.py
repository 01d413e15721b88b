"""The order of the pictures depends on seed and epoch, and on nothing else."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from flowcut.train.order import EpochOrder


@given(length=st.integers(0, 50), seed=st.integers(0, 2**31), epoch=st.integers(0, 10_000))
def test_every_item_once_and_the_same_after_other_random_numbers(length, seed, epoch):
    order = EpochOrder(length, seed)
    order.set_epoch(epoch)
    first = list(order)
    torch.rand(3)
    fresh = EpochOrder(length, seed)
    fresh.set_epoch(epoch)
    assert sorted(first) == list(range(length)) == list(range(len(order)))
    assert first == list(fresh)


def test_epochs_and_seeds_give_different_orders():
    orders = set()
    for seed in range(5):
        order = EpochOrder(30, seed)
        for epoch in range(5):
            order.set_epoch(epoch)
            orders.add(tuple(order))
    assert len(orders) == 25


def test_draws_of_two_epochs_differ_and_come_back():
    order, plain = EpochOrder(5, seed=3, draws=True), EpochOrder(5, seed=3)
    draws = set()
    for epoch in range(4):
        order.set_epoch(epoch)
        plain.set_epoch(epoch)
        assert [item for _, item in order] == list(plain)
        assert list(order) == list(order)
        draws |= {draw for draw, _ in order}
    assert len(draws) == 4
