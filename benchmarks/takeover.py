"""A person's answer at random instants while ours is being submitted: how many customers get two?

    python -m benchmarks.takeover --count 1000 --seed 1

On a real Dovecot and a real Redis; prints one line of JSON. ``doubled``: ours left although the person's mail
stood in Sent when the last look began. ``latest_ms``: how long at most a person's mail stood there before our
final dot and did not stop it any more.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

from tests.support.races import run, sharing
from tests.support.redis_server import RedisServer


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.takeover", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with RedisServer(Path(tempfile.mkdtemp(prefix="takeover-"))) as redis, sharing(redis.url) as bench:
        races = [run(bench, number, rng) for number in range(1, options.count + 1)]
    late = [race.before_dot_ms for race in races if race.ours_left and race.before_dot_ms > 0]
    result = {
        "instants": len(races),
        "stopped": sum(not race.ours_left for race in races),
        "doubled": sum(race.is_doubled for race in races),
        "latest_ms": round(max(late, default=0.0), 1),
    }
    print(json.dumps(result))
    return 1 if result["doubled"] else 0


if __name__ == "__main__":
    sys.exit(main())
