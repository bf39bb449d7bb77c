"""How long a wait lasts whose caller does not say, without a server."""

from __future__ import annotations

import itertools
from contextlib import suppress

import pytest

from wan25_mcp.server.patience import Caller, Patience

TASK = "task-1"
FIVE = Caller("a connection", "mcp")


class World:
    """A clock, and callers of one server."""

    def __init__(self, *, longest: float = 50.0, fixed: float | None = None) -> None:
        self.now = 1000.0
        self.patience = Patience(longest=longest, fixed=fixed, clock=lambda: self.now)

    def wait(self, caller: Caller = FIVE, wanted: float | None = None, task: str = TASK) -> float:
        """A wait whose answer goes out; how long it lasted."""
        with self.patience.waiting(caller, task, wanted) as seconds:
            self.now += seconds
        return seconds

    def cut(self, after: float, caller: Caller = FIVE, wanted: float | None = None) -> None:
        """A wait that the client cancels."""
        with suppress(KeyboardInterrupt), self.patience.waiting(caller, TASK, wanted):
            self.now += after
            raise KeyboardInterrupt  # like a cancellation, it is no `Exception`

    def next(self, caller: Caller = FIVE) -> float:
        return self.patience.name_next(caller, TASK)


@pytest.fixture
def world() -> World:
    return World()


def test_waits_of_a_caller_who_names_none_begin_short_and_grow(world: World) -> None:
    assert [world.wait() for _ in range(5)] == [4, 10, 25, 50, 50]


def test_each_task_and_each_connection_begins_anew(world: World) -> None:
    assert [world.wait(), world.wait()] == [4, 10]
    assert world.wait(task="task-2") == 4
    assert world.wait(Caller("another connection", "mcp")) == 4


def test_no_wait_is_longer_than_the_operator_allows() -> None:
    world = World(longest=20)
    assert [world.wait() for _ in range(4)] == [4, 10, 20, 20]
    assert world.wait(wanted=1e9) == 20


def test_what_the_caller_asks_for_wins(world: World) -> None:
    assert [world.wait(wanted=seconds) for seconds in (0, 33, 2)] == [0, 33, 2]
    world.cut(5)
    assert world.wait(wanted=33) == 33


def test_what_the_operator_sets_takes_the_place_of_the_ladder() -> None:
    world = World(fixed=30)
    assert [world.wait() for _ in range(3)] == [30, 30, 30]
    world.cut(5)
    assert world.wait() < 5


def test_an_answer_to_a_long_wait_shows_that_the_caller_is_patient(world: World) -> None:
    assert [world.wait(wanted=33), world.wait()] == [33, 50]


def test_a_patient_caller_begins_with_25_seconds(world: World) -> None:
    patient = Caller("a connection", "claude-code", is_patient=True)
    assert [world.wait(patient) for _ in range(3)] == [25, 50, 50]


# --- what was cut ----------------------------------------------------------------------------


def test_after_a_cancelled_call_waits_stay_below_it_for_good(world: World) -> None:
    assert world.wait() == 4
    world.cut(5)
    assert all(3.5 < world.wait() < 5 for _ in range(10))
    assert all(3.5 < world.next() < 5 for _ in range(20))


def test_a_cut_holds_for_other_tasks_and_for_other_connections_of_that_client(
    world: World,
) -> None:
    world.cut(3)
    assert world.wait(task="task-2") < 3
    assert world.wait(Caller("another connection", "mcp")) < 3
    assert world.wait(Caller("a third connection", "another client")) == 4


def test_a_client_without_a_name_tells_nothing_of_others(world: World) -> None:
    world.cut(3, Caller("a connection"))
    assert world.wait(Caller("a connection")) < 3
    assert world.wait(Caller("another connection")) == 4


