"""Real model swaps (LLMDrift) as an engine would see them: an agent asks on, and another model answers.

A run asks questions in a seeded order, at first of the old model and from a seeded point on, unannounced, of
the new one; a control goes on with the old one, questions shuffled anew. Names and versions of models are
left out, labels too. Calls are made one after another, each as long as it was recorded to take, a second
apart. Beside the calls there is what its owner could have set up: a quarter of the answers scored by a judge
(where the data say what is right), ten questions of known answer asked again every 25 calls, and an
embedding (a hash of words, for want of a model).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh64_intdigest

from bench import traces
from bench.traces import CHARS_PER_TOKEN, START_MS, Event
from detectors.offline import Engine
from schemas.base import from_epoch_ms
from schemas.event import AGENT_EVENT
from watchkeeper_client.fingerprint import content_hash
from watchkeeper_client.refusal import is_refusal

Regime = Literal["old", "new"]
Variant = Literal["swap", "control", "recorded"]

FILE: Final = "llmdrift.jsonl.gz"
TASKS: Final = {"prime_full": "prime", "opinionqa": "opinion"}
EMBEDDING: Final = 32
JUDGED_SHARE: Final = 0.25
CANARIES: Final = 10
CANARIES_EVERY: Final = 25
PAUSE_MS: Final = 1_000.0


class Answer(NamedTuple):
    """One recorded answer; `correct` is None where the data do not say."""

    question: int
    input_tokens: int
    output_tokens: int
    duration_ms: float
    cost_usd: float
    refusal: bool
    correct: bool | None
    output_chars: int
    output_hash: str
    embedding: list[float]


@dataclass(frozen=True, slots=True)
class Case:
    """A task and a model family; both models' answers to the same questions, in the order recorded."""

    task: str
    family: str
    old: list[Answer] = field(default_factory=list)
    new: list[Answer] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.family}, {self.task}"

    def of(self, regime: Regime) -> list[Answer]:
        """The answers of one model."""
        return self.old if regime == "old" else self.new


class Plan(NamedTuple):
    """A run: answers in order, how many come before the swap, and the canaries' answers before and after."""

    case: str
    variant: Variant
    seed: int
    answers: list[Answer]
    onset: int
    canaries: tuple[list[Answer], list[Answer]]


class Alarm(NamedTuple):
    """A detection and how many calls had been made when the engine said it."""

    detector: str
    severity: str
    calls: int
    summary: str


@dataclass(slots=True)
class Outcome:
    """What came of a run; the plan's answers only as what is needed for a plot."""

    case: str
    variant: Variant
    seed: int
    onset: int
    output_tokens: list[int]
    durations_ms: list[float]
    refusals: list[bool]
    alarms: list[Alarm] = field(default_factory=list)

    def first(self, detectors: Callable[[str], bool], severities: tuple[str, ...]) -> Alarm | None:
        """The first alarm at or after the onset by one of the detectors."""
        return next(
            (
                alarm
                for alarm in self.alarms
                if alarm.calls > self.onset and alarm.severity in severities and detectors(alarm.detector)
            ),
            None,
        )

    def delay(self, alarm: Alarm) -> int:
        """Calls after the swap up to the alarm."""
        return alarm.calls - self.onset

    def tokens(self, alarm: Alarm) -> int:
        """Output tokens of those calls."""
        return sum(self.output_tokens[self.onset : alarm.calls])


def load(path: Path) -> list[Case]:
    """The cases of the trace file. Raises `OSError` when it cannot be read."""
    found: dict[tuple[str, str], Case] = {}
    numbers: dict[str, dict[str, int]] = defaultdict(dict)
    for line in traces.lines(path):
        label = line["label"]
        task = TASKS[label["task"]]
        case = found.setdefault((label["family"], task), Case(task, label["family"]))
        known = numbers[task]
        question = known.setdefault(line["args"]["query"], len(known))
        case.of(label["regime"]).append(_answer(line, question))
    return [found[key] for key in sorted(found)]


