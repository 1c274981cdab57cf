"""A process of `worker_pool`: it answers questions `{"path": ..., "query": {...}}` about published figures."""

from typing import Any

from babelscale import workers
from babelscale.web.pages import ENDPOINTS
from babelscale.web.served import Served


def main() -> None:
    served = Served()
    by_path = {endpoint.path: endpoint for endpoint in ENDPOINTS}

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        response = by_path[question["path"]].respond(served, question["query"])
        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        return {"status": response.status_code, "headers": headers, "body": bytes(response.body).decode()}

    workers.serve(answer)


if __name__ == "__main__":
    main()
