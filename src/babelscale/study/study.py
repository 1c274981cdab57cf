"""Study: a design in a folder. Prepare its data, train what is missing, and keep the tables of runs up to date."""

import contextlib
import functools
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babelscale import files
from babelscale.corpora import (
    Corpus,
    Dealt,
    Tokenizer,
    TokenStore,
    adopt_tokenizer,
    build_store,
    deal_passages,
    is_verse_text,
    open_corpus,
    open_parallel,
    tokenizer_hash,
    train_tokenizer,
)  # fmt: skip
from babelscale.corpora.store import STORE
from babelscale.errors import InputError, StudyError
from babelscale.model import huggingface
from babelscale.runs import Runs
from babelscale.study import engines, failures, record
from babelscale.study.design import Design, PassagesPart, load, located
from babelscale.study.disk import watched
from babelscale.study.spec import RunSpec, chosen, expand, trunks

Progress = Callable[[str, int, int], None]
TABLES_SECONDS = 20.0


@dataclass(frozen=True)
class Study:
    """A design and the folder it lives in.

    The folder holds design.json, corpus/ (token stores), tokenizer/, own/LANGUAGE/ (the same two for runs with a
    tokenizer of their own), working/ (runs under way), finished/ (one folder a run) and runs/ (the three tables of all
    finished runs).
    """

    design: Design
    folder: Path

    @classmethod
    def create(
        cls, name: str | Path | Mapping[str, Any] | Design, folder: str | Path | None = None,
        corpus: str | Path | None = None,
    ) -> "Study":  # fmt: skip
        """A study of a design, in its folder, made or gone on with.

        Args:
            name: of a built-in design, or a TOML file; or a design written in Python (see `load`).
            folder: default studies/NAME.
            corpus: takes the place of the design's own source of text.

        Raises:
            InputError: the design is not usable, or the folder holds another study.
        """
        design = load(name)
        if corpus is not None:
            part = design.corpus.model_copy(update={"source": located(str(corpus), Path())})
            design = design.model_copy(update={"corpus": part})
        folder = Path(folder) if folder is not None else Path("studies") / design.name
        study = cls(design, folder)
        if (folder / "design.json").exists():
            other = cls.open(folder).design
            if other.model_dump(exclude={"analysis", "groups", "title"}) != design.model_dump(
                exclude={"analysis", "groups", "title"}
            ):
                raise InputError(
                    f"{folder} holds a study with another corpus, tokenizer, recipe or sizes",
                    hint="name another folder with --out, or remove this one",
                )
        return study

    @classmethod
    def open(cls, folder: str | Path) -> "Study":
        """The study in a folder that was created before."""
        path = Path(folder) / "design.json"
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            return cls(Design.model_validate(held["design"]), Path(folder))
        except FileNotFoundError:
            raise InputError(f"{folder}: no study here", hint="it is made by `babelscale study run`") from None
        except (json.JSONDecodeError, KeyError, ValueError) as error:
            raise InputError(f"{path}: not a study's design ({error})", hint="remove the folder") from None

    def prepare(self, progress: Progress | None = None, only: Collection[str] | None = None) -> None:
        """Make the tokenizers and the token stores, unless they are there, and write design.json.

        What was stopped, or found a full disk, goes on from what is finished.

        Args:
            only: groups whose own tokenizers are wanted; by default all.

        Raises:
            InputError: the corpus or the tokenizer cannot be used; nothing is left behind.
            DiskFull: what was done is kept.
        """
        with watched(self.folder):
            self._prepare(progress, only)

    def _prepare(self, progress: Progress | None, only: Collection[str] | None) -> None:
        fresh = not self.folder.exists()
        wanted = [group for group in self.design.groups if only is None or group.name in only]
        alone = {code for g in wanted if g.tokenizer == "own" for code in g.languages or self.design.languages}
        try:
            self._prepare_text(self.folder, self.design.languages, progress)
            for code in sorted(alone):
                self._prepare_text(self.own(code), (code,), progress)
            self.__dict__.pop("groups", None)
            self._write_design(self._described(), self.groups)
        except (InputError, ModuleNotFoundError):
            if fresh:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def own(self, code: str) -> Path:
        """Folder of a language's own tokenizer and token store."""
        return self.folder / "own" / code

    def text(self, spec: RunSpec) -> Path:
        """Folder of the tokenizer and the token store that a run reads."""
        return self.folder if spec.own is None else self.own(spec.own)

    def _prepare_text(self, place: Path, languages: Sequence[str], progress: Progress | None) -> None:
        if not (place / "corpus" / STORE).exists():
            self._make_text(place, languages, progress)
        pairs = [(size, group) for group in self.design.groups for size in group.sizes]
        longest = max(self.design.training_recipe(*pair).sequence_length for pair in pairs)
        TokenStore.open(place / "corpus").require(languages, longest + 1, longest + 1)

    def _make_text(self, place: Path, languages: Sequence[str], progress: Progress | None) -> None:
        part = self.design.corpus
        corpus = open_corpus(
            self._source(), languages=languages, bytes_per_language=part.bytes_per_language,
            held_out_share=part.held_out_share, held_out_tokens=part.held_out_tokens, seed=part.seed,
        )  # fmt: skip
        if missing := [code for code in languages if code not in corpus.languages]:
            raise InputError(
                f"the design names language {missing[0]!r}, which corpus {part.source} does not hold",
                hint=f"it holds {', '.join(corpus.languages)}",
            )
        parallel = open_parallel(part.parallel, self.design.languages) if part.parallel else None
        place.mkdir(parents=True, exist_ok=True)
        if place == self.folder:
            self._write_design(corpus.describe(), {})
        if not (place / "tokenizer").exists():
            self._make_tokenizer(corpus, languages, place / "tokenizer", progress)
        build_store(
            corpus, Tokenizer.load(place / "tokenizer"), languages, place / "corpus", parallel=parallel,
            progress=progress,
        )  # fmt: skip

    def _source(self) -> str:
        """Where the text lies; one text in many languages is first dealt out to them, into the folder `text`."""
        part = self.design.corpus
        if part.passages is None or not is_verse_text(part.source):
            return part.source
        if not (self.folder / "text").exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.deal_text(part.source, self.folder / "text")
        return str(self.folder / "text")

    def deal_text(self, source: str | Path, folder: str | Path) -> Dealt:
        """Deal the passages of one text in many languages out to the design's languages (see `deal_passages`).

        Raises:
            InputError: the source is no such text, or a language of the design ends without text.
        """
        part = self.design.corpus.passages or PassagesPart()
        weights = {code: part.weights.get(code, 1.0) for code in self.design.languages}
        return deal_passages(source, folder, weights, held_out_share=part.held_out_share, seed=part.seed)

    def _make_tokenizer(self, corpus: Corpus, languages: Sequence[str], place: Path, progress: Progress | None) -> None:
        part = self.design.tokenizer
        if part.source is not None:
            tokenizer = adopt_tokenizer(part.source, place)
            if tokenizer.vocabulary_size > part.vocabulary:
                raise InputError(
                    f"tokenizer {part.source} has {tokenizer.vocabulary_size:,} tokens, the design's vocabulary is "
                    f"{part.vocabulary:,}",
                    hint="give the design the model's own vocabulary",
                )
            return
        train_tokenizer(
            corpus, languages, part.vocabulary, place, temperature=part.temperature,
            character_coverage=part.character_coverage, seed=self.design.corpus.seed, progress=progress,
        )  # fmt: skip

    def _described(self) -> dict[str, Any]:
        return json.loads((self.folder / "design.json").read_text(encoding="utf-8"))["corpus"]

    def _write_design(self, corpus: dict[str, Any], specs: Mapping[str, list[RunSpec]]) -> None:
        design = self.design
        groups = [
            {"name": group.name, "why": group.why, "runs": [spec.name for spec in specs.get(group.name, [])]}
            for group in design.groups
        ]
        held = {
            "name": design.name,
            "title": design.title,
            "languages": list(design.languages),
            "corpus": corpus,
            "tokenizer": design.tokenizer.model_dump(),
            "groups": groups,
            "analysis": design.analysis,
            "design": design.model_dump(mode="json"),
        }
        files.write_text(self.folder / "design.json", json.dumps(held, indent=1, ensure_ascii=False) + "\n")

    @functools.cached_property
    def groups(self) -> dict[str, list[RunSpec]]:
        """The runs of every group; needs the data prepared, since a run's identity holds its hashes."""
        store, text, tokenizer = _text_hashes(self.folder)

        def own(code: str) -> tuple[str, str] | None:
            prepared = (self.own(code) / "corpus" / STORE).exists()
            return _text_hashes(self.own(code))[1:] if prepared else None

        return expand(self.design, store.unique_tokens, text, tokenizer, huggingface.weights_hash, own)

    def select(self, only: Collection[str] | None = None) -> list[RunSpec]:
        """The runs of some groups (by default all), once each, with those they continue from before them.

        Raises:
            InputError: there is no such group.
        """
        return list(chosen(self.groups, only).values())

    @functools.cached_property
    def specs(self) -> dict[str, RunSpec]:
        """Every run once, by name."""
        return {spec.name: spec for specs in self.groups.values() for spec in specs}

    @functools.cached_property
    def kept(self) -> set[str]:
        """Names of the runs whose final state is kept: others continue from them, or the design says so."""
        bases = {spec.base.name for spec in self.specs.values() if isinstance(spec.base, RunSpec)}
        asked = [self.groups[group.name] for group in self.design.groups if group.keep_state]
        return bases | {spec.name for specs in asked for spec in specs}

    @functools.cached_property
    def trunks(self) -> dict[str, RunSpec]:
        """Run -> the longer run it branches off."""
        return trunks(self.specs.values())

    def branches(self, name: str) -> list[RunSpec]:
        """Shorter runs that branch off a run."""
        return [self.specs[short] for short, trunk in self.trunks.items() if trunk.name == name]

    def finished(self, name: str) -> Path:
        """Folder of a run once it is finished."""
        return self.folder / "finished" / name

    def is_finished(self, name: str) -> bool:
        return (self.finished(name) / record.RECORD).exists()

    @functools.cached_property
    def held_out(self) -> frozenset[str]:
        """Names of the runs of the design's holdout: of its sizes, and of its groups alone."""
        part = self.design.holdout
        others = {spec.name for name, specs in self.groups.items() if name not in part.groups for spec in specs}
        return frozenset(
            spec.name for spec in self.specs.values() if spec.size in part.sizes or spec.name not in others
        )

    @property
    def missing(self) -> list[RunSpec]:
        """Runs that are not finished."""
        return self.missing_of(None)

    def missing_of(self, only: Collection[str] | None, *, holdout: bool = True) -> list[RunSpec]:
        """Runs of some groups, and what they continue from, that are not finished.

        Args:
            holdout: those of the design's holdout too.
        """
        missing = [spec for spec in self.select(only) if not self.is_finished(spec.name)]
        return missing if holdout else [spec for spec in missing if spec.name not in self.held_out]

    def runs(self) -> Runs | None:
        """The runs finished so far."""
        return record.read_runs(self.folder / "finished", sorted(self.specs))

    def train(
        self, *, engine: engines.Engine = engines.run_local, only: Collection[str] | None = None,
        holdout: bool = False, on_event: Callable[[engines.Event], None] | None = None,
    ) -> int:  # fmt: skip
        """Train the missing runs (of some groups) and write the tables; returns how many were trained.

        While it runs the tables are brought up to date at most once in `TABLES_SECONDS`, for whoever reads them.

        Args:
            engine: what trains the runs.
            only: groups of the design; by default all.
            holdout: train the runs of the design's holdout too, which are left out otherwise.
            on_event: called with what the engine's workers report.

        Raises:
            StudyError: some runs failed, or another process is training this study.
            Stopped: SIGINT or SIGTERM came; what was begun is saved.
        """
        missing = self.missing_of(only, holdout=holdout)
        written = time.monotonic()

        def heard(event: engines.Event) -> None:
            nonlocal written
            if "failed" in event and not event.get("full", False):
                failures.note(self.folder, event["run"], event["failed"])
            if on_event is not None:
                on_event(event)
            if "finished" in event and time.monotonic() - written > TABLES_SECONDS:
                self.write_tables()
                written = time.monotonic()

        with watched(self.folder), self._alone():
            try:
                failures.forget(self.folder, [spec.name for spec in missing])
                if missing:
                    engine(missing, self.folder, trunks=self.trunks, on_event=heard)
            finally:
                self.write_tables()
        return len(missing)

    def write_tables(self) -> None:
        """Write the three tables of the runs finished so far.

        Raises:
            DiskFull: there is no room for them.
        """
        with watched(self.folder / "runs"):
            while (runs := self.runs()) is not None:
                runs.write(self.folder / "runs")
                # Tasks of an array end together; whoever is the last to write must know of the others' runs.
                if set(runs.names) == {name for name in self.specs if self.is_finished(name)}:
                    break

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the folder: two processes training one study would write the same working folders."""
        import fcntl

        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StudyError(f"{self.folder}: another process is training this study") from None
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield


def _text_hashes(place: Path) -> tuple[TokenStore, str, str]:
    """The token store of a folder, and the hashes of its text and of its tokenizer."""
    store = TokenStore.open(place / "corpus")
    text = store.corpus_fingerprint
    if store.record.parallel is not None:
        # Lines of the parallel set are left out of training.
        text = hashlib.sha256(f"{text} {store.record.parallel}".encode()).hexdigest()
    return store, text, tokenizer_hash(place / "tokenizer")