def test_a_person_may_stop_a_patient_client_but_not_twice_in_a_row(world: World) -> None:
    here, there = (Caller(place, "claude-code", is_patient=True) for place in "ab")
    world.cut(7, here)
    assert [world.wait(here), world.wait(here)] == [25, 50]
    world.cut(7, here)
    world.cut(7, here)
    assert world.wait(here) < 7
    assert world.wait(there) == 25


def test_a_call_repeated_while_it_is_open_was_given_up(world: World) -> None:
    """As by clients that cancel nothing (SDK 1.x). The late answer proves nothing."""
    assert [world.wait(), world.wait()] == [4, 10]
    with world.patience.waiting(FIVE, TASK, None) as seconds:
        assert seconds == 25
        world.now += 12  # it gave up after 5 s, and its model thought for 7
        with world.patience.waiting(FIVE, TASK, None) as again:
            assert again == 4
            world.now += 4
        world.now += 9
    assert [world.wait(), world.wait()] == [4, 4]


def test_after_a_repetition_waits_go_back_to_the_longest_known_to_have_arrived(
    world: World,
) -> None:
    """A call that gives the number that an answer named shows that this answer arrived."""
    world.wait(wanted=world.next())
    world.wait(wanted=world.next())
    with world.patience.waiting(FIVE, TASK, world.next()) as seconds:
        assert seconds == 25
        world.now += 16
        assert world.wait() == 10


def test_a_parallel_call_is_no_repetition(world: World) -> None:
    with world.patience.waiting(FIVE, TASK, None) as first:
        world.now += 0.1
        with world.patience.waiting(FIVE, TASK, None) as second:
            assert (first, second) == (4, 4)
    assert world.wait() == 10


def test_a_number_that_an_answer_named_is_no_wish_of_the_caller(world: World) -> None:
    """A model repeats it after an error, which does not make its client more patient."""
    world.wait(wanted=world.next())
    named = world.next()
    assert named == 10
    world.cut(5, wanted=named)
    assert world.wait(wanted=named) < 5


def test_a_look_shows_nothing_of_how_long_a_client_waits(world: World) -> None:
    assert [world.wait(wanted=0) for _ in range(5)] == [0] * 5
    assert world.wait() == 4


def test_an_error_is_an_answer_too(world: World) -> None:
    with pytest.raises(ValueError, match="no"), world.patience.waiting(FIVE, TASK, None):
        raise ValueError("no")
    assert world.wait() == 10


# --- what an answer names --------------------------------------------------------------------


def test_answers_name_the_next_rung_and_never_a_number_twice_in_ten(world: World) -> None:
    named = [world.next()]
    for _ in range(25):
        world.wait(wanted=named[-1])
        named.append(world.next())
    assert named[:4] == [4, 10, 25, 50]
    assert all(45 <= number <= 50 for number in named[3:])
    assert all(len(set(named[at : at + 10])) == 10 for at in range(len(named) - 10))


def test_a_client_with_a_process_for_each_call_goes_up_the_ladder_too() -> None:
    waited, wanted = [], None
    for _ in range(7):
        world = World()
        waited.append(world.wait(wanted=wanted))
        wanted = world.next()
    assert waited[:4] == [4, 10, 25, 50]
    assert all(one != another for one, another in itertools.pairwise(waited))


@pytest.mark.parametrize("fixed", [0, 0.05, 0.5, 3600])
def test_any_wait_that_an_operator_sets_can_be_named(fixed: float) -> None:
    world = World(fixed=fixed, longest=3600)
    named = [world.next() for _ in range(30)]
    assert all(0.9 * fixed <= number <= fixed for number in named)


def test_what_was_learnt_by_a_handle_is_kept_for_the_task(world: World) -> None:
    assert [world.wait(), world.wait()] == [4, 10]
    world.patience.rename(FIVE, TASK, "task-2")
    assert world.wait(task="task-2") == 25


def test_only_the_latest_ten_thousand_are_remembered(world: World) -> None:
    world.wait()
    for number in range(10_000):
        world.wait(task=f"other-{number}")
    assert world.wait() == 4
