"""A process of `worker_pool`, which answers questions `{"path": ..., "query": {...}}` about published figures."""

from typing import Any

from babelscale import workers
from babelscale.web.app_state import AppState
from babelscale.web.pages import ENDPOINTS


def main() -> None:
    state = AppState()
    by_path = {endpoint.path: endpoint for endpoint in ENDPOINTS}

    def answer(question: dict[str, Any]) -> dict[str, Any]:
        response = by_path[question["path"]].respond(state, question["query"])
        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        return {"status": response.status_code, "headers": headers, "body": bytes(response.body).decode()}

    workers.serve(answer)


if __name__ == "__main__":
    main()
