"""Answers made in processes of their own: what rests on published figures alone keeps no other answer waiting.

A plan is arithmetic under Python's lock; in one process twenty people would stand in one line whatever the number of
CPUs. A worker reads a question a line on its standard input and writes its answer behind a line with status, headers
and length. It ends with its input, that is with the server.
"""

import json
import os
import queue
import subprocess
import sys
from typing import IO

from starlette.responses import Response

_MOST = 4


class Worker:
    """One process that answers, started when it is first asked."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, path: str, query: dict[str, str]) -> Response:
        """The answer of an endpoint.

        Raises:
            ChildProcessError: the process ended before it had answered.
        """
        process = self.start()
        try:
            self._input(process).write(json.dumps({"path": path, "query": query}).encode() + b"\n")
            self._input(process).flush()
            output = self._output(process)
            head = json.loads(output.readline())
            body = output.read(head["length"])
            if len(body) < head["length"]:
                raise EOFError("half an answer")
        except (OSError, ValueError, EOFError) as error:
            self.close()
            raise ChildProcessError(f"the process that answers {path} ended") from error
        return Response(body, head["status"], headers=head["headers"])

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def start(self) -> subprocess.Popen[bytes]:
        """The process, started where there is none."""
        if self._process is None or self._process.poll() is not None:
            # One thread each, since there are as many as CPUs; in a session of their own, Ctrl-C is the server's.
            environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            self._process = subprocess.Popen(
                [sys.executable, "-m", "babelscale.web.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        return self._process

    def _input(self, process: subprocess.Popen[bytes]) -> IO[bytes]:
        assert process.stdin is not None
        return process.stdin

    def _output(self, process: subprocess.Popen[bytes]) -> IO[bytes]:
        assert process.stdout is not None
        return process.stdout


class Apart:
    """A worker a CPU; the one that was used last is asked first."""

    def __init__(self, workers: int | None = None) -> None:
        self.count = workers or min(_MOST, os.cpu_count() or 1)
        self._all = [Worker() for _ in range(self.count)]
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        for worker in self._all:
            self._idle.put(worker)

    def start(self) -> None:
        """Start every process, so that the first question finds it ready."""
        for worker in self._all:
            worker.start()

    def ask(self, path: str, query: dict[str, str]) -> Response:
        """The answer of an endpoint; a process that ended is started anew, once.

        Raises:
            ChildProcessError: it ended twice.
        """
        worker = self._idle.get()
        try:
            try:
                return worker.ask(path, query)
            except ChildProcessError:
                return worker.ask(path, query)
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        for worker in self._all:
            worker.close()
