"""A Teaching that writes what it is told, one JSON object a line."""

import json
from dataclasses import dataclass
from pathlib import Path

from agent.loop import Agent


@dataclass(frozen=True, slots=True)
class Noted:
    id: str
    needs_answer: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    path: Path

    def write(self, kind: str, agent: Agent, answer: str) -> Noted:
        row = {"kind": kind, "question": agent.exchanges[-1].question, "answer": answer}
        with self.path.open("a", encoding="utf-8") as sink:
            sink.write(json.dumps(row, ensure_ascii=False) + "\n")
        return Noted(f"{kind}-1", needs_answer=kind == "bad" and not answer)

    def teach(self, agent: Agent, answer: str) -> Noted:
        return self.write("teach", agent, answer)

    def good(self, agent: Agent) -> Noted:
        return self.write("good", agent, agent.exchanges[-1].answer)

    def bad(self, agent: Agent, correction: str = "") -> Noted:
        return self.write("bad", agent, correction)

    def mend(self, agent: Agent) -> tuple[Noted, ...]:
        return tuple(Noted("repair-1") for _ in agent.exchanges[-1].repairs)