def plan(case: Case, variant: Variant, seed: int) -> Plan:
    """A run of a case. A recorded one asks the old model in the recorded order and has no swap."""
    rng = np.random.default_rng([seed, xxh64_intdigest(case.name.encode()) % 2**32])
    # What the old model got wrong cannot be a question of known answer.
    right = [answer for answer in case.old if answer.correct is not False]
    chosen = {right[int(at)].question for at in rng.permutation(len(right))[:CANARIES]}
    canaries = (_by_question(case.old, chosen), _by_question(case.new, chosen))
    if variant == "recorded":
        return Plan(case.name, variant, seed, list(case.old), len(case.old), (canaries[0], canaries[0]))
    onset = int(rng.integers(len(case.old) // 2, len(case.old)))
    before = [case.old[int(at)] for at in rng.permutation(len(case.old))[:onset]]
    later = case.new if variant == "swap" else case.old
    after = [later[int(at)] for at in rng.permutation(len(later))]
    if variant == "control":
        canaries = (canaries[0], canaries[0])
    return Plan(case.name, variant, seed, before + after, onset, canaries)


def events(run: Plan) -> Iterator[tuple[int, Event]]:
    """The agent events, each with the number of calls made up to and including it."""
    rng = np.random.default_rng([run.seed, 1])
    clock_ms, number = float(START_MS), 0
    for calls, answer in enumerate(run.answers, start=1):
        after = calls > run.onset
        if calls % CANARIES_EVERY == 0:
            clock_ms += PAUSE_MS
            for canary in _canaries(run, after):
                number += 1
                yield calls, _event(number, clock_ms, f"canary-{calls}", canary)
        bodies: list[Event] = [{"type": "session.start"}]
        bodies.append(_call(answer))
        if answer.correct is not None and rng.random() < JUDGED_SHARE:
            bodies.append({"type": "evaluation", "name": "correctness", "score": float(answer.correct)})
        bodies.append({"type": "session.end", "outcome": "completed"})
        for body in bodies:
            clock_ms += answer.duration_ms if body["type"] == "llm.call" else 0.0
            number += 1
            yield calls, _event(number, clock_ms, f"ask-{calls}", body)
        clock_ms += PAUSE_MS


def play(run: Plan) -> Outcome:
    """The run through the whole engine."""
    outcome = Outcome(
        run.case,
        run.variant,
        run.seed,
        run.onset,
        [answer.output_tokens for answer in run.answers],
        [answer.duration_ms for answer in run.answers],
        [answer.refusal for answer in run.answers],
    )
    engine = Engine()
    for calls, event in events(run):
        for found in engine.process(AGENT_EVENT.validate_python(event)):
            outcome.alarms.append(Alarm(found.detector, found.severity, calls, found.summary))
    return outcome


def play_all(plans: list[Plan], workers: int, done: Callable[[], Any]) -> list[Outcome]:
    """All runs, in so many processes."""
    outcomes = []
    if workers == 1:
        for each in plans:
            outcomes.append(play(each))
            done()
        return outcomes
    with ProcessPoolExecutor(workers) as pool:
        for outcome in pool.map(play, plans):
            outcomes.append(outcome)
            done()
    return outcomes


def embed(text: str) -> list[float]:
    """The words of a text hashed into 32 signed sums (Weinberger et al., "Feature Hashing for Large Scale
    Multitask Learning", 2009), of length one.
    """
    vector: NDArray[np.float64] = np.zeros(EMBEDDING)
    for word in text.lower().split():
        digest = xxh64_intdigest(word.encode())
        vector[digest % EMBEDDING] += 1.0 if digest >> 63 else -1.0
    length = float(np.linalg.norm(vector))
    unit: list[float] = np.round(vector / length, 5).tolist() if length else []
    return unit


def _answer(line: dict[str, Any], question: int) -> Answer:
    text = line.get("content", "")
    return Answer(
        question=question,
        input_tokens=len(line["args"]["query"]) // CHARS_PER_TOKEN,
        output_tokens=int(line["tokens_out"]),
        duration_ms=1_000 * float(line["latency_s"]),
        cost_usd=float(line["cost"]),
        refusal=is_refusal(text),
        correct=line["label"]["correct"],
        output_chars=len(text),
        output_hash=content_hash(text),
        embedding=embed(text),
    )


def _by_question(answers: list[Answer], questions: set[int]) -> list[Answer]:
    return list({each.question: each for each in answers if each.question in questions}.values())


def _canaries(run: Plan, after: bool) -> Iterator[Event]:
    """Passed is what is right, and where the data do not say what is, what was answered at first."""
    expected = {each.question: each for each in run.canaries[0]}
    for each in run.canaries[after]:
        known = expected[each.question]
        passed = each.correct if each.correct is not None else each.output_hash == known.output_hash
        yield {"type": "canary", "canary": f"known-{each.question}", "passed": passed}


def _call(answer: Answer) -> Event:
    return {
        "type": "llm.call",
        "request_model": "hidden",
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
        "cost_usd": answer.cost_usd,
        "duration_ms": answer.duration_ms,
        "refusal": answer.refusal,
        "output_chars": answer.output_chars,
        "output_hash": answer.output_hash,
        "embedding": answer.embedding or None,
        "status": "ok",
    }


def _event(number: int, clock_ms: float, session: str, body: Event) -> Event:
    return {
        "event_id": f"e{number}",
        "time": from_epoch_ms(clock_ms),
        "agent": "asker",
        "session": session,
        **body,
    }
