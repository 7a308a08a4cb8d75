"""One thread, or two that walk the same way through a training, each with its share of every step.

Every number is computed by one thread as a whole, by the operations that a thread alone would do and in their order, so
no bit depends on how many there are.  What goes row by row through a batch is shared out by rows; what is summed over
the rows, and the exact arithmetic, by parameters: those before `cut`, and those from it on.  Between the two they meet,
which takes 0.1 us; the numbers that one computes and the other needs take more, 10 ns for every 64 bytes
(`python -m bench.choices meeting`).

A kernel that a team of two walks through begins with `begin`: from then on both are in compiled code, take the same
turns, and leave it at the same place, so that no interrupt finds them apart.

Where other programs hold the cores, two threads are rarely both at work, and wait for each other longer than they save:
two processes that train at once take 1.7 times as long so as with a thread each, and with both cores taken by others a
run took 25 times as long.  So each measures how long it waits, and they part if that is most of the time.
"""

from __future__ import annotations

from .handover import BATON, BEGUN, MET, SPENT, TOLD, WAITED, announce, wait
from .jit import inlined, kernel
from .primitives import ONE, ZERO, cycles
from .structures import Team

ENOUGH = 2**26  # cycles: some 20 ms of an x86; of an arm64, whose clock may tick at 24 MHz, up to some seconds
TILE = 8  # rows of a batch are shared out in multiples of those of a product's tile


@inlined
def alone(progress):
    """A team of one, with one share."""
    return Team(ZERO, ONE, ZERO, progress)


# ---- shares --------------------------------------------------------------------------------------------------


@kernel
def rows_of(team, size):
    """The rows of this thread, low <= i < high, of so many."""
    if team.size == 1:
        return 0, size
    half = min((size // 2 + TILE - 1) // TILE * TILE, size)
    return (half, size) if team.me else (0, half)


@kernel
def parameters_of(team, size):
    """The parameters of this thread, low <= p < high, of so many."""
    if team.size == 1:
        return 0, size
    return (team.cut, size) if team.me else (0, team.cut)


@kernel
def shares_of(team):
    """The first and last of the shares of this thread, the exact arithmetic on which is done one after the other.

    A thread alone has both, so that the words on the tail are in the same order whoever pushed them.
    """
    if team.size == 1:
        return 0 if team.cut else 1, 1
    return team.me, team.me


@kernel
def share(team, which, size):
    """The parameters of a share, low <= p < high."""
    return (team.cut, size) if which else (0, team.cut)


# ---- meetings ------------------------------------------------------------------------------------------------


@kernel
def begin(team):
    """The first meeting.  Returns whether the other came, if there is one: not if it gave up."""
    if team.size == 1:
        return True
    progress, mine = team.progress, MET[team.me]
    waited = progress[mine + WAITED]
    came = meet(team)
    progress[mine + WAITED] = waited  # that one is still in Python, or yet to start, says nothing of the cores
    progress[mine + BEGUN] = cycles() - progress[mine + SPENT]
    return came


@kernel
def meet(team):
    """Wait for the other, if there is one."""
    if team.size == 1:
        return True
    progress, mine, other = team.progress, MET[team.me], MET[1 - team.me]
    count = progress[mine] + 1
    announce(progress, mine, count)
    since = cycles()
    came = wait(progress, other, count)
    progress[mine + WAITED] += cycles() - since
    return came


@kernel
def tell(team, a, b, c):
    """Meet, tell the other three integers, and be told three; zeros by nobody."""
    if team.size == 1:
        return ZERO, ZERO, ZERO
    progress, mine, other = team.progress, MET[team.me], MET[1 - team.me]
    # two sets of places in turn: whoever is ahead writes the next before the other has read these
    at = TOLD + 4 * (progress[mine] % 2)
    progress[mine + at], progress[mine + at + 1], progress[mine + at + 2] = a, b, c
    meet(team)
    return progress[other + at], progress[other + at + 1], progress[other + at + 2]


@kernel
def waits_in_vain(team):
    """Whether this thread has waited for half of its time in this call, and that is enough to be no accident."""
    if team.size == 1:
        return False
    progress, mine = team.progress, MET[team.me]
    spent = cycles() - progress[mine + BEGUN]
    progress[mine + SPENT] = spent
    return spent > ENOUGH and 2 * progress[mine + WAITED] > spent


@kernel
def pass_on(team, value):
    """Hand the first thread a number for which it waits in `receive`; once between two meetings at most."""
    if team.size > 1 and team.me:
        team.progress[BATON + 1] = value
        announce(team.progress, BATON, team.progress[MET[1]] + 1)


@kernel
def receive(team, own):
    """What the second thread passes on, of which this is the first; else one's own."""
    if team.size == 1 or team.me:
        return own
    wait(team.progress, BATON, team.progress[MET[0]] + 1)
    return team.progress[BATON + 1]
