// Sends one question at a time. While an answer is awaited, only the newest question is kept.
"use strict";

const AGAIN = 700; // milliseconds between two requests for an answer that is not ready

export class Asker {
  #busy = false;
  #next = null;
  #timer = 0;

  /** `shown(answer, question)`, `refused({error, hint})` and `working({what, done, total})` receive the answers. */
  constructor(address, { shown, refused, working }) {
    this.address = address;
    this.shown = shown;
    this.refused = refused;
    this.working = working;
  }

  ask(question) {
    clearTimeout(this.#timer);
    this.#next = question;
    if (!this.#busy) this.#run();
  }

  async #run() {
    this.#busy = true;
    while (this.#next !== null) {
      const question = this.#next;
      this.#next = null;
      const { status, answer } = await fetched(`${this.address}?${question}`);
      // If a newer question waits, a refusal of this one is ignored, but a good answer is still drawn.
      if (status === 202) {
        this.working(answer.working);
        if (this.#next === null) this.#timer = setTimeout(() => this.ask(question), AGAIN);
      } else if (status === 200) {
        await this.shown(answer, question);
      } else if (this.#next === null) {
        this.refused(answer);
      }
    }
    this.#busy = false;
  }
}

/** Status and JSON of an address. If the server does not answer, the result is a refusal with status 0. */
export async function fetched(address, options = {}) {
  try {
    const response = await fetch(address, { headers: { accept: "application/json" }, ...options });
    return { status: response.status, answer: await response.json() };
  } catch (error) {
    return { status: 0, answer: { error: "the server does not answer", hint: `check that it is still running (${error.message})` } };
  }
}
