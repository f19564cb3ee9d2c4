"""Process scorer: a supervised child that holds the model, in the environment that the model was fitted in.

One batch is in flight at a time. A child that dies, or does not answer by the deadline, is replaced at once; after
several in a row without an answer between them the circuit opens: batches fail at once, with the reason, and one new
child is tried every half minute. The process that uses this class never unpickles anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray

from passerelle.bundle.child import (
    LENGTH,
    SCORE,
    START_S,
    VERSIONS,
    Hello,
    Scored,
    Versions,
    command,
    death,
    environment,
    frame,
    is_killed,
    missing_interpreter,
    read_outputs,
    read_reply,
)
from passerelle.bundle.manifest import GOLDEN, Manifest
from passerelle.bundle.parity import differences
from passerelle.errors import (
    BundleError,
    KilledError,
    PasserelleError,
    ScorerKilledError,
    ScorerRestartingError,
    ScoringError,
)
from passerelle.notebook.submission import Answers, read_answers
from passerelle.schema import TOLERANCE, Columns, count, encode_columns

#: After this many deaths in a row the circuit opens ...
DEATHS = 5
#: ... and one new child is tried after this many seconds.
COOL_S = 30.0
#: The first pause before a restart; it doubles with each death in a row.
PAUSE_S = 0.05
#: How long a child that was told to end may take.
END_S = 2.0

#: What a crash prints about all threads and modules fits in.
_TAIL_BYTES = 32_000
_log = logging.getLogger("passerelle.model")
_Reply = TypeVar("_Reply", Hello, Scored, Versions)


class _Child:
    """A running child, started with three pipes, and the end of what it printed."""

    def __init__(self, process: asyncio.subprocess.Process, bundle: Path, python: str) -> None:
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise ValueError("a child is spoken to over pipes: start it with stdin, stdout and stderr as PIPE.")
        self._stdin, self._stdout, self._stderr = process.stdin, process.stdout, process.stderr
        self._process = process
        self._bundle = bundle
        self._python = python
        self._tail = b""
        self._draining = asyncio.create_task(self._drain())

    async def _drain(self) -> None:
        while data := await self._stderr.read(_TAIL_BYTES):
            self._tail = (self._tail + data)[-_TAIL_BYTES:]
            _log.info("%s", data.decode(errors="replace").rstrip())

    async def read(self, wanted: type[_Reply]) -> _Reply:
        """Its next frame. EOFError if it died."""
        (length,) = LENGTH.unpack(await self._stdout.readexactly(LENGTH.size))
        return read_reply(await self._stdout.readexactly(length), wanted, self._bundle)

    async def ask(self, letter: bytes, payload: bytes, wanted: type[_Reply]) -> _Reply:
        """Send a request and read its answer. EOFError or OSError if it died."""
        self._stdin.write(frame(letter, payload))
        await self._stdin.drain()
        return await self.read(wanted)

    @property
    def is_killed(self) -> bool:
        """Has it ended by a signal that is sent from outside? Of one that was not ended by us."""
        return is_killed(self._process.returncode)

    def kill(self) -> None:
        """Kill it, if it lives; ``end`` is still to be awaited."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def wait(self) -> None:
        """Until it is dead."""
        await self._process.wait()

    async def end(self, *, patience_s: float = 0.0) -> str:
        """Make it end: by the end of its stdin, then by a kill. Why it is dead, in a sentence."""
        self._stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), patience_s)
        except TimeoutError:
            self.kill()
            await self._process.wait()
        # To their ends, or the pipes stay open. A grandchild may hold them; a batch in flight may be reading already.
        with contextlib.suppress(TimeoutError, RuntimeError):
            await asyncio.wait_for(asyncio.gather(self._draining, self._stdout.read()), END_S)
        return death(self._python, self._process.returncode, self._tail.decode(errors="replace"))


