"""From a move of the slider to the redrawn chart, in headless Chromium: p95 with 50 languages and 200 draws.

    .venv/bin/python benchmarks/page_slider.py [MOVES]      (default 60)

It needs Chromium (on Debian `apt-get install chromium`). Server and browser share the machine's cores, as they do on a
user's. Timed in the page, from the slider's input event to the second animation frame after the charts took their new
rows: by then the first of them is on the screen. Moves come one by one with a pause (a person looking), and without one
(a drag), none of them twice, since the server keeps answers. Beside them: what the server took.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from babelscale.languages import table

LIMIT = 150.0
PORT = 8791
_MOVE = """async (exponent) => {
  const slider = document.querySelector("#compute-slider");
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const start = performance.now();
  const drawn = new Promise((done) => document.addEventListener("drawn", done, {once: true}));
  slider.value = String(exponent);
  slider.dispatchEvent(new Event("input", {bubbles: true}));
  await drawn; await frame(); await frame();
  const asked = performance.getEntriesByType("resource").filter((entry) => entry.name.includes("/view/")).at(-1);
  performance.clearResourceTimings();
  return [performance.now() - start, asked.duration];
}"""


def main(moves: int) -> None:
    command = [str(Path(sys.executable).with_name("babelscale")), "serve", "--port", str(PORT)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until_there(f"http://127.0.0.1:{PORT}/plan")
        drive(moves)
    finally:
        server.terminate()
        server.wait()


def until_there(address: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(address).read()
            return
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"{address} does not answer")


def drive(moves: int) -> None:
    codes = [code for code, language in table().items() if language.unique_tokens][:50]
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("no Chromium on this machine; on Debian: apt-get install chromium")
    found = {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.goto(f"http://127.0.0.1:{PORT}/plan?languages={','.join(codes)}&compute=1e21")
        page.wait_for_selector("figure[data-name=plan-baselines] svg")
        # The first moves compile what later ones find ready.
        for k in range(5):
            page.evaluate(_MOVE, 17.5 + 0.02 * k)
        for name, pause, first in (("one move, then a look", 0.7, 18.0), ("a drag", 0.0, 21.0)):
            each = []
            for k in range(moves):
                each.append(page.evaluate(_MOVE, first + 0.02 * (1 + k)))
                time.sleep(pause)
            milliseconds = np.array(each)
            (median, asked), (high, asked_high) = (np.quantile(milliseconds, q, axis=0) for q in (0.5, 0.95))
            found[name] = {"median": median, "p95": high, "server_median": asked, "server_p95": asked_high}
            print(
                f"{name:<24} median {median:5.0f} ms, p95 {high:5.0f} ms (limit {LIMIT:.0f}); of these the server's "
                f"answer {asked:4.0f} and {asked_high:4.0f} ms; load {os.getloadavg()[0]:.1f}"
            )
        browser.close()
    print(json.dumps({name: {key: round(value, 1) for key, value in row.items()} for name, row in found.items()}))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 60)
