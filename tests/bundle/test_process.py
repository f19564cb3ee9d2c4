"""Real children: what they answer, how they die, and what is said of it."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from passerelle.bundle import process
from passerelle.bundle.child import environment
from passerelle.bundle.parity import compare
from passerelle.bundle.process import ProcessScorer
from passerelle.bundle.seal import Bundle
from passerelle.errors import BundleError, KilledError, ScorerKilledError, ScoringError
from passerelle.notebook.submission import Answers, read_answers
from passerelle.schema import Columns, take
from passerelle.testing.conformance import ScorerCase, scorer_checks

Make = Callable[..., Bundle]


def scorer_of(bundle: Bundle, *, deadline_s: float = 20.0, **keywords: Any) -> ProcessScorer:
    return ProcessScorer(bundle.path, bundle.manifest, bundle.digest, deadline_s=deadline_s, **keywords)


@asynccontextmanager
async def running(bundle: Bundle, **keywords: Any) -> AsyncIterator[ProcessScorer]:
    scorer = scorer_of(bundle, **keywords)
    try:
        await scorer.start()
        yield scorer
    finally:
        await scorer.close()


def pid_of(scorer: ProcessScorer) -> int:
    assert scorer._child is not None
    return scorer._child._process.pid


def one(hour: int) -> Columns:
    return {"hour": np.array([hour]), "temp": np.array([1.0]), "origin": np.array(["EWR"], dtype=object)}


def trap(act: Callable[[Any], None]) -> Any:
    """A model that answers 0.5, and does ``act`` with its rows before (golden rows have hours below 24)."""

    class Trap:
        classes_ = (False, True)

        def predict_proba(self, X: Any) -> Any:  # noqa: N803
            act(X)
            return np.full((len(X), 2), 0.5)

    return Trap()


def test_answers_are_the_notebooks_and_prints_do_not_disturb(make: Make) -> None:
    def noisy(frame: Any) -> Any:
        if "passerelle.bundle.worker" in sys.orig_argv:
            print("hello", flush=True)  # noqa: T201
            os.write(1, b"\x05\x00\x00\x00junk")
            assert sys.stdin.read() == ""
        return frame

    bundle = make(features=noisy)
    golden = read_answers(bundle.path / "golden.msgpack")

    async def live() -> None:
        async with running(bundle) as scorer:
            assert np.abs(await scorer.score(golden.inputs) - golden.outputs).max() <= 1e-15
            alone = [await scorer.score(take(golden.inputs, [row])) for row in range(5)]
            assert np.abs(np.concatenate(alone) - golden.outputs[:5]).max() <= 1e-15
            both = await asyncio.gather(scorer.score(one(5)), scorer.score(one(6)))
            assert both[0][0, 0] < both[1][0, 0]

    asyncio.run(live())


def test_it_passes_the_conformance_checks(make: Make) -> None:
    class Strict:
        classes_ = (False, True)

        def predict_proba(self, X: Any) -> Any:  # noqa: N803
            if (X["hour"] > 99).any():
                raise ValueError("no such hour")
            p = X["hour"].to_numpy() / 100
            return np.column_stack([1 - p, p])

    bundle = make(Strict())
    golden = read_answers(bundle.path / "golden.msgpack")
    broken = make(Strict(), golden=Answers(inputs=golden.inputs, outputs=golden.outputs / 2))
    case = ScorerCase(
        make=lambda: scorer_of(bundle),
        make_broken=lambda: scorer_of(broken),
        columns=golden.inputs,
        expected=golden.outputs,
        failing=one(100),
    )
    for _, check in scorer_checks():
        asyncio.run(check(case))


def test_environment_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("PASSERELLE_KEY", "secret")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    seen = environment()
    assert "secret" not in seen.values()
    assert seen["OMP_NUM_THREADS"] == "1"
    assert seen["OMP_WAIT_POLICY"] == "PASSIVE"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert environment()["OMP_NUM_THREADS"] == "2"


def test_model_that_raises_says_where_and_goes_on(make: Make) -> None:
    def features(frame: Any) -> Any:
        if (frame["hour"] > 99).any():
            raise KeyError("gate")
        return frame

    async def live() -> None:
        async with running(make(features=features)) as scorer:
            first = pid_of(scorer)
            with pytest.raises(ScoringError, match=r"the model failed: KeyError: 'gate' \(in features, line \d+\)"):
                await scorer.score(one(100))
            assert (await scorer.score(one(12))).shape == (1, 1)
            assert pid_of(scorer) == first

    asyncio.run(live())


def test_not_a_number_never_leaves(make: Make) -> None:
    class Hollow:
        classes_ = (False, True)

        def predict_proba(self, X: Any) -> Any:  # noqa: N803
            p = np.where(X["hour"] > 99, math.nan, 0.5)
            return np.column_stack([1 - p, p])

    async def live() -> None:
        async with running(make(Hollow())) as scorer:
            with pytest.raises(ScoringError, match=r"not a finite number in 1 of 1 rows \(first: row 0\)"):
                await scorer.score(one(100))
            assert (await scorer.score(one(5))).tolist() == [[0.5]]

    asyncio.run(live())


def test_deadline_kills_and_restarts(make: Make) -> None:
    def sleep(X: Any) -> None:  # noqa: N803
        if (X["hour"] > 99).any():
            time.sleep(60)

    async def live() -> None:
        async with running(make(trap(sleep)), deadline_s=20.0) as scorer:
            scorer._deadline_s = 0.3
            first = pid_of(scorer)
            began = time.monotonic()
            with pytest.raises(TimeoutError, match=r"did not answer 1 rows within 0\.3 s"):
                await scorer.score(one(100))
            assert time.monotonic() - began < 30, "the model sleeps for a minute"
            scorer._deadline_s = 20.0
            assert (await scorer.score(one(5))).tolist() == [[0.5]]
            assert pid_of(scorer) != first
            assert not psutil.pid_exists(first)

    asyncio.run(live())


def test_closing_right_after_a_timeout_leaves_no_child(make: Make) -> None:
    def sleep(X: Any) -> None:  # noqa: N803
        if (X["hour"] > 99).any():
            time.sleep(60)

    async def live() -> int:
        async with running(make(trap(sleep))) as scorer:
            scorer._deadline_s = 0.2
            first = pid_of(scorer)
            with pytest.raises(TimeoutError):
                await scorer.score(one(100))
        with pytest.raises(ScoringError, match="is not running"):
            await scorer.score(one(5))
        return first

    pid = asyncio.run(live())
    assert not psutil.pid_exists(pid)
    left = [child.cmdline() for child in psutil.Process().children()]
    assert [words for words in left if "passerelle.bundle.worker" in words] == []


def test_a_cancelled_batch_does_not_answer_the_next(make: Make) -> None:
    class Slow:
        classes_ = (False, True)

        def predict_proba(self, X: Any) -> Any:  # noqa: N803
            if len(X) == 1:
                time.sleep(0.5)
            p = X["hour"].to_numpy() / 1000
            return np.column_stack([1 - p, p])

    async def live() -> None:
        async with running(make(Slow())) as scorer:
            given_up = asyncio.create_task(scorer.score(one(100)))
            await asyncio.sleep(0.1)
            given_up.cancel()
            with pytest.raises(asyncio.CancelledError):
                await given_up
            assert (await scorer.score(one(7))).tolist() == [[0.007]]

    asyncio.run(live())


def test_crash_fails_its_batch_and_the_next_is_answered(make: Make) -> None:
    def crash(X: Any) -> None:  # noqa: N803
        if (X["hour"] > 99).any():
            os.kill(os.getpid(), signal.SIGSEGV if (X["hour"] > 100).any() else signal.SIGKILL)

    async def live() -> None:
        async with running(make(trap(crash))) as scorer:
            with pytest.raises(ScoringError, match=r"killed by SIGSEGV; its last words: File .* in crash File .* in "):
                await scorer.score(one(101))
            with pytest.raises(ScoringError, match="the model's process was killed by SIGKILL"):
                await scorer.score(one(100))
            assert (await scorer.score(one(5))).tolist() == [[0.5]]
            # Killed from outside while idle: replaced before anyone asks.
            first = pid_of(scorer)
            os.kill(first, signal.SIGKILL)
            for _ in range(200):
                await asyncio.sleep(0.05)
                if scorer._child is not None and pid_of(scorer) != first:
                    break
            assert (await scorer.score(one(5))).tolist() == [[0.5]]

    asyncio.run(live())


def test_a_batch_whose_process_is_killed_from_outside_is_answered_all_the_same(make: Make, tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    def once(X: Any) -> None:  # noqa: N803
        if (X["hour"] > 99).any() and not seen.exists():
            seen.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    async def live() -> None:
        async with running(make(trap(once))) as scorer:
            assert (await scorer.score(one(100))).shape == (1, 1)

    asyncio.run(live())
    assert seen.exists()


def test_what_is_killed_from_outside_is_said_to_be(make: Make) -> None:
    here = os.getpid()  # which answers the golden rows

    def always(_: Any) -> None:
        if os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)

    def late(X: Any) -> None:  # noqa: N803
        if (X["hour"] > 99).any():
            os.kill(os.getpid(), signal.SIGKILL)

    async def live() -> None:
        with pytest.raises(ScorerKilledError, match="was killed by SIGKILL"):
            async with running(make(trap(always))):
                pass
        async with running(make(trap(late)), deadline_s=0.3) as scorer:
            with pytest.raises(KilledError, match=r"started again \(.* was killed by SIGKILL"):
                await compare(scorer, Answers(inputs=one(100), outputs=np.array([[0.5]])), task="binary")

    asyncio.run(live())


def test_circuit_opens_after_deaths_in_a_row_and_closes_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "DEATHS", 2)
    monkeypatch.setattr(process, "COOL_S", 0.5)

    def crash(X: Any) -> None:  # noqa: N803
        if (X["hour"] > 99).any():
            os._exit(3)

    async def live() -> None:
        async with running(make(trap(crash))) as scorer:
            for _ in range(2):
                with pytest.raises(ScoringError, match="ended by itself with exit code 3"):
                    await scorer.score(one(100))
            with pytest.raises(ScoringError, match=r"died 2 times in a row and is not asked now.*exit code 3"):
                await scorer.score(one(5))
            await asyncio.sleep(0.6)
            assert (await scorer.score(one(5))).tolist() == [[0.5]]
            assert scorer._deaths == 0

    asyncio.run(live())


def start_fails(bundle: Bundle, **keywords: Any) -> str:
    async def live() -> None:
        async with running(bundle, **keywords):
            pass

    with pytest.raises(BundleError) as caught:
        asyncio.run(live())
    return str(caught.value)


def test_interpreter_that_is_gone_is_named(make: Make) -> None:
    message = start_fails(make(python="/nowhere/bin/python"))
    assert "/nowhere/bin/python, the interpreter that" in message
    assert "No such file" in message


def test_interpreter_without_passerelle_is_told_what_to_install(make: Make) -> None:
    bare = str(Path(sys.base_prefix, "bin", f"python{sys.version_info.major}"))
    assert "-m pip install passerelle" in start_fails(make(), python=bare)


def test_model_whose_import_fails_is_named(make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_project.py").write_text("def features(frame):\n    return frame\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_project  # type: ignore[import-not-found]

    message = start_fails(make(features=my_project.features))
    assert "cannot be loaded in a clean process: ModuleNotFoundError: No module named 'my_project'" in message


def test_golden_rows_that_do_not_reproduce_name_the_versions(make: Make, rows: Any) -> None:
    wrong = Answers(inputs=rows(), outputs=np.full((30, 1), 0.25))
    message = start_fails(make(golden=wrong, packages={"pandas": "1.5.3", "numpy": np.__version__}))
    assert "does not reproduce its golden rows" in message
    assert "the notebook [0.25]" in message
    assert "pandas 1.5.3 is now" in message
    assert "numpy" not in message.partition("Its packages")[2]
    assert "Its packages are those it was trained with" in start_fails(make(golden=wrong))


def test_other_versions_are_fine_while_golden_rows_reproduce(make: Make) -> None:
    async def live() -> None:
        async with running(make(packages={"pandas": "1.5.3"})) as scorer:
            assert (await scorer.score(one(5))).shape == (1, 1)

    asyncio.run(live())


def test_model_changed_after_verification_is_not_loaded(make: Make, tmp_path: Path) -> None:
    bundle = make()
    canary = tmp_path / "canary"
    (bundle.path / "model.pkl").write_bytes(b"cposix\nsystem\n(S'touch %b'\ntR." % str(canary).encode())
    assert "model.pkl was changed after the bundle was verified" in start_fails(bundle)
    assert not canary.exists()


def test_child_dies_with_its_parent(make: Make) -> None:
    bundle = make()
    program = f"""
        import asyncio, os, signal
        from pathlib import Path
        from passerelle.bundle.process import ProcessScorer
        from passerelle.bundle.verify import verify

        async def live():
            path = Path({str(bundle.path)!r})
            scorer = ProcessScorer(path, verify(path).manifest, path.name, deadline_s=20)
            await scorer.start()
            print(scorer._child._process.pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(live())
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, check=False)
    pid = int(done.stdout)
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.02)
    pytest.fail(f"the child {pid} outlived its parent")


def test_the_parents_side_loads_nothing_heavy() -> None:
    heavy = "{'pandas', 'pyarrow', 'sklearn', 'mlflow'}"
    program = f"import sys, passerelle.bundle.process; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"
