"""Made-up language: words by a Zipf-Mandelbrot law, with phrases, numbers, links, names and code."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

HERE = Path(__file__).parent
COMMON = (HERE / "words.txt").read_text(encoding="utf-8").split()
PHRASES = (HERE / "phrases.txt").read_text(encoding="utf-8").splitlines()
EMOJI = (
    "+1",
    "white_check_mark",
    "tada",
    "smile",
    "heart",
    "eyes",
    "rocket",
    "pray",
    "fire",
    "100",
)
CODE = (
    "    for {0} in {1}:",
    "        return {0}.{1}({2})",
    "if err := {0}({1}); err != nil {{",
    "SELECT {0}, {1} FROM {2} WHERE id = {3};",
    "export {0}={1}",
    "$ kubectl get {0} -n {1}",
    '  "{0}": "{1}",',
    "at com.{0}.{1}({2}.java:{3})",
    "{0}: {1} ({2}) # {3}",
    "}}",
    "",
)
STARTS = (
    *"bcdfghjklmnprstvwz",
    "br",
    "cl",
    "dr",
    "fl",
    "gr",
    "pl",
    "pr",
    "sh",
    "sk",
    "sp",
    "st",
    "th",
    "tr",
)
VOWELS = (*"aeiou", "ai", "ea", "io", "ou")
SYLLABLES = [start + vowel for start in STARTS for vowel in VOWELS]
ENDINGS = [
    "",
    "n",
    "r",
    "s",
    "t",
    "l",
    "m",
    "ing",
    "ed",
    "er",
    "ion",
    "ly",
    "ment",
    "able",
    "ness",
    "x",
]
VOCABULARY = 26000
ID_TABLE = bytes(b"ybndrfg8ejkmcpqxot1uwisza345h769"[byte & 31] for byte in range(256))


def random_bytes(rng: random.Random, count: int) -> bytes:
    """Bytes that do not compress."""
    return rng.getrandbits(8 * count).to_bytes(count, "little") if count else b""


def new_ids(rng: random.Random, count: int) -> list[str]:
    """Ids of 26 characters in Mattermost's alphabet."""
    text = random_bytes(rng, 26 * count).translate(ID_TABLE).decode()
    return [text[start : start + 26] for start in range(0, 26 * count, 26)]


def vocabulary() -> list[str]:
    """The words, the most frequent first; the same language for every seed."""
    rng = random.Random(4711)
    words = list(dict.fromkeys(COMMON))
    for place, phrase in enumerate(PHRASES):
        words.insert(12 + 3 * place, phrase)
    seen = set(words)
    while len(words) < VOCABULARY:
        syllables = rng.choice((1, 2, 2, 2, 3, 3))
        word = "".join(rng.choice(SYLLABLES) for _ in range(syllables)) + rng.choice(ENDINGS)
        if word not in seen:
            seen.add(word)
            words.append(word)
    return words


class Text:
    """What people and programs write, from one source of chance."""

    def __init__(self, rng: random.Random) -> None:
        self.rng, self.words = rng, vocabulary()
        weights = (1.0 / (rank + 2.7) ** 1.02 for rank in range(len(self.words)))
        self._cumulated = list(itertools.accumulate(weights))

    def take(self, count: int) -> list[str]:
        """Words by their frequency."""
        return self.rng.choices(self.words, cum_weights=self._cumulated, k=count)

    def special(self) -> str:
        """A number, a name, a ticket, a link, an emoji or a hash."""
        rng, chance = self.rng, self.rng.random()
        if chance < 0.35:
            return str(int(rng.lognormvariate(5, 2.5)))
        if chance < 0.55:
            return f"@{self.words[rng.randrange(400, 1900)]}"
        if chance < 0.70:
            return f"{rng.choice(('OPS', 'DEV', 'MM', 'CRM'))}-{rng.randrange(1, 60000)}"
        if chance < 0.85:
            host, path = rng.choice(("git", "wiki", "ci", "docs")), rng.choices(self.words, k=2)
            return f"https://{host}.example.com/{path[0]}/{path[1]}/{rng.randrange(1, 99999)}"
        return f":{rng.choice(EMOJI)}:" if chance < 0.95 else f"{rng.getrandbits(40):010x}"

    def sentence(self, count: int) -> str:
        """So many words; some begin with a capital, some have something special among them."""
        words = self.take(count)
        if self.rng.random() < 0.22:
            words[self.rng.randrange(count)] = self.special()
        text = " ".join(words)
        return text[0].upper() + text[1:] if self.rng.random() < 0.6 else text

    def prose(self, count: int) -> str:
        """About so many words: sentences, now and then a new paragraph or a list."""
        pieces = []
        while count > 0:
            length = min(count, 3 + int(self.rng.expovariate(1 / 8.0)))
            ending = self.rng.choice((".", ".", ".", "?", "!", "", ":", ".\n", ",\n- "))
            pieces.append(self.sentence(length) + ending)
            count -= length
        return " ".join(pieces)

    def code(self, lines: int) -> str:
        """A fenced block."""
        rng = self.rng
        listed = (
            rng.choice(CODE).format(*self.take(3), rng.randrange(10 ** rng.randrange(1, 7)))
            for _ in range(lines)
        )
        return "```\n" + "\n".join(listed) + "\n```"

    def message(self) -> str:
        """A post: mostly a few words, sometimes many, sometimes code."""
        if self.rng.random() < 0.025:
            return f"{self.sentence(5)}\n{self.code(3 + int(self.rng.expovariate(1 / 12.0)))}"
        count = min(2500, max(1, int(self.rng.lognormvariate(2.15, 1.0))))
        return self.sentence(count) if count < 9 else self.prose(count)
