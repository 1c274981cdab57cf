"""Answers from several processes, so that questions about published figures do not wait for each other.

A plan is arithmetic under Python's global lock, so the users of one process would wait for each other on any number of
CPUs. The processes end with the server.
"""

import os

from starlette.responses import Response

from babelscale.workers import Worker, WorkerDied, WorkerPool

_MAX_PROCESSES = 4


class AnswerPool(WorkerPool[Worker]):
    """One process of `web.worker` for each CPU."""

    def __init__(self, processes: int | None = None) -> None:
        self.count = processes or min(_MAX_PROCESSES, os.cpu_count() or 1)
        super().__init__([Worker("-m", "babelscale.web.worker") for _ in range(self.count)])

    def ask(self, path: str, query: dict[str, str]) -> Response:
        """The answer of an endpoint; if the process has ended, it is started again once.

        Raises:
            WorkerDied: the process ended twice.
        """
        question = {"path": path, "query": query}
        with self.lend() as worker:
            try:
                answer = worker.ask(question)
            except WorkerDied:
                answer = worker.ask(question)
        return Response(answer["body"], answer["status"], headers=answer["headers"])
