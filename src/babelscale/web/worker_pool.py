"""Answers made in several processes: questions about published figures do not keep each other waiting.

A plan is arithmetic under Python's lock; in one process twenty users would wait for each other whatever the number of
CPUs. The processes end with the server.
"""

import os

from starlette.responses import Response

from babelscale.workers import Worker, WorkerDied, WorkerPool

_MOST_PROCESSES = 4


class AnswerPool(WorkerPool[Worker]):
    """One process for each CPU, see `web.worker`."""

    def __init__(self, processes: int | None = None) -> None:
        self.count = processes or min(_MOST_PROCESSES, os.cpu_count() or 1)
        super().__init__([Worker("-m", "babelscale.web.worker") for _ in range(self.count)])

    def ask(self, path: str, query: dict[str, str]) -> Response:
        """The answer of an endpoint; a process that ended is started again, once.

        Raises:
            WorkerDied: it ended twice.
        """
        question = {"path": path, "query": query}
        with self.lend() as worker:
            try:
                answer = worker.ask(question)
            except WorkerDied:
                answer = worker.ask(question)
        return Response(answer["body"], answer["status"], headers=answer["headers"])
