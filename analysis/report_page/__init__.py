"""The parts of the page that report.py writes: what a run holds (run), pictures and charts (draw), sections."""
