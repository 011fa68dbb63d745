"""The local service: its document, and the processes that make it true."""

import asyncio
import logging
import random
from collections.abc import Callable, Collection
from pathlib import Path

from pipelines.rollout.local.document import (
    Document,
    Generation,
    Model,
    read_document,
    write_document,
)
from pipelines.rollout.local.meter import Meter
from pipelines.rollout.local.revision import RevisionProcess
from pipelines.rollout.target import Conflict, Observed, Revision

logger = logging.getLogger(__name__)

HOLD_SECONDS = 60.0
"""Longest time that a request waits for a revision that is starting."""

RETRY_SECONDS = 1.0
"""Until a document that could not be written is tried again."""


class Service:
    """For one event loop, whose main thread starts the processes.

    Args:
        directory: holds the document and the logs; exists.
        meter: forgets a revision that ends.
        model_name: the model's name in URLs; revisions are named for it.
        progress_seconds: longest time for a process to become ready.

    Raises:
        InvalidDocument: see :func:`~pipelines.rollout.local.document.read_document`.
    """

    def __init__(
        self, directory: Path, meter: Meter, *, model_name: str, progress_seconds: float
    ) -> None:
        self._directory = directory
        self._meter = meter
        self._model_name = model_name
        self._progress_seconds = progress_seconds
        self._document = read_document(directory)
        self._running: dict[str, RevisionProcess] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._writing = asyncio.Lock()
        self._change = asyncio.Event()

    async def run(self) -> None:
        """Keep the processes as the document has them, until cancelled."""
        while True:
            # Taken first: what changes meanwhile is seen in the next round.
            change = self._change
            try:
                await self._reconcile()
            except OSError as error:
                logger.error("%s: the document cannot be written: %s", self._directory, error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            await change.wait()

    async def close(self) -> None:
        """Finish the running requests, then end all processes. No request may come any more."""
        for name in list(self._running):
            self._retire(name)
        await asyncio.gather(*self._ending)

    def observe(self) -> Observed:
        """The service now."""
        document = self._document
        newest = document.newest
        return Observed(
            version=str(document.version),
            fingerprint=document.fingerprint,
            settled=self._settled(),
            storage_uri=newest.model.storage_uri if newest else "",
            image=newest.model.image if newest else None,
            percent=document.percent,
            stable=self._revision(document.stable),
            candidate=self._revision(document.candidate),
            state=document.state,
        )

    async def write(
        self, version: str, *, state: str, percent: int | None, model: Model | None
    ) -> Observed:
        """A rollout's decision, all of it or nothing.

        Args:
            version: that it was made on.
            model: None leaves the model.

        Raises:
            Conflict: the service has another version by now.
            OSError: the document cannot be written.
        """

        def decided(document: Document) -> Document:
            if version != str(document.version):
                raise Conflict(f"version {version} is gone; the service has {document.version}")
            return document.rewritten(self._model_name, state=state, percent=percent, model=model)

        await self._save(decided)
        return self.observe()

    async def choose(self, without: Collection[str]) -> RevisionProcess | None:
        """The revision for one request, drawn by the shares among those that are ready.

        Waits where none is ready yet, as Knative's activator does. The caller enters ``serving`` before it
        awaits anything else, or the revision may have ended.

        Args:
            without: revisions that failed this request; then nothing is waited for.

        Returns:
            None where no revision will be ready in time.
        """
        deadline = asyncio.get_running_loop().time() + HOLD_SECONDS
        while True:
            change = self._change
            shares = self._document.shares
            found = [
                (revision, share)
                for revision in self._running.values()
                if (share := shares.get(revision.name)) and revision.ready
            ]
            found = [each for each in found if each[0].name not in without]
            if found:
                revisions, weights = zip(*found, strict=True)
                chosen: RevisionProcess = random.choices(revisions, weights)[0]
                return chosen
            if without or not self._may_become_ready():
                return None
            try:
                async with asyncio.timeout_at(deadline):
                    await change.wait()
            except TimeoutError:
                return None

    def _may_become_ready(self) -> bool:
        failed = {each.name for each in self._running.values() if each.failure}
        return any(share and name not in failed for name, share in self._document.shares.items())

    def _revision(self, generation: Generation | None) -> Revision | None:
        if generation is None:
            return None
        share = self._document.shares[generation.name]
        process = self._running.get(generation.name)
        if process is None:
            return Revision(generation.name, ready=False, percent=share, url=None)
        url = process.url if process.ready else None
        return Revision(process.name, process.ready, share, url, process.failure)

    def _settled(self) -> bool:
        """All that was asked for is done, or will not be: the processes have come up, or failed; the
        candidate has its share, or everything and so is the stable one. One without a share may still be
        starting."""
        document = self._document
        for generation in document.generations:
            process = self._running.get(generation.name)
            if process is None:
                return False
            is_candidate = generation == document.candidate
            if is_candidate and document.percent == 0:
                continue
            waits = not generation.was_ready or document.percent is None
            if process.pending or (is_candidate and waits and not process.failure):
                return False
        return True

    async def _reconcile(self) -> None:
        generations = {each.name: each for each in self._document.generations}
        for name in self._running.keys() - generations.keys():
            self._retire(name)
        for name in generations.keys() - self._running.keys():
            logger.info("%s: starts with %s", name, generations[name].model)
            self._running[name] = RevisionProcess(
                generations[name],
                self._directory,
                model_name=self._model_name,
                progress_seconds=self._progress_seconds,
                changed=self._tell,
            )
            self._tell()

        def with_newest_ready(document: Document) -> Document:
            process = self._running.get(document.newest.name) if document.newest else None
            return document.with_newest_ready() if process and process.ready else document

        if with_newest_ready(self._document) != self._document:
            await self._save(with_newest_ready)

    def _retire(self, name: str) -> None:
        """Nobody is routed to it from here on."""
        process = self._running.pop(name)

        async def end() -> None:
            await process.end()
            self._meter.forget(name)
            logger.info("%s: ended", name)

        task = asyncio.create_task(end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def _save(self, change: Callable[[Document], Document]) -> None:
        """Write what ``change`` makes of the document down, then act on it."""
        async with self._writing:
            document = change(self._document)
            await asyncio.to_thread(write_document, self._directory, document)
            if document.shares != self._document.shares:
                logger.info("shares in percent: %s", document.shares)
            self._document = document
        self._tell()

    def _tell(self) -> None:
        """Wake all who wait for a change."""
        self._change.set()
        self._change = asyncio.Event()
