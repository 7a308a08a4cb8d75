"""Why a walk through a training ended, whatever the rule by which its steps are made."""

FINE = 0
NOT_FINITE = 1  # making: the gradient holds a NaN or an infinity
OFF_GRID = 2  # making: the step would leave the grid
TAIL_FULL = 3  # making: the tail needs room for another step
TAIL_EMPTY = 4  # undoing: a word was missing, so the state is not what was left
GIVEN_UP = 5  # nobody reads the record any more, or the other thread of a team did not come
SQUARES_OFF_GRID = 7  # making: so would a second moment
NOT_REPRODUCED = 6  # undoing: the gradient is not the one that the step was made with; nothing has changed
REFUSED = 8  # making: the step that was just made left its grid, and is to be taken back
CROWDED = 9  # making: two threads are too many here, and one is to go on
TAIL_LOW = 10  # undoing: words that a step may need are not in memory; nothing has changed
