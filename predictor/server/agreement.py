"""Which words of a sentence that is still being spoken are settled.

Each partial transcript hears the sentence from its start again, and may change its mind about the end. What
two in a row agree on hardly changes (LocalAgreement-2, Liu et al. 2020), so only that is given away.
"""

from itertools import takewhile

from predictor.engine.rich_text import is_punctuation
from predictor.engine.tokenizer import is_unspaced


class Agreement:
    """The settled text of one turn: it only ever grows."""

    def __init__(self) -> None:
        self.settled = ""
        self.partial = ""

    def hear(self, partial: str) -> str:
        """Take the next partial transcript.

        Returns:
            What is settled now and was not before; often nothing.
        """
        pairs = zip(self.partial, partial, strict=False)
        common = "".join(ours for ours, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        self.partial = partial
        return self._settle(_whole_words(common, partial))

    def end(self, transcript: str) -> str:
        """Take the last word on it.

        Returns:
            The rest of it; empty where it is not what was settled.
        """
        return self._settle(transcript)

    def _settle(self, text: str) -> str:
        if not text.startswith(self.settled):
            return ""
        added = text[len(self.settled) :]
        self.settled = text
        return added


def _whole_words(prefix: str, text: str) -> str:
    """The prefix without its last word, unless the text goes on with a space behind it. Signs at its
    end wait for what follows: a full stop may yet become a comma."""
    while prefix and not (
        is_unspaced(prefix[-1]) or (text[len(prefix) :].startswith(" ") and prefix[-1] != " ")
    ):
        prefix = prefix[:-1]
    while prefix and is_punctuation(prefix[-1]):
        prefix = prefix[:-1]
    return prefix
