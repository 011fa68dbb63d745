"""Evaluation clips to the candidate and to the stable revision, before any user reaches the candidate."""

import statistics
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jiwer

from pipelines.data.manifest import Utterance, read_audio, read_manifest, sample
from pipelines.rollout.answers import TAGS, Answer, Answers, Asked, BadAnswer
from pipelines.rollout.judge import Judgement
from pipelines.rollout.plan import ReplayBounds


@dataclass(frozen=True, slots=True)
class Clip:
    """``audio``: bytes of the file."""

    utterance: Utterance
    audio: bytes


def read_clips(manifest: Path, n: int) -> list[Clip]:
    """``n`` clips, spread evenly over the set.

    Raises:
        InvalidManifest: see :func:`~pipelines.data.manifest.read_manifest`.
        OSError: a clip cannot be read.
    """
    chosen = sample(read_manifest(manifest), n)
    return [Clip(one, read_audio(manifest, one)) for one in chosen]


@dataclass(slots=True)
class Replay:
    """What the clips came to.

    Attributes:
        clips: how many the candidate was given.
        errors: why it did not answer, by clip.
        compared: clips that both revisions answered.
        changed: ids of those whose normalised texts differ.
        flips: kind of tag → ids of those whose tags differ.
        ratios: candidate's seconds divided by the stable revision's, a clip each.
        references, hypotheses: normalised texts of the labelled clips that the candidate answered.
    """

    clips: int = 0
    errors: dict[str, str] = field(default_factory=dict)
    compared: int = 0
    changed: list[str] = field(default_factory=list)
    flips: dict[str, list[str]] = field(default_factory=lambda: {kind: [] for kind in TAGS})
    ratios: list[float] = field(default_factory=list)
    references: list[str] = field(default_factory=list)
    hypotheses: list[str] = field(default_factory=list)

    @property
    def cer(self) -> float | None:
        """Character error rate against the labels; None where there are none."""
        return float(jiwer.cer(self.references, self.hypotheses)) if self.references else None

    @property
    def latency_ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.ratios else None


def replay(
    answers: Answers,
    clips: Sequence[Clip],
    candidate: Asked,
    stable: Asked | None,
    between: Callable[[], object],
) -> Replay:
    """Each clip to both revisions, one after the other, in turns first: both meet the same machine.

    Args:
        stable: None where there is none.
        between: called before each request.
    """

    def ask(asked: Asked | None, clip: Clip) -> Answer | BadAnswer:
        between()
        return _ask(answers, asked, clip)

    result = Replay()
    for clip in clips[:1]:  # What the first request of a process costs says nothing of the others.
        ask(candidate, clip)
        ask(stable, clip)
    for index, clip in enumerate(clips):
        if index % 2:
            theirs, mine = ask(stable, clip), ask(candidate, clip)
        else:
            mine, theirs = ask(candidate, clip), ask(stable, clip)
        _add(result, clip.utterance, mine, theirs)
    return result


def _ask(answers: Answers, asked: Asked | None, clip: Clip) -> Answer | BadAnswer:
    if asked is None or asked.revision.url is None:
        return BadAnswer("nothing to ask")
    try:
        answer = answers.transcribe(asked.revision.url, clip.audio)
    except BadAnswer as error:
        return error
    stranger = asked.stranger(answer.identity)
    return BadAnswer(stranger) if stranger else answer


def _add(
    result: Replay, utterance: Utterance, mine: Answer | BadAnswer, theirs: Answer | BadAnswer
) -> None:
    result.clips += 1
    if isinstance(mine, BadAnswer):
        result.errors[utterance.id] = str(mine)
        return
    if utterance.text and (reference := _normalised(utterance.text)):
        result.references.append(reference)
        result.hypotheses.append(_normalised(mine.text))
    if isinstance(theirs, BadAnswer):  # A broken stable revision must not keep its cure away.
        return
    result.compared += 1
    result.ratios.append(mine.seconds / theirs.seconds)
    if _normalised(mine.text) != _normalised(theirs.text):
        result.changed.append(utterance.id)
    for kind in TAGS:
        if mine.tags[kind] != theirs.tags[kind]:
            result.flips[kind].append(utterance.id)


def _normalised(text: str) -> str:
    """Letters and digits alone, in lower case and of one width."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(letter for letter in folded if letter.isalnum())


def judge_replay(bounds: ReplayBounds, found: Replay) -> Judgement:
    """Against the plan's bounds."""
    broken = []
    if len(found.errors) > bounds.max_errors:
        clip, why = next(iter(found.errors.items()))
        broken.append(
            f"{len(found.errors)} of {found.clips} clips without an answer, more than "
            f"{bounds.max_errors} (first {clip}: {why})"
        )
    shares = {"texts": (found.changed, bounds.max_changed_texts)}
    shares |= {
        f"{kind} tags": (found.flips[kind], getattr(bounds.max_tag_flips, kind)) for kind in TAGS
    }
    for what, (ids, bound) in shares.items():
        if found.compared and len(ids) / found.compared > bound:
            broken.append(
                f"{len(ids)} of {found.compared} {what} differ from the stable revision's, more than "
                f"{bound:.0%} (first {ids[0]})"
            )
    if found.cer is not None and found.cer > bounds.max_cer:
        broken.append(
            f"character error rate {found.cer:.1%} against the labels, more than {bounds.max_cer:.1%}"
        )
    ratio = found.latency_ratio
    if ratio is not None and ratio > bounds.max_latency_ratio:
        broken.append(
            f"answers take {ratio:.2f} times the stable revision's, more than "
            f"{bounds.max_latency_ratio}"
        )
    if broken:
        return Judgement("fail", "replay: " + "; ".join(broken))
    flips = ", ".join(f"{kind} {len(ids)}" for kind, ids in found.flips.items())
    figures = f"{found.clips} clips, {len(found.changed)} texts changed, tags changed: {flips}"
    figures += f", CER {found.cer:.1%}" if found.cer is not None else ""
    figures += f", latency ratio {ratio:.2f}" if ratio is not None else ""
    return Judgement("pass", f"replay: {figures}")
