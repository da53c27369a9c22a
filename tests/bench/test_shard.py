"""Which cases belong to which shard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.shard import Shard


def test_every_third_case_of_the_sorted_list_is_the_shards() -> None:
    names = ["e", "a", "d", "b", "c", "f", "g"]
    assert [Shard(number, 3).names(names) for number in (1, 2, 3)] == [["a", "d", "g"], ["b", "e"], ["c", "f"]]


@given(st.sets(st.text()), st.integers(1, 50))
def test_every_case_is_in_one_shard_and_their_sizes_differ_by_one(names: set[str], count: int) -> None:
    shards = [Shard(number, count).names(sorted(names, reverse=True)) for number in range(1, count + 1)]
    assert sorted(name for own in shards for name in own) == sorted(names)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_a_shard_is_read_as_it_is_written() -> None:
    assert Shard.of(str(Shard(3, 8))) == Shard(3, 8)


@pytest.mark.parametrize("text", ["0/8", "9/8", "3", "3/", "/8", "3/8/1", "-1/8", "a/b", "1/0", ""])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a shard"):
        Shard.of(text)
