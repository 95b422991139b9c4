"""How the suite is spread over two workers.

`make test` runs pytest with `--dist loadgroup --no-loadscope-reorder`: files with many tests begin,
each stays on one worker, so that what its tests share is made once, and the tests that start
processes form the last group. They run one after the other when nothing else does: they measure
time.
"""

from __future__ import annotations

from collections import Counter

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def file(item: pytest.Item) -> str:
        return item.nodeid.partition("::")[0]

    def runs_processes(item: pytest.Item) -> bool:
        return item.get_closest_marker("processes") is not None

    size = Counter(map(file, items))
    for item in items:
        item.add_marker(
            pytest.mark.xdist_group("processes" if runs_processes(item) else file(item))
        )
    items.sort(key=lambda item: (runs_processes(item), -size[file(item)]))
