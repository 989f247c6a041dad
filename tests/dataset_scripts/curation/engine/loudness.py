"""A step that no one else knows: adds to each caption what a model says, and how many records there are."""

from __future__ import annotations

from dataclasses import dataclass

from dataset_scripts.curation.models.chat import Chat, Verdict
from dataset_scripts.curation.models.messages import ChatSettings, Request
from dataset_scripts.curation.steps.step import Step


@dataclass
class LoudnessSettings:
    chat: ChatSettings


class Number:
    def __init__(self, counts=None):
        self.counts = counts or {"records": 0}

    def merge(self, other):
        self.counts["records"] += other.counts["records"]

    def to_dict(self):
        return self.counts


class Loudness(Step):
    Settings = LoudnessSettings
    reads = ("caption", "expressions")
    writes = ("caption",)
    asks = "record"

    def __init__(self, settings, surveyed=None):
        super().__init__(settings)
        self.chat = Chat(settings.chat)
        self.number = surveyed

    @classmethod
    def chat_settings(cls, settings):
        return settings.chat

    @classmethod
    def survey(cls, settings):
        return "record_number", Number

    @classmethod
    def report(cls, settings, annotations, seed):
        return {"loudness": "loud" if annotations else "silent"}

    def count(self, batch):
        return Number({"records": len(batch["source_id"])})

    def __call__(self, batch):
        requests = [Request("shout", caption) for caption in batch["caption"]]
        said = self.chat.ask(requests, lambda _, answers: [Verdict(answer.text, 1, 1) for answer in answers])
        ends = [f"{verdict.value} one of {self.number.counts['records']}" for verdict in said]
        return {**batch, "caption": [c + end for c, end in zip(batch["caption"], ends, strict=True)]}
