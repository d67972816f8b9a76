"""Imports libraries, then forks itself for each program that a client asks for.

A program is killed when its client is gone. Called as `server.py FOLDER`, which holds the `bin/python` that
calls the clients; the server ends, and with it its programs and the folder, when its standard input ends.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import random
import runpy
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

LIBRARIES = (
    *("torch", "torch.utils.tensorboard", "torchvision", "torchmetrics", "pytorch_lightning", "timm"),
    *("cv2", "av", "PIL.Image", "scipy.ndimage", "scipy.optimize", "sklearn.cluster", "skimage.segmentation"),
)


class Server:
    """What waits to be told: the listener, and of each program its client and its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = str(folder / "bin" / "python")
        self.path = list(sys.path)
        self.ready = selectors.DefaultSelector()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(folder / "socket"))
        self.listener.listen()

    def serve(self) -> dict[str, Any] | None:
        """Serve until the standard input ends; in a program's process, return what it was told."""
        self.ready.register(self.listener, selectors.EVENT_READ)
        self.ready.register(0, selectors.EVENT_READ)
        while True:
            key, _ = self.ready.select()[0]
            if key.fd == 0:
                data = [one.data for one in self.ready.get_map().values()]
                for program in (one for one in data if isinstance(one, int)):
                    os.kill(program, signal.SIGKILL)
                return None
            if key.fileobj is self.listener:
                told = self.start()
                if told is not None:
                    return told
            elif isinstance(key.fileobj, socket.socket):
                self.forget(key.fileobj, key.data)
            else:
                self.end(key.fd, *key.data)

    def start(self) -> dict[str, Any] | None:
        """Fork for a client; the new process returns what it was told."""
        client, _ = self.listener.accept()
        content, files, _, _ = socket.recv_fds(client, 2**20, 3)
        program = os.fork()
        if program == 0:
            for target, file in enumerate(files):
                os.dup2(file, target)
                os.close(file)
            for key in [key for key in self.ready.get_map().values() if key.fd > 2]:
                os.close(key.fd)
            client.close()
            return json.loads(content)
        for file in files:
            os.close(file)
        client.send(str(program).encode())
        self.ready.register(client, selectors.EVENT_READ, program)
        self.ready.register(os.pidfd_open(program), selectors.EVENT_READ, (program, client))
        return None

    def forget(self, client: socket.socket, program: int) -> None:
        """End a program whose client is gone."""
        self.ready.unregister(client)
        client.close()
        os.kill(program, signal.SIGKILL)  # it was not waited for yet, so the number is its own

    def end(self, handle: int, program: int, client: socket.socket) -> None:
        """Tell a client how its program ended."""
        self.ready.unregister(handle)
        os.close(handle)
        _, status = os.waitpid(program, 0)
        if client.fileno() >= 0:
            self.ready.unregister(client)
            with suppress(BrokenPipeError):
                client.send(str(status).encode())
            client.close()

    def run(self, words: list[str], folder: str, environment: dict[str, str]) -> None:
        """Be `python WORDS` in this process."""
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.stdout.reconfigure(line_buffering=bool(environment.get("PYTHONUNBUFFERED")))
        tempfile.tempdir = None  # what was found out from the server's variables
        random.seed()
        sys.modules["numpy"].random.seed()
        sys.executable, sys.orig_argv = self.python, [self.python, *words]
        kind = words[0] if words[0] in ("-c", "-m") else "file"
        name, *arguments = words[kind != "file" :]
        first = {"-c": "", "-m": folder}.get(kind, os.path.dirname(os.path.realpath(name)))
        given = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
        sys.path[:] = [first, *given, *self.path]
        sys.argv = ["-c" if kind == "-c" else name, *arguments]
        if kind == "-c":
            sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(name, "<string>", "exec"), vars(sys.modules["__main__"]))
        elif kind == "-m":
            runpy.run_module(name, run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(name, run_name="__main__")


def code_of(program: Callable[[], None]) -> int:
    """Return the exit code of a program, negative for Ctrl-C; tell what it raised, as Python does."""
    try:
        program()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException as error:
        traceback.print_exc()
        return -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    return 0


def leave(code: int) -> NoReturn:
    """End this process as Python does, but tear nothing down: with so many modules it takes a second."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def main() -> None:
    folder = Path(sys.argv[1])
    server = Server(folder)
    for name in LIBRARIES:
        importlib.import_module(name)
    print("ready", flush=True)
    gc.freeze()  # the programs share these pages, as long as nobody looks at each object
    told = server.serve()
    if told is None:
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)
    else:
        leave(code_of(lambda: server.run(**told)))


if __name__ == "__main__":
    main()