class ProcessScorer:
    """A bundle.scorer.Scorer over a child process. ``manifest`` and ``digest`` must come from bundle.verify."""

    kind = "process"

    def __init__(
        self, bundle: Path, manifest: Manifest, digest: str, *, deadline_s: float, python: str | None = None
    ) -> None:
        self._bundle = bundle
        self._manifest = manifest
        self._digest = digest
        self._deadline_s = deadline_s
        self._python = python or manifest.environment.python
        self._golden: Answers | None = None
        self._lock = asyncio.Lock()
        self._child: _Child | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending: set[asyncio.Task[str]] = set()
        self._restart: asyncio.Task[None] | None = None
        self._deaths = 0
        self._reason = "it was not started"
        self._killed = False
        self._retry_at = 0.0
        self._closed = False

    async def start(self) -> None:
        """Start the child and reproduce the golden rows. BundleError if it cannot, saying what is not as it was.

        ScorerKilledError, which is one, if the child was killed from outside meanwhile.
        """
        if self._child is not None or self._restart is not None:
            return
        if GOLDEN in self._manifest.files:
            self._golden = read_answers(self._bundle / GOLDEN)
        child = await self._open()
        if self._closed:
            await child.end()
            raise ScoringError(f"the scorer of {self._bundle.name} was closed before it had started.")
        self._adopt(child)

    async def score(self, columns: Columns) -> NDArray[Any]:
        """The model's answers; errors as the Scorer has them.

        If the child dies on it, another is asked once more: the death may have come from outside, and these events are
        not to pay for it. One that kills two has killed both.
        """
        rows = count(columns)
        request = encode_columns(columns)
        async with self._lock:
            scored = await self._ask(request, rows, again=True)
            self._deaths = 0
        return read_outputs(scored, rows=rows, outputs=self._manifest.outputs)

    async def _ask(self, request: bytes, rows: int, *, again: bool) -> Scored:
        child = await self._living()
        try:
            async with asyncio.timeout(self._deadline_s):
                return await child.ask(SCORE, request, Scored)
        except TimeoutError:
            reason = f"the model did not answer {rows} rows within {self._deadline_s:g} s"
            self._lose(child, reason)
            raise TimeoutError(f"{reason}: its process was killed and is started again.") from None
        except (EOFError, OSError):
            reason = await child.end(patience_s=END_S)  # it is dying: to kill it now would hide how
            self._lose(child, reason, killed=child.is_killed)
            if again:
                return await self._ask(request, rows, again=False)
            raise (ScorerKilledError if child.is_killed else ScoringError)(reason) from None
        except asyncio.CancelledError:
            # An answer that nobody reads any more would be taken for the next batch's.
            self._lose(child, "its batch was given up", counts=False)
            raise

    async def close(self) -> None:
        """End the child and all that watches it."""
        self._closed = True
        child, self._child = self._child, None
        if child is not None:
            await child.end(patience_s=END_S)
        for task in (waiting := [*self._tasks]):
            task.cancel()
        await asyncio.gather(*waiting, *self._ending, return_exceptions=True)

    async def _open(self) -> _Child:
        """A child that has reproduced the golden rows."""
        try:
            process = await asyncio.create_subprocess_exec(
                *command(self._python, self._bundle, self._digest),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment(),
                limit=1 << 20,
            )
        except OSError as error:
            raise missing_interpreter(self._python, self._bundle, error) from error
        child = _Child(process, self._bundle, self._python)
        try:
            async with asyncio.timeout(START_S):
                await child.read(Hello)
                await self._reproduce(child)
        except (EOFError, OSError) as error:
            reason = await child.end(patience_s=0 if isinstance(error, TimeoutError) else END_S)
            late = f"the model of {self._bundle} was not ready within {START_S:g} s"
            if isinstance(error, TimeoutError):
                raise BundleError(late) from error
            raise (ScorerKilledError if child.is_killed else BundleError)(f"{self._bundle}: {reason}") from error
        except BaseException:
            await child.end()
            raise
        return child

    async def _reproduce(self, child: _Child) -> None:
        golden = self._golden
        if golden is None or not count(golden.inputs):
            return
        try:
            scored = await child.ask(SCORE, encode_columns(golden.inputs), Scored)
            answered = read_outputs(scored, rows=count(golden.inputs), outputs=self._manifest.outputs)
            gaps = differences(answered, golden.outputs)
            row = int(gaps.argmax())
            if gaps[row] <= TOLERANCE:
                return
            found = f"golden row {row} answers {answered[row].tolist()}, the notebook {golden.outputs[row].tolist()}"
        except ScoringError as error:
            found = str(error).rstrip(".")
        versions = (await child.ask(VERSIONS, b"", Versions)).differences
        other = ", ".join(f"{name} {was} is now {now}" for name, (was, now) in versions.items())
        advice = (
            f"Its packages are not those it was trained with ({other}): bring those versions back, or train again."
            if versions
            else "Its packages are those it was trained with: look for what else the model reads (files, the clock)."
        )
        raise BundleError(f"{self._bundle} does not reproduce its golden rows with {self._python}: {found}. {advice}")

    def _adopt(self, child: _Child) -> None:
        self._child = child
        self._keep(self._watch(child))

    async def _watch(self, child: _Child) -> None:
        """Replace a child that dies between batches before the next one needs it."""
        await child.wait()
        if self._child is child and not self._lock.locked():
            reason = await child.end()
            self._lose(child, reason, killed=child.is_killed)

    def _lose(self, child: _Child, reason: str, *, counts: bool = True, killed: bool = False) -> None:
        """A child is of no use any more: end it, and start another unless too many died in a row."""
        if self._child is not child or self._closed:
            return
        self._child = None
        self._killed = killed
        child.kill()
        ending = asyncio.create_task(child.end())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        if counts:
            self._count_death(reason)
        self._restart = self._keep(self._revive())

    def _count_death(self, reason: str) -> None:
        self._deaths += 1
        self._reason = reason.rstrip(".")
        _log.warning("%s: %s (%d in a row)", self._bundle.name, reason, self._deaths)
        if self._deaths >= DEATHS:
            self._retry_at = asyncio.get_running_loop().time() + COOL_S

    async def _revive(self) -> None:
        while self._deaths < DEATHS:
            await asyncio.sleep(PAUSE_S * 2**self._deaths)
            try:
                child = await self._open()
            except PasserelleError as error:
                self._killed = isinstance(error, KilledError)
                self._count_death(str(error))
            else:
                self._adopt(child)
                return

    async def _living(self) -> _Child:
        """The child, waiting for a restart that is under way for as long as the deadline allows."""
        child = self._child
        if child is not None:
            return child
        if self._closed or (self._restart is None and not self._deaths):
            raise ScoringError(f"the scorer of {self._bundle.name} is not running: start it first.")
        if self._deaths >= DEATHS and asyncio.get_running_loop().time() >= self._retry_at:
            self._deaths = DEATHS - 1  # one try: another death opens the circuit again
            self._restart = self._keep(self._revive())
        if self._restart is not None:
            done, _ = await asyncio.wait([self._restart], timeout=self._deadline_s)
            if not done:
                kind = ScorerRestartingError if self._killed else TimeoutError
                raise kind(f"the model's process is being started again ({self._reason}).")
        revived: _Child | None = self._child
        if revived is None:
            raise (ScorerKilledError if self._killed else ScoringError)(
                f"the model's process died {self._deaths} times in a row and is not asked now; it is tried again every "
                f"{COOL_S:g} s. The last time: {self._reason}."
            )
        return revived

    def _keep(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
