"""Study: a design in a folder. Prepare its data, train what is missing, and keep the tables of runs up to date."""

import contextlib
import functools
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from babelscale import files
from babelscale.corpora import Tokenizer, TokenStore, build_store, open_parallel
from babelscale.corpora.store import STORE
from babelscale.errors import BabelscaleWarning, InputError, StudyError
from babelscale.model import huggingface
from babelscale.runs import Runs
from babelscale.study import engines, failures, record, text
from babelscale.study.design import Design, load, located
from babelscale.study.disk import watched
from babelscale.study.spec import RunSpec, chosen, exceeded_caps, expand, trunks
from babelscale.training import STATE

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
        cls,
        name: str | Path | Mapping[str, Any] | Design,
        folder: str | Path | None = None,
        corpus: str | Path | None = None,
    ) -> "Study":
        """The study of a design, in its folder, which is made or resumed.

        Args:
            name: of a built-in design, or a TOML file; or a design written in Python (see `load`).
            folder: default studies/NAME.
            corpus: takes the place of the design's own source of text.

        Raises:
            InputError: the design is not usable, or the folder holds another study.

        Warns where the folder's design.json is damaged: `prepare` writes it anew.
        """
        design = load(name)
        if corpus is not None:
            part = design.corpus.model_copy(update={"source": located(str(corpus), Path())})
            design = design.model_copy(update={"corpus": part})
        folder = Path(folder) if folder is not None else Path("studies") / design.name
        study = cls(design, folder)
        if (folder / "design.json").exists():
            try:
                other = cls.open(folder).design
            except InputError as error:
                warnings.warn(f"{error.message}; it is written again", BabelscaleWarning, stacklevel=2)
                return study
            if other.model_dump(exclude={"analysis", "groups", "holdout", "title"}) != design.model_dump(
                exclude={"analysis", "groups", "holdout", "title"}
            ):
                raise InputError(
                    f"{folder} holds a study with another corpus, tokenizer, recipe or sizes",
                    hint="name another folder with --out",
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
            raise InputError(
                f"{folder}: there is no study in this folder", hint="it is made by `babelscale study run`"
            ) from None
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"{path}: not a study's design ({' '.join(str(error).split())})",
                hint=f"`babelscale study run NAME --out {folder}` writes this file anew from the design NAME and keeps "
                "the finished runs",
            ) from None

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
        text.check(self.design, place, languages)

    def _make_text(self, place: Path, languages: Sequence[str], progress: Progress | None) -> None:
        part = self.design.corpus
        corpus = text.corpus(self.design, self.folder, languages)
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
            text.make_tokenizer(self.design, corpus, languages, place / "tokenizer", progress)
        build_store(
            corpus,
            Tokenizer.load(place / "tokenizer"),
            languages,
            place / "corpus",
            parallel=parallel,
            progress=progress,
        )

    def _described(self) -> dict[str, Any]:
        """What design.json says of the corpus; where it is gone or damaged, what the corpus itself says.

        Raises:
            InputError: the corpus is not there, or the folder's text was made of another one.
        """
        try:
            held = json.loads((self.folder / "design.json").read_text(encoding="utf-8"))
            Design.model_validate(held["design"])
            return held["corpus"]
        except (FileNotFoundError, KeyError, TypeError, ValueError):
            corpus = text.corpus(self.design, self.folder, self.design.languages)
        if corpus.fingerprint != TokenStore.open(self.folder / "corpus").corpus_fingerprint:
            raise InputError(
                f"{self.folder}: its text was made from another corpus, not from {self.design.corpus.source}",
                hint="name the corpus it was made of with --corpus, or another folder with --out",
            )
        return corpus.describe()

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
        store, corpus, tokenizer = text.hashes(self.folder)

        def own(code: str) -> tuple[str, str] | None:
            prepared = (self.own(code) / "corpus" / STORE).exists()
            return text.hashes(self.own(code))[1:] if prepared else None

        return expand(self.design, store.unique_tokens, corpus, tokenizer, huggingface.weights_hash, own)

    @property
    def exceeded_caps(self) -> list[str]:
        """Sentences on groups whose UniMax mixtures cannot keep to their `max_epochs` with the prepared text."""
        return exceeded_caps(self.design, text.hashes(self.folder)[0].unique_tokens)

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

    def has_state(self, spec: RunSpec) -> bool:
        """Whether the final state of a run is there, for other runs to continue from."""
        return (self.finished(spec.name) / STATE / str(spec.steps)).is_dir()

    def is_whole(self, spec: RunSpec) -> bool:
        """Whether a run is finished and, if it is one whose final state is kept, that state is there."""
        return self.is_finished(spec.name) and (spec.name not in self.kept or self.has_state(spec))

    @property
    def missing(self) -> list[RunSpec]:
        """Runs to train (see `missing_of`)."""
        return self.missing_of(None)

    def missing_of(self, only: Collection[str] | None, *, holdout: bool = True) -> list[RunSpec]:
        """Runs to train for some groups: those not finished, and before each the runs it continues from without state.

        A run that is finished without its state, as one restored from its record is, is trained again only if a run
        that is not finished continues from it.

        Args:
            holdout: those of the design's holdout too.
        """
        missing = [spec for spec in self.select(only) if not self.is_finished(spec.name)]
        wanted = missing if holdout else [spec for spec in missing if spec.name not in self.held_out]
        return list({run.name: run for spec in wanted for run in self._stateless_chain(spec)}.values())

    def _stateless_chain(self, spec: RunSpec) -> Iterator[RunSpec]:
        """A run, after those that must be trained before it since their states are not there."""
        if isinstance(spec.base, RunSpec) and not self.has_state(spec.base):
            yield from self._stateless_chain(spec.base)
        yield spec

    def runs(self) -> Runs | None:
        """The runs finished so far."""
        return record.read_runs(self.folder / "finished", sorted(self.specs))

    def train(
        self,
        *,
        engine: engines.Engine = engines.run_local,
        only: Collection[str] | None = None,
        holdout: bool = False,
        on_event: Callable[[engines.Event], None] | None = None,
    ) -> int:
        """Train the missing runs (of some groups) and write the tables; returns how many were trained.

        While it runs the tables are brought up to date at most once in `TABLES_SECONDS`, for whoever reads them.

        Args:
            engine: what trains the runs.
            only: groups of the design; by default all.
            holdout: train the runs of the design's holdout too, which are left out otherwise.
            on_event: called with what the engine's workers report.

        Raises:
            StudyError: some runs failed, or another process is training this study.
            Stopped: SIGINT or SIGTERM arrived; the runs under way are saved.
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

        with watched(self.folder), self.alone():
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
    def alone(self) -> Iterator[None]:
        """Hold the folder: two processes training one study would write the same working folders.

        Raises:
            StudyError: another process holds it.
        """
        import fcntl

        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StudyError(f"{self.folder}: another process is training this study") from None
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield
