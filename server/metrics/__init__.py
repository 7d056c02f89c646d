"""Figures for Prometheus: counted in each worker as plain numbers, joined over all workers when somebody asks.

`Figures` is what requests are counted by; it is on the path of every one of them and costs a few microseconds.
`sources` adds what the rooms know themselves, the engine above all. `Siblings` asks the other workers for theirs, so
that a scrape says the same whichever worker answers it. `exposition` writes the text. `METRICS` names them all.

The client library's own mode for several processes was measured and left aside: each of its observations costs 4 µs,
a request has ten, and it knows neither custom collectors (the engine's figures) nor info metrics.
"""

from .exposition import exposition
from .figures import Figures
from .gathering import scrape, sources
from .siblings import Siblings
from .table import METRICS, Metric, metrics_page

__all__ = ["METRICS", "Figures", "Metric", "Siblings", "exposition", "metrics_page", "scrape", "sources"]
