"""Writers that race for one name of an output."""

from __future__ import annotations

import threading
from collections.abc import Callable

from shards.output import OutputTree
from shards.place import Place

__all__ = ["race"]


def race(
    tree: OutputTree,
    final: Place,
    *,
    writers: int,
    turns: int,
    pause: Callable[[], object] = lambda: None,
) -> tuple[set[bytes], list[bytes]]:
    """Let each writer take the place of what it finds, so many times.

    Each version says which one it took the place of.

    Returns:
        The versions whose writers were told that they had won; and those that took the place of
        each other, the last first, down to b"" for no file.
    """
    made: dict[bytes, bytes] = {}
    won: set[bytes] = set()
    errors: list[BaseException] = []

    def work(writer: int) -> None:
        try:
            for turn in range(turns):
                identity = tree.identity(final)
                # May be of a later version already: then the swap fails.
                parent = b"" if identity is None else final.read_bytes().partition(b" ")[0]
                name = b"%d.%d" % (writer, turn)
                made[name] = parent
                pause()
                with tree.stage("race") as staged:
                    staged.file.write(name + b" after " + parent)
                    if identity is None:
                        done = tree.publish(staged, final)
                    else:
                        done = tree.swap(staged, final, identity)
                if done:
                    won.add(name)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    chain = [final.read_bytes().partition(b" ")[0]]
    while chain[-1]:
        chain.append(made[chain[-1]])
    return won, chain
