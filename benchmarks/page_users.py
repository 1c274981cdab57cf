"""Twenty people at the page at once for a minute: no error, p95 of an answer, and the server's memory.

    .venv/bin/python benchmarks/page_users.py [SECONDS [USERS]]      (default 60 and 20)

Each person opens the page and its files, then drags the slider (eight moves, each asked for when the one before is
answered, as the page does), looks at the plan for some seconds, changes a language, opens another page; everyone has
other languages and budgets, so that no answer is another's. Server and people share the machine's cores. Latency is
from the request to the last byte.
"""

import json
import random
import subprocess
import sys
import threading
import time
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
from page_slider import until_there

from babelscale.languages import table

PORT = 8792
LIMIT, GROWTH = 500.0, 1.05
LOOK = (2.0, 5.0)


class Person(threading.Thread):
    """One user with a connection, languages and habits of their own."""

    def __init__(self, number: int, until: float) -> None:
        super().__init__(daemon=True)
        self.random, self.until = random.Random(number), until
        self.connection = HTTPConnection("127.0.0.1", PORT, timeout=60)
        known = sorted(code for code, language in table().items() if language.unique_tokens)
        self.languages = self.random.sample(known, self.random.choice((3, 4, 6, 8, 12)))
        self.known, self.answers, self.errors = known, [], []

    def run(self) -> None:
        time.sleep(self.random.uniform(0, 2))
        self.ask("page", "/plan")
        self.ask("languages", "/api/languages")
        while time.monotonic() < self.until:
            exponent = self.random.uniform(18, 24)
            for move in range(8):
                self.plan(exponent + 0.04 * move, "&baselines=false", "slider")
            self.plan(exponent + 0.28, "", "plan")
            self.look()
            self.languages[self.random.randrange(len(self.languages))] = self.random.choice(self.known)
            self.languages = list(dict.fromkeys(self.languages))
            self.plan(exponent + 0.28, "", "plan")
            self.look()
            self.ask("transfer", "/view/transfer")
            self.look()
            self.ask("adding languages", f"/view/adding-languages?languages=4&to={self.random.randrange(6, 60)}")
            self.look()

    def look(self) -> None:
        time.sleep(min(self.random.uniform(*LOOK), max(0.0, self.until - time.monotonic())))

    def plan(self, exponent: float, more: str, kind: str) -> None:
        self.ask(kind, f"/view/plan?languages={','.join(self.languages)}&compute={10**exponent:.3g}{more}")

    def ask(self, kind: str, address: str) -> None:
        start = time.monotonic()
        try:
            self.connection.request("GET", address, headers={"accept-encoding": "gzip"})
            answer = self.connection.getresponse()
            body = answer.read()
            if answer.status not in (200, 202):
                self.errors.append(f"{answer.status} {address}: {body[:200]!r}")
        except OSError as error:
            self.errors.append(f"{address}: {error}")
            self.connection.close()
        self.answers.append((kind, 1000 * (time.monotonic() - start)))


def memory(pid: int) -> float:
    """Resident memory of a process and its children, MiB."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    kilobytes = [
        int(line.split()[1])
        for each in pids
        for line in Path(f"/proc/{each}/status").read_text().splitlines()
        if line.startswith("VmRSS")
    ]
    return sum(kilobytes) / 1024


def main(seconds: float, users: int) -> None:
    command = [str(Path(sys.executable).with_name("babelscale")), "serve", "--port", str(PORT)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until_there(f"http://127.0.0.1:{PORT}/plan")
        until = time.monotonic() + seconds
        people = [Person(number, until) for number in range(users)]
        for person in people:
            person.start()
        used = []
        while any(person.is_alive() for person in people):
            time.sleep(1.0)
            used.append(memory(server.pid))
    finally:
        server.terminate()
        server.wait()
    told(people, used, seconds)


def told(people: list[Person], used: list[float], seconds: float) -> None:
    answers = [answer for person in people for answer in person.answers]
    errors = [error for person in people for error in person.errors]
    took = np.array([each for _, each in answers])
    high = float(np.quantile(took, 0.95))
    print(
        f"{len(people)} people, {seconds:.0f} s: {len(took)} answers, {len(took) / seconds:.1f} a second, "
        f"{len(errors)} errors"
    )
    print(
        f"all      median {np.median(took):5.0f} ms, p95 {high:5.0f} ms (limit {LIMIT:.0f}), worst {took.max():.0f} ms"
    )
    for kind in dict.fromkeys(name for name, _ in answers):
        own = np.array([each for name, each in answers if name == kind])
        print(f"{kind:<9}median {np.median(own):5.0f} ms, p95 {np.quantile(own, 0.95):5.0f} ms   ({len(own)})")
    # The second third against the last: the first warms caches.
    third = len(used) // 3
    middle, last = (float(np.median(part)) for part in (used[third : 2 * third], used[2 * third :]))
    print(
        f"memory   {used[0]:.0f} MiB at first, {middle:.0f} in the second third, {last:.0f} in the last "
        f"({last / middle:.3f} times, limit {GROWTH})"
    )
    for error in errors[:5]:
        print(f"  {error}")
    print(json.dumps({"answers": len(took), "errors": len(errors), "p95": round(high, 1), "growth": last / middle}))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 60.0, int(sys.argv[2]) if len(sys.argv) > 2 else 20)
