"""The lowest words of a tail put away, to be kept elsewhere, and brought back.

          put away                    in memory
       | word | word | word |      | word | flag | word | ... | top >
       0                cursor[3]  0                       cursor[1]

Each is one call, which no interrupt divides: where the words are is always as the cursor says.
"""

from __future__ import annotations

from .jit import kernel


@kernel
def put_away(tail, cursor, count):
    """Let go of the `count` lowest words in memory."""
    top = cursor[1] - count
    for i in range(top):
        tail[i] = tail[count + i]
    cursor[1], cursor[3] = top, cursor[3] + count


@kernel
def bring_back(tail, cursor, words):
    """Undo `put_away`: the highest words that were put away, for which there is room."""
    count = words.size
    for i in range(cursor[1] - 1, -1, -1):
        tail[count + i] = tail[i]
    for i in range(count):
        tail[i] = words[i]
    cursor[1], cursor[3] = cursor[1] + count, cursor[3] - count
