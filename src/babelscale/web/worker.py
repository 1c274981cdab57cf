"""The process behind `apart`: questions a line in, answers out, until the input ends."""

import json
import sys
from typing import IO

from babelscale.web.pages import ENDPOINTS
from babelscale.web.served import Served


def answer_all(asked: IO[bytes], answers: IO[bytes]) -> None:
    """Answer questions `{"path": ..., "query": {...}}` about published figures."""
    served = Served()
    by_path = {endpoint.path: endpoint for endpoint in ENDPOINTS}
    for line in asked:
        question = json.loads(line)
        response = by_path[question["path"]].respond(served, question["query"])
        body = bytes(response.body)
        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        head = {"status": response.status_code, "headers": headers, "length": len(body)}
        answers.write(json.dumps(head).encode() + b"\n" + body)
        answers.flush()


if __name__ == "__main__":
    answer_all(sys.stdin.buffer, sys.stdout.buffer)
