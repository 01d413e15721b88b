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


@given(
    length=st.integers(1, 40), batch=st.integers(1, 5), devices=st.integers(1, 4), together=st.integers(1, 4)
)
def test_devices_share_an_epoch_and_steps_follow_the_mean_of_their_items(length, batch, devices, together):
    orders = [EpochOrder(length, 3, batch_size=batch, rank=r, devices=devices) for r in range(devices)]
    items = [list(order) for order in orders]
    assert [len(order) for order in orders] == [len(part) for part in items]
    batches = [[part[i : i + batch] for i in range(0, len(part), batch)] for part in items]
    # Devices that had different numbers of batches would wait for each other forever.
    assert len({len(part) for part in batches}) == 1
    assert set().union(*items) == set(range(length))
    assert sum(map(len, items)) < length + devices
    for start in range(0, len(batches[0]), together):
        window = range(start, min(start + together, len(batches[0])))
        # What an item's gradient is multiplied by: mean of a batch, of devices, of accumulated batches.
        shares = [
            order.weight(k, together) / (len(part[k]) * devices * together)
            for order, part in zip(orders, batches, strict=True)
            for k in window
        ]
        count = sum(len(part[k]) for part in batches for k in window)
        assert all(abs(share * count - 1) < 1e-12 for share in shares)
