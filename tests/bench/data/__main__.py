"""Fills a lab's Mattermost with data of any size.

python3 -m tests.bench.data --scale 0.02 --database mattermost_production --home /var/opt/gitlab/mattermost

What one unit of scale is (--scale 1):
  database  1,850,000 posts with reactions, threads, members, sessions, about 1.5 GB on disk with
            Mattermost's btree and full text indexes
  files     6,000 files, about 2 GB: 75 % of the bytes do not compress (jpg, png, mp4, zip, pdf:
            random bytes behind the right magic number), 25 % do (txt, log, csv, json); lognormal
            sizes from 4 KB to 40 MB; every picture has its preview and its thumbnail; 20 MB of
            plugins beside them
Everything is counted in proportion, except that the plugins stay 20 MB from scale 0.25 on. Sizes
of single files do not shrink with the scale, so below 0.02 one large file can weigh a lot.

The same seed, scale and night give the same rows and bytes. --night 1, 2, 3 ... adds one percent
of new posts and files to what is there, and changes nothing else. The lab's Mattermost must have
made its tables, and be stopped.

Message text is made up. Not modelled: plugins' own tables, jobs and audits, files that posts
share, edited or deleted posts beyond a few percent.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.bench.data import rows, uploads
from tests.bench.data.plan import Plan


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--scale", type=float, required=True)
    parser.add_argument("--database", help="of Mattermost; without it no rows")
    parser.add_argument("--home", type=Path, help="of Mattermost; without it no files")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--night", type=int, default=0)
    chosen = parser.parse_args()
    plan = Plan(chosen.seed, chosen.scale, chosen.night)
    if chosen.database:
        rows.fill(chosen.database, plan)
    if chosen.home:
        uploads.fill(chosen.home, plan)


if __name__ == "__main__":
    main()
