"""All files that would cost much: hours of sound, gigabytes, or a search without an end."""

from tests.reliability.hostile import (
    endless_bombs,
    matroska_bombs,
    mp4_bombs,
    other_bombs,
    xiph_bombs,
)

ENDLESS = endless_bombs.BOMBS
"""Name → seconds → a file that decodes to so many, and is much smaller than what it decodes to."""

COSTLY = mp4_bombs.BOMBS | xiph_bombs.BOMBS | matroska_bombs.BOMBS | other_bombs.BOMBS
"""Name → bytes → a file of about so many that ends in samples or in an error, whichever, but soon."""
