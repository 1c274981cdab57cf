// One question at a time: while an answer is awaited only the newest question is kept.
"use strict";

const AGAIN = 700; // milliseconds until a long answer is asked for again

export class Asker {
  #busy = false;
  #next = null;
  #timer = 0;

  /** `shown(answer, question)`, `refused({error, hint})` and `working({what, done, total})` take what comes back. */
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
      // A newer question makes this answer old only where it failed; a good answer is drawn on the way.
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

/** Status and JSON of an address; a server that does not answer is told as a refusal. */
export async function fetched(address, options = {}) {
  try {
    const response = await fetch(address, { headers: { accept: "application/json" }, ...options });
    return { status: response.status, answer: await response.json() };
  } catch (error) {
    return { status: 0, answer: { error: "no answer from the server", hint: `is it still running? (${error.message})` } };
  }
}
