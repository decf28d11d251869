"""Becomes a command that cannot outlive the process that started it.

`flagserver.processes.spawn_bound` runs this file as a script, in an interpreter of its own, in the
command's place. It ties itself to its parent and then *becomes* the command (`exec`): same process
id, same pipes, nothing left in between.

    Linux      the kernel sends SIGKILL when the parent is gone (`prctl(PR_SET_PDEATHSIG)`)
    elsewhere  a watcher beside the command holds a pipe whose other end only the parent has, and
               kills the command's process group when that end closes

Both hold when the parent is killed with SIGKILL. The watcher can be killed itself and the kernel
cannot, so the watcher is used only where the kernel does not offer this.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from contextlib import suppress

PR_SET_PDEATHSIG = 1
CANNOT_START = 127
"""Exit status when the command is not there, as a shell has it."""

MANY_FILES = 65536
"""Above any file descriptor that is handed on; counting to a system's limit can take minutes."""


def main(arguments: list[str]) -> None:
    """Arguments: parent's process id, the pipe's descriptor, `kernel` or `watcher`, command."""
    parent, pipe, means, *command = arguments
    os.set_inheritable(int(pipe), False)
    if means != "kernel" or not die_with_parent():
        leave_watcher(int(pipe))
    # The parent may have died before the tie was made; then nobody would ever end us.
    if os.getppid() != int(parent):
        os._exit(CANNOT_START)
    become(command)


def die_with_parent() -> bool:
    """Ask the kernel for SIGKILL at the parent's death. Returns whether it will."""
    if sys.platform != "linux":
        return False
    try:
        import ctypes  # noqa: PLC0415 - some builds of Python are without it

        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (ImportError, OSError, AttributeError):
        return False
    return bool(prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0) == 0)


def leave_watcher(pipe: int) -> None:
    """Leave a process behind that kills this one's group when `pipe` closes at its other end."""
    own_end, command_end = os.pipe()
    command = os.getpid()
    child = os.fork()
    if child == 0:
        # Forked twice: the watcher must not become a zombie of a command that does not know it.
        if os.fork() == 0:
            watch(pipe, own_end, command)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(own_end)
    os.set_inheritable(command_end, True)


def watch(parents_pipe: int, commands_pipe: int, command: int) -> None:
    """Wait until the parent or the command is gone. Ends this process."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    first, last = sorted((parents_pipe, commands_pipe))
    os.closerange(0, first)
    os.closerange(first + 1, last)
    os.closerange(last + 1, MANY_FILES)
    ends = select.poll()
    ends.register(parents_pipe, 0)
    ends.register(commands_pipe, 0)
    closed = [pipe for pipe, _ in ends.poll()]
    if commands_pipe not in closed:
        with suppress(OSError):
            os.killpg(command, signal.SIGKILL)
    os._exit(0)


def become(command: list[str]) -> None:
    """Run the command in place of this process."""
    # Python ignores these two, and what is ignored stays so through `exec`.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"cannot run {command[0]}: {error.strerror}\n".encode())
        os._exit(CANNOT_START)


if __name__ == "__main__":
    main(sys.argv[1:])
