"""Run a command on a disk that is full from the k-th write on, for every k, each time in a new process.

    python tests/full_disk.py size|names FOLDER FIRST STEP WORD...

With `size`, no file can grow once the k-th file below FOLDER is opened for writing, as on a full disk. With `names`,
the k-th and all later files opened for writing, new folders and renames fail, as on a disk without free inodes. Prints
a JSON object for each k from FIRST in increments of STEP; the last one is for the command that succeeded.
"""

import errno
import importlib
import json
import os
import resource
import sys
import traceback
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
OPENED = {"open": lambda path, mode, flags: path if flags & WRITING else None}
NAMED = {  # Python audit event -> function that returns the path written to, or None if nothing is written
    **OPENED,
    "os.mkdir": lambda path, *_: None if os.path.isdir(path) else path,
    "os.rename": lambda source, target, *_: target,
}


def full_from(number, how, folder):
    """Simulate a disk that is full from the `number`-th write on; return the list of paths, filled as writes happen."""
    tried = []
    events = {"size": OPENED, "names": NAMED}[how]

    def hook(event, arguments):
        path = events[event](*arguments) if event in events else None
        if not isinstance(path, str | os.PathLike) or not Path(os.path.abspath(path)).is_relative_to(folder):
            return
        tried.append(str(path))
        if len(tried) < number:
            return
        if how == "size":
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        else:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    sys.addaudithook(hook)
    return tried


def one(number, how, folder, call):
    """Call a function in a forked process; return its exit status, its output, and the number of writes."""
    ends = [os.pipe(), os.pipe()]
    child = os.fork()
    if child:
        texts = []
        for read, write in ends:
            os.close(write)
            with os.fdopen(read) as stream:
                texts.append(stream.read())
        _, status = os.waitpid(child, 0)
        return {"status": os.waitstatus_to_exitcode(status), "said": texts[0], "writes": int(texts[1] or -1)}
    status = 99
    try:
        os.dup2(ends[0][1], 1)
        os.dup2(ends[0][1], 2)
        for read, write in (ends[0],):
            os.close(read)
            os.close(write)
        tried = full_from(number, how, folder)
        status = int(call())
        os.write(ends[1][1], str(len(tried)).encode())
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def every(how, folder, call, first=1, step=1):
    """Run a command with a full disk at each of its writes in turn, until no write is left that could fail."""
    number = first
    while True:
        found = one(number, how, folder, call)
        print(json.dumps({"k": number, **found}), flush=True)
        if 0 <= found["writes"] < number:
            return
        number += step


def main(how, folder, first, step, *words):
    import torch

    from yolo_lite.commands import main

    torch.set_num_threads(1)
    for module in ("bench.run", "commands.make", "compare.run", "compare.report.page"):
        importlib.import_module(f"yolo_lite.{module}")  # imported once for all forked processes
    every(how, Path(folder).resolve(), lambda: main(words), int(first), int(step))


if __name__ == "__main__":
    main(*sys.argv[1:])
