"""R 25: an agent that was concise turns to slang and emoji."""

from __future__ import annotations

import random

from drills.script import Act, Drill, Script, llm_call

_HEALTHY_ANSWERS = 1_500
_MOST_DRIFTED_ANSWERS = 400
_DIMENSIONS = 24
_STYLE = 0.12


def script(rng: random.Random, run: str) -> Script:
    """Answers on five topics, embedded. From some answer on they are chatty, half as long again, and of
    another tone: the embeddings shift a little, the same way whatever the topic.
    """
    topics = [[rng.gauss(0.0, 0.2) for _ in range(_DIMENSIONS)] for _ in range(5)]
    style = [rng.choice((-_STYLE, _STYLE)) for _ in range(_DIMENSIONS)]
    for number in range(_HEALTHY_ANSWERS + _MOST_DRIFTED_ANSWERS):
        drifted = number >= _HEALTHY_ANSWERS
        session = f"style-drift-{run}-{number}"
        topic = topics[min(int(rng.expovariate(0.8)), 4)]
        embedding = [
            round(rng.gauss(place, 0.15) + (shift if drifted else 0.0), 4)
            for place, shift in zip(topic, style, strict=True)
        ]
        tokens = int(rng.lognormvariate(4.4, 0.35) * (1.5 if drifted else 1.0)) + 1
        verdict = yield llm_call(
            "Concierge", session, output_tokens=tokens, embedding=embedding, faulty=drifted, pause_ms=20
        )
        if not verdict.allowed:
            return
        yield Act("Concierge", session, "session.end", {"outcome": "completed"}, gated=False, pause_ms=0)


DRILL = Drill(
    name="style-drift",
    requirement=25,
    story="A concise agent turned to slang and emoji",
    detectors=("output_length", "embedding_drift"),
    make=script,
    within_events=150,
    seconds=90.0,
)
