"""Who and where: ids that tables and files share, from seed, scale and night alone."""

from __future__ import annotations

import bisect
import datetime
import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.data.text import Text, new_ids

# At scale 1.
POSTS, FILES, FILE_BYTES, PLUGIN_BYTES = 1_850_000, 6000, 2.0e9, 20.0e6
USERS, CHANNELS, TEAMS, SESSIONS = 1500, 2500, 8, 9000
SMALLEST, LARGEST = 4 << 10, 40 << 20  # bytes of a file
DAYS, FIRST_DAY = 900, datetime.date(2022, 1, 3)
EPOCH, DAY = datetime.date(1970, 1, 1), 86_400_000  # milliseconds
GROWTH = 0.01  # of posts and files, a night
SOFT = ("txt", "log", "log", "csv", "json")
PICTURES = ("jpg", "jpg", "png")
HARD = ("mp4", "zip", "pdf", "pdf", "zip")


@dataclass(frozen=True)
class Upload:
    """A file that somebody attached; a picture also brings a preview and a thumbnail."""

    id: str
    post: str
    user: str
    channel: str
    at: int  # milliseconds since 1970
    extension: str
    size: int
    name: str
    stem: str  # its path below the data folder, without the extension
    seed: int

    @property
    def path(self) -> str:
        return f"{self.stem}.{self.extension}"

    @property
    def is_picture(self) -> bool:
        return self.extension in ("jpg", "png")


class Plan:
    """What one unit of scale has, in proportion, or what one night adds to it."""

    def __init__(self, seed: int, scale: float, night: int) -> None:
        self.seed, self.scale, self.night = seed, scale, night
        rng = self.chance("plan", night=0)
        root = math.sqrt(scale)  # people and rooms grow slower than posts
        self.users = new_ids(rng, max(5, int(USERS * root)))
        self.channels = new_ids(rng, max(6, int(CHANNELS * root)))
        self.teams = new_ids(rng, TEAMS)
        self._user_weights = skewed(rng, len(self.users), 0.8)
        self._channel_weights = skewed(rng, len(self.channels), 0.9)
        share = scale * (GROWTH if night else 1)
        self.posts = max(50, int(POSTS * share))
        first = FIRST_DAY + datetime.timedelta(days=DAYS + night - 1 if night else 0)
        self.days = 1 if night else DAYS
        self.start = (first - EPOCH).days * DAY
        self.uploads = self._plan_uploads(self.chance("files"), FILES * share, FILE_BYTES * share)

    @property
    def end(self) -> int:
        return self.start + self.days * DAY

    def chance(self, purpose: str, night: int | None = None) -> random.Random:
        """A source of chance that gives the same on every machine."""
        return random.Random(
            f"{purpose} {self.seed} {self.scale:g} {self.night if night is None else night}"
        )

    def someone(self, rng: random.Random) -> str:
        """A user; some write much more than others."""
        return self.users[pick(rng, self._user_weights)]

    def somewhere(self, rng: random.Random) -> str:
        """A channel; some are much busier than others."""
        return self.channels[pick(rng, self._channel_weights)]

    def _plan_uploads(self, rng: random.Random, count: float, total: float) -> list[Upload]:
        """About `count` files with previews and thumbnails, of `total` bytes, by their time."""
        uploads = max(3, int(count / (1 + 2 * 0.333)))
        sizes = draw_sizes(rng, uploads, 0.96 * total)
        words, soft, pictures = Text(rng), 0, uploads // 3
        quota = 0.25 * sum(sizes)  # of bytes that compress
        planned = []
        for size in sizes:
            if soft < quota and rng.random() < 0.45 and soft + size < quota * 1.1:
                extension, soft = rng.choice(SOFT), soft + size
            elif pictures > 0 and size < 8 << 20:
                extension, pictures = rng.choice(PICTURES), pictures - 1
            else:
                extension = rng.choice(HARD)
            planned.append(self._plan_upload(rng, words, extension, size))
        return sorted(planned, key=lambda upload: upload.at)

    def _plan_upload(self, rng: random.Random, words: Text, extension: str, size: int) -> Upload:
        at = self.start + int(rng.random() * self.days * DAY)
        user, channel = self.someone(rng), self.somewhere(rng)
        identifier, post = new_ids(rng, 2)
        word = words.take(1)[0].split()[0]
        stem = f"{word}{rng.choice('_- ')}{rng.randrange(1, 9999)}"
        day = EPOCH + datetime.timedelta(milliseconds=at)
        folder = f"{day:%Y%m%d}/teams/noteam/channels/{channel}/users/{user}/{identifier}"
        name, seed = f"{stem}.{extension}", rng.getrandbits(60)
        return Upload(
            identifier, post, user, channel, at, extension, size, name, f"{folder}/{stem}", seed
        )


def draw_sizes(rng: random.Random, count: int, total: float) -> list[int]:
    """Lognormal sizes between SMALLEST and LARGEST whose sum is about `total`."""
    drawn = [rng.lognormvariate(0, 1.7) for _ in range(count)]
    low, high = 1e3, 1e9  # the factor that brings the clipped sum to the total
    for _ in range(60):
        middle = math.sqrt(low * high)
        reached = sum(min(LARGEST, max(SMALLEST, size * middle)) for size in drawn)
        low, high = (middle, high) if reached < total else (low, middle)
    return [int(min(LARGEST, max(SMALLEST, size * low))) for size in drawn]


def skewed(rng: random.Random, count: int, power: float) -> list[float]:
    """Cumulated weights 1/rank**power in a shuffled order."""
    weights = [1.0 / (rank + 1) ** power for rank in range(count)]
    rng.shuffle(weights)
    return list(itertools.accumulate(weights))


def pick(rng: random.Random, weights: Sequence[float]) -> int:
    """A place, by cumulated weights."""
    return bisect.bisect(weights, rng.random() * weights[-1])
