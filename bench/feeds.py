"""A podcast by replicas of the transcriber: how much sooner its episodes are heard.

    abhinaya bench feeds

Serves the demo call as so many episodes from this machine and runs the command a person would,
`abhinaya-stream --feed URL --newest N`, with each number of replicas. The time is from the start of
the first episode's stream to the end of the last one's.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from abhinaya.bench.demo import CALL
from abhinaya.bench.monitored import add_profile
from abhinaya.bench.report import Report, parser, publish, table
from abhinaya.bench.throughput import Done, flags_of, measure


class _Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a word."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def podcast(sound: Path, episodes: int) -> Iterator[str]:
    """Serve a recording as a podcast of so many episodes; return the address of its feed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        items = ""
        for number in range(episodes):
            (folder / f"{number}{sound.suffix}").symlink_to(sound.resolve())
            items += (
                f"<item><title>{number}</title><guid>{number}</guid>"
                f"<enclosure url='{number}{sound.suffix}' type='audio/ogg' length='0'/></item>"
            )
        text = f"<rss version='2.0'><channel><title>Bench</title>{items}</channel></rss>"
        (folder / "feed.xml").write_text(text)
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=name))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/feed.xml"
        finally:
            server.shutdown()
            server.server_close()


def hear(url: str, episodes: int, replicas: int, parallel: int, flags: Sequence[str]) -> Done:
    """Run the command on a feed of which nothing has been heard.

    Raises:
        ProcessError: it failed.

    """
    with tempfile.TemporaryDirectory() as records:
        own = ["--feed", url, "--newest", str(episodes), "--feed-state", records]
        own += ["--set", f"asr.replicas={replicas}", "--set", f"feeds.parallel={parallel}"]
        return measure([], [*flags, *own])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; exit with 1 if a segment became a gap."""
    made = parser("feeds", __doc__)
    made.add_argument("--episodes", type=int, default=5, help="(%(default)s)")
    made.add_argument("--parallel", type=int, default=2, help="at once (%(default)s)")
    made.add_argument("--replicas", type=int, nargs="+", default=[1, 2], help="to compare (1 2)")
    add_profile(made)
    options = made.parse_args(argv)
    with podcast(CALL, options.episodes) as url:
        runs = {
            replicas: hear(url, options.episodes, replicas, options.parallel, flags_of(options))
            for replicas in options.replicas
        }
    base = runs[options.replicas[0]].stream_s
    compared = table(
        f"{options.episodes} episodes, {options.parallel} at once",
        (
            "replicas of the transcriber",
            "seconds",
            "times as fast",
            "x real time",
            "gaps",
            "others",
        ),
        [
            (
                str(replicas),
                f"{run.stream_s:.1f}",
                f"{base / run.stream_s:.2f}",
                f"{run.times_real_time:.1f}",
                str(run.gaps),
                f"{run.others:.0%}",
            )
            for replicas, run in runs.items()
        ],
    )
    settings = {key: str(value) for key, value in vars(options).items()}
    publish(Report("feeds", settings, {"runs": runs}), [compared], options.json)
    return 1 if any(run.gaps for run in runs.values()) else 0
