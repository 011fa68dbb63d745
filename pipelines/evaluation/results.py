"""The values that an evaluation comes to. All rates and shares lie in [0, 1] (error rates may exceed 1)."""

from typing import Literal

from pydantic import BaseModel, ConfigDict


class Result(BaseModel):
    """Immutable, and JSON both ways."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(Result):
    """A measured value with its 95 % bootstrap interval over utterances; None: no estimate."""

    value: float
    low: float | None
    high: float | None


class ErrorRate(Result):
    """Errors over reference units: characters (CER) or words (WER), after normalisation.

    Attributes:
        metric: CER for zh, yue, ja and ko, WER for en.
        utterances: how many were counted.
        units: of the references.
        rate: (substitutions + deletions + insertions) / units.
    """

    metric: Literal["CER", "WER"]
    utterances: int
    units: int
    substitutions: int
    deletions: int
    insertions: int
    rate: Interval


class Worst(Result):
    """An utterance with many errors; texts as normalised."""

    id: str
    language: str
    reference: str
    hypothesis: str
    errors: int
    rate: float


class Failure(Result):
    """An utterance without a transcript."""

    id: str
    error: str


class Accuracy(Result):
    """
    Attributes:
        languages: by reference language.
        slices: by kind (``duration``, ``noise``, ``emotion``), then ``<language> <value>`` (``zh 2-5 s``).
        worst: the utterances with most errors, worst first.
        failures: what could not be transcribed; each counts as all its units deleted.
        silent_utterances: utterances whose reference text is empty.
        silent_with_text: how many of them were given a text.
    """

    languages: dict[str, ErrorRate]
    slices: dict[str, dict[str, ErrorRate]]
    worst: list[Worst]
    failures: list[Failure]
    silent_utterances: int
    silent_with_text: int


class Bin(Result):
    """Predictions with like confidence: their mean confidence, share correct, and number."""

    confidence: float
    accuracy: float
    count: int


class Classification(Result):
    """One kind of tag under one protocol.

    Attributes:
        labels: rows and columns of ``confusion``: every label in references or predictions.
        confusion: [reference][prediction] → utterances.
        utterances: how many were counted.
        weighted_accuracy: share correct (WA).
        unweighted_accuracy: mean recall over the reference labels (UA).
        macro_f1, weighted_f1: over the reference labels.
        f1: of each reference label.
        calibration_error: expected calibration error (Guo et al. 2017) of the chosen label's probability,
            in 15 bins of equal width.
        reliability: the bins that hold anything.
    """

    labels: list[str]
    confusion: list[list[int]]
    utterances: int
    weighted_accuracy: Interval
    unweighted_accuracy: Interval
    macro_f1: float
    weighted_f1: float
    f1: dict[str, float]
    calibration_error: float
    reliability: list[Bin]


class Tags(Result):
    """None where no utterance has such a label.

    Attributes:
        emotion_four: SenseVoice's published protocol: utterances labelled HAPPY, SAD, ANGRY or NEUTRAL, the
            answer the most probable of those four (EMO_UNKNOWN banned; SenseVoice issue 31).
        emotion_open: every labelled utterance, and whatever the model answers.
    """

    language: Classification | None
    emotion_four: Classification | None
    emotion_open: Classification | None
    event: Classification | None


class Difference(Result):
    """Candidate minus champion over the same utterances.

    Attributes:
        delta: with its paired bootstrap interval; above 0 is worse for error rates, better for accuracies.
    """

    candidate: float
    champion: float
    delta: Interval
    utterances: int


class Flip(Result):
    """An utterance that the two models tag differently."""

    id: str
    kind: Literal["language", "emotion", "event"]
    reference: str | None
    champion: str
    candidate: str


class Comparison(Result):
    """
    Attributes:
        error_rates: by language.
        tags: weighted accuracy by kind of tag (``language``, ``emotion_four``, ``event``).
        flips: every tag that differs.
        changed_texts: share of utterances whose normalised texts differ.
    """

    error_rates: dict[str, Difference]
    tags: dict[str, Difference]
    flips: list[Flip]
    changed_texts: float


class Speed(Result):
    """One model on one machine.

    Attributes:
        real_time_factor: wall seconds for each second of audio, clip after clip.
        p50_s, p95_s: wall seconds a clip.
        cold_start_s: process start to first transcript.
        memory_mb: peak resident memory in MiB.
    """

    real_time_factor: float
    p50_s: float
    p95_s: float
    cold_start_s: float
    memory_mb: float


class SpeedComparison(Result):
    """Candidate and champion in interleaved rounds of one run; ratios are candidate / champion."""

    machine: str
    clips: int
    audio_s: float
    candidate: Speed
    champion: Speed | None
    ratios: dict[str, float]


class ParityResult(Result):
    """Engine beside FunASR: see :class:`pipelines.steps.parity.Parity`."""

    n_clips: int
    seconds: float
    parameters: int
    features: float
    features_beyond: float
    logits: float
    token_mismatches: int
    batch_mismatches: int
    held: bool


class Evaluation(Result):
    """All that the gate judges and the report shows; None: not measured.

    Attributes:
        model: the candidate's digest.
        data: digest of the data set's manifest.
        champion: the champion's digest; empty where there is none.
    """

    model: str
    data: str
    champion: str
    accuracy: Accuracy
    tags: Tags
    comparison: Comparison | None = None
    speed: SpeedComparison | None = None
    parity: ParityResult | None = None


class Verdict(Result):
    """A rule's answer.

    Attributes:
        rule: the rule's name.
        outcome: ``inconclusive`` where figures are missing or their interval holds the bound.
        reason: the figures against the bound, as a person reads them.
        refuses: the model must not be released for this: a failure, or a rule that must be conclusive was
            not.
    """

    rule: str
    outcome: Literal["pass", "fail", "inconclusive"]
    reason: str
    refuses: bool


class Gated(Result):
    """What the gate says."""

    verdicts: list[Verdict]

    @property
    def passed(self) -> bool:
        return not self.refusal

    @property
    def refusal(self) -> str:
        """Every rule that refuses, with its reason; empty where none does."""
        reasons = [f"{one.rule}: {one.reason}" for one in self.verdicts if one.refuses]
        return f"the gate refuses the model: {'; '.join(reasons)}" if reasons else ""
