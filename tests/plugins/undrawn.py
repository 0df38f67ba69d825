"""``-p undrawn``: a run without its pictures, which take longer than all else on `tiny`."""

from __future__ import annotations

from bench.report import figures

figures.draw_all = lambda *_: {}
